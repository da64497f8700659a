"""Which audio files a speaker tree holds.

    <data folder>/<speaker>/[<session>/...]<utterance>.<wav|flac|ogg|opus>

The speaker is the first part of the path below the data folder, whatever the folders above it or below it are
called; the session is what lies between speaker and file. Files come sorted by their ID, never in the file
system's order. Links are followed; names that begin with a dot are not audio (macOS leaves `._name.wav`
beside `name.wav`).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.data.audio.read import AUDIO_EXTENSIONS

_LAYOUT = f"<data folder>/<speaker>/[<session>/...]<utterance>{{{','.join(AUDIO_EXTENSIONS)}}}"


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file of a tree, not opened yet; `size` in bytes and `mtime_ns` are -1 for a broken link."""

    utt_id: str
    path: str
    size: int
    mtime_ns: int

    @property
    def speaker(self) -> str:
        return sys.intern(self.utt_id.split("/", 1)[0])  # one string a speaker, however many files

    @property
    def session(self) -> str:
        return sys.intern("/".join(self.utt_id.split("/")[1:-1]))


def find_files(
    data_folders: Sequence[str | os.PathLike], extensions: Sequence[str] = AUDIO_EXTENSIONS
) -> list[AudioFile]:
    """All audio files of one or several pooled trees, sorted by ID.

    Parameters
    ----------
    data_folders : sequence of path-like
        Folders whose subfolders are the speakers. No speaker may be in two of them.
    extensions : sequence of str
        Lower case, with the dot; others are passed over.

    Raises
    ------
    ValueError
        A folder is missing, holds no audio or audio outside of speaker folders, seems to be one level too
        high or too deep, lies in another one, or shares a speaker with another one; a name cannot stand in a
        trial list.

    Example
    -------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("s1/x/a.wav", "s1/y/b.wav", "s2/x/a.wav"):
    ...     (root / name).parent.mkdir(parents=True, exist_ok=True)
    ...     (root / name).touch()
    >>> [(file.utt_id, file.speaker, file.session) for file in find_files([root])]
    [('s1/x/a.wav', 's1', 'x'), ('s1/y/b.wav', 's1', 'y'), ('s2/x/a.wav', 's2', 'x')]
    """
    if not data_folders:
        raise ValueError("no data folder given; give at least one folder of speaker folders")
    roots = [os.path.abspath(folder) for folder in data_folders]
    _check_apart(roots)
    trees = {root: _tree(root, extensions) for root in roots}
    _check_disjoint(trees)
    files = sorted((file for tree in trees.values() for file in tree), key=lambda file: file.utt_id)
    if max(Counter(file.speaker for file in files).values()) == 1:
        raise ValueError(
            f"{', '.join(roots)}: every one of the {len(files)} speakers has a single file ({_some(files)}), "
            f"so no two files have the same speaker; the folders may be a level too deep. Expected {_LAYOUT}"
        )
    return files


def fingerprint(files: Iterable[AudioFile]) -> str:
    """SHA-256 of where the files lie, their sizes and their times: another one where any file has changed."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(f"{file.path}\0{file.utt_id}\0{file.size}\0{file.mtime_ns}\n"))
    return digest.hexdigest()


def _tree(root: str, extensions: Sequence[str]) -> list[AudioFile]:
    if not os.path.isdir(root):
        raise ValueError(f"{root}: {'not a folder' if os.path.exists(root) else 'no such folder'}; give {_LAYOUT}")
    files: list[AudioFile] = []
    others: Counter[str] = Counter()
    for entry in _walk(root, ()):
        extension = os.path.splitext(entry.name)[1].lower()
        if extension not in extensions:
            others[extension] += 1
            continue
        relative = entry.path[len(root) :].lstrip(os.sep).replace(os.sep, "/")
        try:
            status = entry.stat()
        except FileNotFoundError:  # a broken link: a file that cannot be read, which is for the audit to say
            files.append(AudioFile(relative, entry.path, -1, -1))
        else:
            files.append(AudioFile(relative, entry.path, status.st_size, status.st_mtime_ns))
    if not files:
        seen = ", ".join(f"{count} {extension or 'without extension'}" for extension, count in others.most_common(3))
        raise ValueError(
            f"{root}: no audio ({' '.join(extensions)}) in it{f', but {seen} files' if seen else ''}; "
            f"expected {_LAYOUT} (convert .m4a and .mp3 first: ffmpeg -i IN.m4a -ar 16000 -ac 1 OUT.wav)"
        )
    files.sort(key=lambda file: file.utt_id)
    _check_layout(root, files)
    return files


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[os.DirEntry]:
    """Every file below a folder, links followed; ValueError for a link to a folder above itself."""
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above and here[1]:
        raise ValueError(f"{folder}: a link to a folder that contains it; remove the link")
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            yield from _walk(entry.path, (*above, here))
        else:
            yield entry


def _check_layout(root: str, files: list[AudioFile]) -> None:
    loose = [file for file in files if "/" not in file.utt_id]
    if loose:
        raise ValueError(
            f"{root}: {len(loose)} audio files without a speaker folder ({_some(loose)}); move them into "
            f"one, or give the folder above if {root} is itself a speaker. Expected {_LAYOUT}"
        )
    speakers = {file.speaker for file in files}
    if len(speakers) == 1:
        (speaker,) = speakers
        raise ValueError(
            f"{root}: a single 'speaker' {speaker!r} with {len(files)} files ({_some(files)}); give "
            f"{os.path.join(root, speaker)} if that is the folder of the speakers, or "
            f"{os.path.dirname(root)} if {root} is itself a speaker. Expected {_LAYOUT}"
        )
    unfit = [file for file in files if file.utt_id.split() != [file.utt_id] or not _is_unicode(file.utt_id)]
    if unfit:
        raise ValueError(
            f"{root}: {len(unfit)} names contain white space or are not Unicode ({_some(unfit)}); neither "
            "can stand in a trial list: rename them"
        )


def _check_apart(roots: list[str]) -> None:
    real = {root: Path(os.path.realpath(root)) for root in roots}
    for index, first in enumerate(roots):
        for second in roots[index + 1 :]:
            if real[first].is_relative_to(real[second]) or real[second].is_relative_to(real[first]):
                raise ValueError(
                    f"data folders {first} and {second} are one, or one lies in the other; give each file once"
                )


def _check_disjoint(trees: dict[str, list[AudioFile]]) -> None:
    roots_of: dict[str, list[str]] = defaultdict(list)
    for root, files in trees.items():
        for speaker in {file.speaker for file in files}:
            roots_of[speaker].append(root)
    shared = sorted(speaker for speaker, roots in roots_of.items() if len(roots) > 1)
    if shared:
        raise ValueError(
            f"{len(shared)} speakers are in two data folders (such as {', '.join(shared[:3])}, in "
            f"{' and '.join(roots_of[shared[0]])}), so their IDs would mix; rename the speaker folders of "
            "one (a prefix will do), or, if they are the same people, link both into one tree"
        )


def _is_unicode(name: str) -> bool:
    # undecodable bytes of a file name come as lone surrogates, which no UTF-8 file can hold
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _some(files: Sequence[AudioFile]) -> str:
    return ", ".join(ascii(file.utt_id) for file in files[:3]) + (", ..." if len(files) > 3 else "")
