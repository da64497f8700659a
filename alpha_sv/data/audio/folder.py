"""All files below a folder, links followed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from alpha_sv.data.audio.read import AUDIO_EXTENSIONS

_MOST_VISITS = 100  # of one linked folder: 30 folders with two links each to the next are 2^30 ways


def walk(folder: str | os.PathLike, once: bool = False) -> Iterator[os.DirEntry]:
    """Every file, pipe, device and broken link below a folder;
    names that begin with a dot are passed over.

    Parameters
    ----------
    folder : path-like
    once : bool
        Each folder counts once, by whatever links it is reached. If False,
        it counts as often as it is reached, and a link to a folder above itself is an error.

    Raises
    ------
    ValueError
        A folder cannot be read, contains itself, or is reached by more than 100 links.
    """
    return _walk(os.fspath(folder), (), Counter(), once, False)


def audio_files(folder: str | os.PathLike) -> list[str]:
    """Paths of the audio files below a folder, sorted part by part; each folder counts once."""
    found = (entry for entry in walk(folder, once=True) if entry.name.lower().endswith(AUDIO_EXTENSIONS))
    return sorted((entry.path for entry in found), key=lambda path: path.split(os.sep))


def _walk(folder: str, above: tuple, visits: Counter, once: bool, linked: bool) -> Iterator[os.DirEntry]:
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}; mend the permissions of this folder, or move it away") from error
    if once or linked:
        visits[here] += bool(here[1])  # a system without inode numbers has 0
    if once and visits[here] > 1:
        return
    if here in above and here[1]:
        raise ValueError(f"{folder}: a link to a folder that contains it; remove the link")
    if visits[here] > _MOST_VISITS:
        raise ValueError(f"{folder}: reached by more than {_MOST_VISITS} links; remove some")
    for entry in visible:
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, here), visits, once, entry.is_symlink())
        else:
            yield entry


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
