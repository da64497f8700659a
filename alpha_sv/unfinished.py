"""Files and folders under a temporary name until they are whole, locked while their writer lives.

The operating system's lock on an open file ends with its process, however that ends. So it tells
the living from the dead: whoever writes next removes what a killed process has left half written.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")
_swept: set[str] = set()  # the folders in which this process has looked for what others left
_LONG = 3600.0  # s that no writer takes for one file, where the file system has no locks

# what a file or folder of ours, and a conversion by ffmpeg, is called until it is whole
_PART = re.compile(r"\..+\.([a-z0-9_]{8}|\d+)\.part", re.DOTALL)
_SWEPT = re.compile(r"\..+\.[a-z0-9_]{8}\.part", re.DOTALL)


def flock(file: IO | int, wait: bool = False) -> bool | None:
    """Whether the system's lock is ours now; None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows; a network file system without locks
        return None
    return True


def in_made_folder(folder: str | os.PathLike, act: Callable[[], T]) -> T:
    """What `act` returns, done in a folder that is made if need be,
    also while others make and remove it.

    Who made a folder and left nothing in it removes it again, so it may go between any two looks.
    `os.makedirs` itself looks twice: a folder that was there at the first look and gone at the
    second is a FileExistsError.

    Example
    -------
    >>> folder = os.path.join(tempfile.mkdtemp(), "new", "newer")
    >>> in_made_folder(folder, lambda: os.listdir(folder))
    []
    """
    attempts = 1000
    while True:
        attempts -= 1
        try:
            os.makedirs(folder, exist_ok=True)
            return act()
        except (FileExistsError, FileNotFoundError):
            if not attempts:
                raise


def is_still(handle: int, path: str | os.PathLike) -> bool:
    """Whether an open file or folder is the one that is now called `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def new_part(path: Path) -> Iterator[tuple[int, str]]:
    """A new file, open for writing, that is to become `path`,
    and its name; nobody takes it for dead within the block.

    The folder is made if need be. What killed processes have left in that folder goes.
    """
    _sweep(path.parent)
    while True:
        handle, name = in_made_folder(
            path.parent, lambda: tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        )
        flock(handle, wait=True)
        if is_still(handle, name):
            break
        os.close(handle)  # somebody swept it before it was locked
    held = os.dup(handle) if os.name == "posix" else None  # has the lock also when the file has been closed
    try:
        yield handle, name
    finally:
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Within, a folder to fill, which becomes `path` when the block ends without an exception.

    Raises
    ------
    ValueError
        `path` is there, and no empty folder.

    Example
    -------
    >>> folder = os.path.join(tempfile.mkdtemp(), "exported")
    >>> with whole_folder(folder) as part:
    ...     _ = (part / "model.onnx").write_bytes(b"...")
    ...     os.path.exists(folder)
    False
    >>> os.listdir(folder)
    ['model.onnx']
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    taken = ValueError(f"{path} is there already; give the name of a new folder")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise taken
    _sweep(target.parent, again=True)
    part = in_made_folder(
        target.parent, lambda: Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    )
    handle = None
    try:
        with contextlib.suppress(OSError):  # where a folder cannot be opened, as on Windows
            handle = os.open(part, os.O_RDONLY)
            flock(handle, wait=True)
        yield part
        part.chmod(0o755)
        try:
            if target.exists():
                target.rmdir()
            os.replace(part, target)
        except OSError as error:
            raise (taken if target.exists() else error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _sweep(folder: Path, again: bool = False) -> None:
    """Remove what killed processes have left in a folder,
    once in the life of this process, or `again`."""
    name = os.path.realpath(folder)
    if name in _swept and not again:
        return
    _swept.add(name)
    with contextlib.suppress(OSError), os.scandir(name) as entries:
        for entry in entries:
            if _SWEPT.fullmatch(entry.name):
                _remove_dead(entry.path)


def _remove_dead(path: str, older_than: float = 0.0) -> bool:
    """Remove a part, unless the process that writes it lives, or may live."""
    handle = None
    try:
        if time.time() - os.lstat(path).st_mtime < older_than:
            return False
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        mine = flock(handle)
        if mine is False or (mine is None and time.time() - os.lstat(path).st_mtime < _LONG):
            return False
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        return True
    except OSError:  # gone already, or not ours to remove
        return False
    finally:
        if handle is not None:
            os.close(handle)


def clear_parts(folder: str | os.PathLike, older_than: float = 0.0) -> list[str]:
    """Delete what killed processes have left half written
    in a folder and its subfolders; links are not followed.

    Parameters
    ----------
    folder : path-like
        Need not exist.
    older_than : float
        Seconds since a file was last written to;
        for files that other programs write, which hold no lock.

    Returns
    -------
    list of str
        The paths that are gone, sorted.

    Example
    -------
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in (".manifest.csv.x1y2z3a4.part", ".hidden", "song.part"):
    ...     (folder / name).touch()
    >>> [os.path.basename(path) for path in clear_parts(folder)]
    ['.manifest.csv.x1y2z3a4.part']
    """
    paths = (
        os.path.join(where, name) for where, _, names in os.walk(folder) for name in names if _PART.fullmatch(name)
    )
    return sorted(path for path in list(paths) if _remove_dead(path, older_than))
