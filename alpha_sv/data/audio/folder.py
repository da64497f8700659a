"""All files below a folder, links followed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from alpha_sv.data.audio.read import AUDIO_EXTENSIONS


def walk(folder: str | os.PathLike, once: bool = False) -> Iterator[os.DirEntry]:
    """Every file, pipe, device and broken link below a folder; names that begin with a dot are passed over.

    Parameters
    ----------
    folder : path-like
    once : bool
        Each folder counts once, by whatever links it is reached. If False, it counts as often as it is reached, and a
        link to a folder above itself is an error.

    Raises
    ------
    ValueError
        A folder cannot be read, or contains itself.
    """
    return _walk(os.fspath(folder), (), set() if once else None)


def audio_files(folder: str | os.PathLike) -> list[str]:
    """Paths of the audio files below a folder, sorted; each folder counts once."""
    found = (entry for entry in walk(folder, once=True) if entry.name.lower().endswith(AUDIO_EXTENSIONS))
    return sorted(entry.path for entry in found)


def _walk(folder: str, above: tuple[tuple[int, int], ...], seen: set[tuple[int, int]] | None) -> Iterator[os.DirEntry]:
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}; mend the permissions of this folder, or move it away") from error
    if seen is None and here in above and here[1]:
        raise ValueError(f"{folder}: a link to a folder that contains it; remove the link")
    if seen is not None:
        if here in seen and here[1]:
            return
        seen.add(here)
    for entry in visible:
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, here), seen)
        else:
            yield entry


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
