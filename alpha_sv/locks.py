"""One writer at a time: the lock of a folder, and files and folders under a temporary name until they are whole.

The operating system's lock on an open file ends with its process, however that ends. So it tells the living from the
dead: whoever writes next takes over the folder, and removes the half-written files, of a process that was killed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from alpha_sv.inputs import InputError, parse_json

logger = logging.getLogger(__name__)
_locked: set[IO] = set()  # the lock files that this process holds
_swept: set[str] = set()  # the folders in which this process has looked for what others left
_LONG = 3600.0  # s that no writer takes for one file, where the file system has no locks

# what a file or folder of ours, and a conversion by ffmpeg, is called until it is whole
_PART = re.compile(r"\..+\.([a-z0-9_]{8}|\d+)\.part", re.DOTALL)
_SWEPT = re.compile(r"\..+\.[a-z0-9_]{8}\.part", re.DOTALL)


class FolderInUse(ValueError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Hold a folder alone while the block runs, so that two runs never write into it together.

    What killed processes have left half written in it goes. `<folder>/.lock` says who holds it: process, machine,
    start. The operating system's lock on that file ends with its process, however that ends, so a file left by a killed
    process is taken over, with a word in the log. Where the file system has no locks, a process of this machine that no
    longer runs is taken to be dead. With `wait`, for what takes seconds, another holder is waited for.

    Raises
    ------
    FolderInUse
        Another process holds it; the message says which.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with folder_lock(folder):
    ...     with folder_lock(folder):  # doctest: +ELLIPSIS
    ...         pass
    Traceback (most recent call last):
    ...
    alpha_sv.locks.FolderInUse: ... is in use by process ... on ... since ...; wait for it, or give another folder
    """
    path = Path(folder) / ".lock"
    made = wait or not path.parent.exists()  # who waits cannot tell: the holder may have made it
    removed = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+", encoding="utf-8")
        except FileNotFoundError:  # its last holder removed the folder just now; others may have made it again
            if (removed := removed + 1) > 100:
                raise
            continue
        try:
            locked = flock(file, wait)
            file.seek(0)
            holder = _holder(file.read())
            if locked is False or (locked is None and holder and _runs(holder)):
                who = "process {pid} on {host} since {start}".format(**holder) if holder else "a process just begun"
                raise FolderInUse(f"{folder} is in use by {who}; wait for it, or give another folder")
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break  # otherwise its last holder deleted the file just now: try again with the new one
        except BaseException:
            file.close()
            raise
        file.close()
    owner = os.getpid()
    _locked.add(file)  # a forked worker closes it: it must not keep the lock when this process ends
    with file:
        if holder:
            logger.warning(
                "%s: process %s on %s ended without a word; continuing", folder, holder["pid"], holder["host"]
            )
        file.truncate(0)
        start = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        json.dump({"pid": os.getpid(), "host": platform.node(), "start": start}, file)
        file.flush()
        clear_parts(folder)
        try:
            yield
        finally:
            _locked.discard(file)
            if os.getpid() == owner:
                path.unlink(missing_ok=True)
                if made:  # a command that was refused leaves nothing
                    with contextlib.suppress(OSError):
                        path.parent.rmdir()


def _leave_locks() -> None:
    while _locked:
        os.close(_locked.pop().fileno())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


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


def _holder(text: str) -> dict:
    try:
        return parse_json(text, "the lock", like={"pid": int, "host": str, "start": str})
    except InputError:  # killed before it wrote
        return {}


def _runs(holder: dict) -> bool:
    """Whether the holder may still run; of a process on another machine nobody here can tell."""
    if holder["host"] != platform.node():
        return True
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def new_part(path: Path) -> Iterator[tuple[int, str]]:
    """A new file, open for writing, that is to become `path`, and its name; nobody takes it for dead within the block.

    What killed processes have left in that folder goes.
    """
    _sweep(path.parent)
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        flock(handle, wait=True)
        if os.path.exists(name):
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
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent, again=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
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
    """Remove what killed processes have left in a folder, once in the life of this process, or `again`."""
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
    """Delete what killed processes have left half written in a folder and its subfolders; links are not followed.

    Parameters
    ----------
    folder : path-like
        Need not exist.
    older_than : float
        Seconds since a file was last written to; for files that other programs write, which hold no lock.

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
