"""Where the speakers of VoxCeleb lie below the folder that somebody unpacked it into.

    voxceleb1/wav/id10001        voxceleb1/{dev,test}/wav/id10001   vox1_{dev,test}_wav/wav/id10001
    voxceleb2/dev/aac/id00012    voxceleb2/dev/wav/id00012 (converted)

or the folder of the speakers itself.

Any folder at most three levels down that holds speaker folders is one.
The IDs tell the corpora apart: VoxCeleb1 has id10001 to id11251, VoxCeleb2 id00012 to id09272.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.data.audio.read import AUDIO_EXTENSIONS
from alpha_sv.data.corpus.tree import find_files

_SPEAKER = re.compile(r"id\d{5}")
_DEPTH = 3


@dataclass(frozen=True)
class Corpus:
    """One of the two corpora: its name, how its speaker IDs begin,
    how many speakers it has (VoxCeleb2: dev)."""

    name: str
    prefix: str
    num_speakers: int


VOXCELEB1 = Corpus("VoxCeleb1", "id1", 1251)
VOXCELEB2 = Corpus("VoxCeleb2", "id0", 5994)


def speaker_folders(root: str | os.PathLike, corpus: Corpus) -> dict[Path, list[str]]:
    """The folders that hold speaker folders → their speakers,
    sorted; VoxCeleb2's test half is passed over.

    Raises
    ------
    ValueError
        The root is missing, holds no speakers, is VoxCeleb2's
        test half or has it mixed in, or holds the other corpus.

    Example
    -------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "dev/wav/id10001").mkdir(parents=True)
    >>> [
    ...     (folder.name, speakers)
    ...     for folder, speakers in speaker_folders(root, VOXCELEB1).items()
    ... ]
    [('wav', ['id10001'])]
    """
    root = Path(os.path.abspath(os.path.expanduser(root)))
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give the folder that {corpus.name} was unpacked into")
    found = _search(root, _DEPTH)
    if corpus is VOXCELEB2:
        tests = [folder for folder in found if _is_test(folder, root)]
        found = {folder: speakers for folder, speakers in found.items() if folder not in tests}
        if tests and not found:
            raise ValueError(f"{tests[0]}: the test half of VoxCeleb2, which does not train; give the dev half")
    if not found:
        raise ValueError(
            f"{root}: no folder of {corpus.name} speakers ({corpus.prefix}0001 and the like) in it or at most {_DEPTH} "
            "levels down; give the folder that it was unpacked into, or the one that holds the speakers"
        )
    speakers = set().union(*found.values())
    others = sorted(speaker for speaker in speakers if not speaker.startswith(corpus.prefix))
    if others:
        raise ValueError(
            f"{root}: given as {corpus.name}, but {len(others)} of its {len(speakers)} speakers are of the other "
            f"corpus (such as {others[0]}: VoxCeleb1 has id10001 to id11251, VoxCeleb2 id00012 to id09272); give each "
            "corpus its own folder"
        )
    if len(speakers) > corpus.num_speakers:
        raise ValueError(
            f"{root}: {len(speakers)} speakers where {corpus.name} has {corpus.num_speakers}"
            f"{' in dev: its test half seems to be mixed in' if corpus is VOXCELEB2 else ''}; keep them apart"
        )
    return found


def unconverted(folders: dict[Path, list[str]]) -> Path | None:
    """The one of VoxCeleb2's folders whose m4a files are
    to be converted, or None if wav or flac files are there.

    A folder with both is taken for converted in place, and must be so wholly.

    Raises
    ------
    ValueError
        Several folders hold m4a files, or a conversion in place is not complete.
    """
    kinds = {folder: _kinds(folder, speakers) for folder, speakers in folders.items()}
    sources = [folder for folder, kind in kinds.items() if ".m4a" in kind]
    if len(sources) > 1:
        raise ValueError(f"several folders hold m4a files ({', '.join(map(str, sources))}); give the one to be used")
    if not sources or not kinds[sources[0]] & set(AUDIO_EXTENSIONS):
        return sources[0] if sources else None
    converted = {os.path.splitext(file.utt_id)[0] for file in find_files(sources)}
    names = [file.utt_id for file in find_files(sources, (".m4a",))]
    missing = [name for name in names if os.path.splitext(name)[0] not in converted]
    if missing:
        raise ValueError(
            f"{sources[0]}: {len(missing)} of its {len(names)} m4a files have no wav or flac beside them (such as "
            f"{missing[0]}): finish that conversion, or move what is converted elsewhere to have it made anew"
        )
    return None


def _search(folder: Path, depth: int) -> dict[Path, list[str]]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    speakers = [name for name in names if _SPEAKER.fullmatch(name)]
    if speakers or depth == 0:
        return {folder: speakers} if speakers else {}
    return {key: value for name in names for key, value in _search(folder / name, depth - 1).items()}


def _is_test(folder: Path, root: Path) -> bool:
    # the parts below the root, and the last two should the root itself be deep
    parts = {*folder.relative_to(root).parts, *folder.parts[-2:]}
    return any(part == "test" or part.startswith("vox2_test") for part in parts)


def _kinds(folder: Path, speakers: list[str]) -> set[str]:
    """Extensions in the first session of the first speaker that has one."""
    for speaker in speakers:
        for _, _, names in sorted(os.walk(folder / speaker, followlinks=True)):
            if kinds := {os.path.splitext(name)[1].lower() for name in names if not name.startswith(".")}:
                return kinds
    return set()
