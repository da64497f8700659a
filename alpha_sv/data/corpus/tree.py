"""Which audio files a speaker tree holds.

    <data folder>/<speaker>/[<session>/...]<utterance>.<wav|flac|ogg|opus|mp3>

The speaker is the first part of the path below the data folder, whatever the folders above it or
below it are called; the session is what lies between speaker and file. Files come sorted by their
ID, never in the file system's order. Links are followed; names that begin with a dot are not audio
(macOS leaves `._name.wav` beside `name.wav`). IDs have the form of
`alpha_sv.data.corpus.name_form`: `s1/my file.wav` is `s1/my%20file.wav`.
"""

from __future__ import annotations

import logging
import os
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.data.audio.folder import walk
from alpha_sv.data.audio.read import AUDIO_EXTENSIONS
from alpha_sv.data.corpus.name_form import as_word, some
from alpha_sv.files import file_state

logger = logging.getLogger(__name__)
ABSENT = (-1, -1)  # the state of a broken link: a file that cannot be read, which is for the audit to say

_LAYOUT = f"<data folder>/<speaker>/[<session>/...]<utterance>{{{','.join(AUDIO_EXTENSIONS)}}}"
_NO_SPEAKER = set(
    "train training dev devel development test testing valid validation val eval evaluation enrol enroll enrollment "
    "cv holdout all data audio wav wavs aac flac m4a mp3 ogg opus speech clean other part split male female".split()
)


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
        A folder is missing, holds no audio or audio outside of speaker folders, a single
        speaker or a single file of each, lies in another one, or shares a speaker with another
        one; two files have one ID.

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
    roots = [os.path.abspath(os.path.expanduser(folder)) for folder in data_folders]
    _check_apart(roots)
    trees = {root: _tree(root, extensions) for root in roots}
    _check_disjoint(trees)
    files = sorted((file for tree in trees.values() for file in tree), key=lambda file: file.utt_id)
    if max(Counter(file.speaker for file in files).values()) == 1:
        raise ValueError(
            f"{', '.join(roots)}: every one of the {len(files)} speakers has a single file ({_ids(files)}), "
            f"so no two files have the same speaker; the folders may be a level too deep. Expected {_LAYOUT}"
        )
    return files


def _tree(root: str, extensions: Sequence[str]) -> list[AudioFile]:
    if not os.path.isdir(root):
        raise ValueError(f"{root}: {'not a folder' if os.path.exists(root) else 'no such folder'}; give {_LAYOUT}")
    files: list[AudioFile] = []
    others: Counter[str] = Counter()
    for entry in walk(root):
        extension = os.path.splitext(entry.name)[1].lower()
        if extension not in extensions:
            others[extension] += 1
            continue
        relative = entry.path[len(root) :].lstrip(os.sep).replace(os.sep, "/")
        files.append(AudioFile(as_word(relative), entry.path, *(file_state(entry.path) or ABSENT)))
    if not files:
        seen = ", ".join(f"{count} {extension or 'without extension'}" for extension, count in others.most_common(3))
        raise ValueError(
            f"{root}: no audio ({' '.join(extensions)}) in it{f', but {seen} files' if seen else ''}; "
            f"expected {_LAYOUT} (convert .m4a first: ffmpeg -i IN.m4a -ar 16000 -ac 1 OUT.wav)"
        )
    files.sort(key=lambda file: file.utt_id)
    _check_layout(root, files)
    return files


def _check_layout(root: str, files: list[AudioFile]) -> None:
    loose = [file for file in files if "/" not in file.utt_id]
    if loose:
        raise ValueError(
            f"{root}: {len(loose)} audio files without a speaker folder ({_ids(loose)}); move them into "
            f"one, or give the folder above if {root} is itself a speaker. Expected {_LAYOUT}"
        )
    speakers = {file.speaker for file in files}
    if len(speakers) == 1:
        (speaker,) = speakers
        raise ValueError(
            f"{root}: a single 'speaker' {speaker!r} with {len(files)} files ({_ids(files)}); give "
            f"{os.path.join(root, speaker)} if that is the folder of the speakers, or "
            f"{os.path.dirname(root)} if {root} is itself a speaker. Expected {_LAYOUT}"
        )
    for first, second in zip(files, files[1:], strict=False):
        if first.utt_id == second.utt_id:
            raise ValueError(
                f"{root}: {ascii(first.path)} and {ascii(second.path)} have one ID, {first.utt_id}, for names are "
                "compared in Unicode's form NFC and with white space as %20; rename one"
            )
    if len(speakers) <= 12 and (like_speakers := _folders_of_speakers(files)):
        logger.warning(
            "%s: its %d 'speakers' (%s) look like folders of speakers (such as %s), so that the people in each would "
            "be one speaker. If so, give these folders themselves, as several data folders: %s",
            *(root, len(speakers), some(sorted(speakers)), like_speakers),
            " ".join(os.path.join(root, speaker) for speaker in sorted(speakers)[:3]),
        )


def _folders_of_speakers(files: list[AudioFile]) -> str:
    """An example of what looks like a speaker one level below,
    or '' if the level of the speakers seems right.

    A few folders, with no file of their own, each of several folders, and a sign: all have the
    names of splits or of formats; or the folders in them hold folders of their own, whose names do
    not recur, as chapters (and not channels) do; or they hold many folders that are called alike,
    such as id00001 and id00002, and differ from one to the next.
    """
    below: dict[str, set[str]] = defaultdict(set)
    deeper: Counter[str] = Counter()  # names two levels below a speaker
    seen: set[tuple[str, ...]] = set()
    for file in files:
        parts = tuple(file.utt_id.split("/")[:-1])
        while len(parts) > 1 and _is_no_speaker(parts[1]):  # corpus/wav/speaker/...
            parts = (parts[0], *parts[2:])
        if len(parts) == 1:
            return ""
        below[parts[0]].add(parts[1])
        if parts[:3] not in seen:
            seen.add(parts[:3])
            deeper[parts[2] if len(parts) > 2 else ""] += 1
    sizes = [len(names) for names in below.values()]
    if statistics.median(sizes) < 2:
        return ""
    named = all(map(_is_no_speaker, below))
    many = statistics.median(sizes) >= 5 and min(sizes) > 1
    deep = many and "" not in deeper and len(deeper) > 0.5 * sum(deeper.values())
    shapes = {re.sub(r"\d", "0", name) for names in below.values() for name in names}
    numbered = len(shapes) == 1 and "0" in min(shapes) and len(set().union(*below.values())) == sum(sizes)
    if named or deep or (many and numbered and len(below) <= 5 and statistics.median(sizes) >= 10):
        top = min(below)
        return f"{top}/{min(below[top])}"
    return ""


def _is_no_speaker(name: str) -> bool:
    return re.split(r"[-_.\d]", name.lower())[0] in _NO_SPEAKER


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


def _ids(files: Sequence[AudioFile]) -> str:
    return some([file.utt_id for file in files])
