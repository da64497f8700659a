"""One writer at a time: the lock of a folder.

It ends with its process, however that ends:
who comes next takes over the folder of a process that was killed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from alpha_sv.inputs import InputError, parse_json
from alpha_sv.unfinished import clear_parts, flock, in_made_folder, is_still

logger = logging.getLogger(__name__)
_locked: set[IO] = set()  # the lock files that this process holds


class FolderInUse(ValueError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Hold a folder alone while the block runs, so that two runs never write into it together.

    What killed processes have left half written in it goes. `<folder>/.lock` says who holds it:
    process, machine, start. The operating system's lock on that file ends with its process, however
    that ends, so a file left by a killed process is taken over, with a word in the log. Where the
    file system has no locks, a process of this machine that no longer runs is taken to be dead.
    With `wait`, for what takes seconds, another holder is waited for.

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
    alpha_sv.locks.FolderInUse: ... is in use by process ... on ... since ...; wait for it, ...
    """
    path = Path(folder) / ".lock"
    made = wait or not path.parent.exists()  # who waits cannot tell: the holder may have made it
    while True:
        file = in_made_folder(path.parent, lambda: open(path, "a+", encoding="utf-8"))
        try:
            locked = flock(file, wait)
            file.seek(0)
            holder = _holder(file.read())
            if locked is False or (locked is None and holder and _runs(holder)):
                who = "process {pid} on {host} since {start}".format(**holder) if holder else "a process just begun"
                raise FolderInUse(f"{folder} is in use by {who}; wait for it, or give another folder")
            if is_still(file.fileno(), path):
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


@contextlib.contextmanager
def in_turn(folder: str | os.PathLike) -> Iterator[None]:
    """Wait until no other process is within for this folder:
    two files that belong together come from one of them."""
    made = not os.path.exists(folder)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                handle = in_made_folder(folder, lambda: os.open(folder, os.O_RDONLY))
            except PermissionError:  # where a folder cannot be opened, as on Windows
                break
            stack.callback(os.close, handle)
            flock(handle, wait=True)
            if is_still(handle, folder):
                break  # otherwise its last holder removed it just now: wait for the new one
        try:
            yield
        finally:
            if made:  # what was refused leaves nothing
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def _leave_locks() -> None:
    while _locked:
        os.close(_locked.pop().fileno())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


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
