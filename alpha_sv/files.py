"""Files: written whole or not at all, and made again only if their inputs have changed.

A file is written under a temporary name in its own folder, forced to disk and renamed: rename is atomic on one file
system, so after a crash, a full disk or an interrupt the old file is still whole, or there is none.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import logging
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from alpha_sv.inputs import (  # noqa: F401  the door to files is here
    InputError,
    nfc,
    parse_json,
    read_json,
    read_npy,
    read_text,
    reading,
)

logger = logging.getLogger(__name__)
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False).encode
_locked: set[IO] = set()  # the lock files that this process holds

Paths = str | os.PathLike | Sequence[str | os.PathLike]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file that becomes `path` when the block ends without an exception.

    Parameters
    ----------
    path : path-like
        The final file; its folder is made if need be.
    mode : {"w", "wb"}
        Text (UTF-8, "\\n" line ends) or bytes.

    Raises
    ------
    ValueError
        `path` is there and not a file: a folder, or a device such as /dev/null, which a rename would replace.
    OSError
        As raised by the file system (a full disk, say). `path` then keeps its old content.

    Example
    -------
    >>> import tempfile, os
    >>> target = os.path.join(tempfile.mkdtemp(), "numbers.txt")
    >>> with atomic_write(target) as file:
    ...     _ = file.write("1 2 3")
    >>> open(target).read()
    '1 2 3'
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write: mode must be 'w' or 'wb', got {mode!r}")
    path = Path(os.path.realpath(path))  # a link stays one
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder or a device and cannot be written as a file; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # of a write: which file had no space left?
            error.filename = os.fspath(path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_file(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def as_list(paths: Paths) -> list[str]:
    """One path or several, as strings.

    >>> as_list("a"), as_list([Path("a"), "b"])
    (['a'], ['a', 'b'])
    """
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def file_state(path: str | os.PathLike) -> tuple[int, int] | None:
    """What tells cheaply that a file has changed: its bytes and its time in ns; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def input_key(inputs: object) -> str:
    """SHA-256 of what something is made from, to tell whether it must be made again.

    Parameters
    ----------
    inputs : JSON value (dicts, lists, strings, numbers), or iterator
        Taken as canonical JSON. The parts of an iterator, JSON values or buffers of bytes, are taken one after the
        other, so that the key of a million rows needs no memory.

    Example
    -------
    >>> input_key({"a": 1, "b": [2]}) == input_key({"b": [2], "a": 1})
    True
    >>> input_key(iter(["model", [1, 2]])) == input_key(row for row in ("model", (1, 2)))
    True
    """
    if not isinstance(inputs, Iterator):
        return hashlib.sha256(_canonical(inputs).encode()).hexdigest()
    digest = hashlib.sha256()
    for (
        part
    ) in inputs:  # no two sequences of parts give the same bytes: JSON has no line break, a buffer has its length
        if isinstance(part, (bytes, memoryview)):
            digest.update(b"%d bytes\n" % memoryview(part).nbytes)
            digest.update(part)
        else:
            digest.update(_canonical(part).encode() + b"\n")
    return digest.hexdigest()


def is_fresh(stamp: str | os.PathLike, key: str) -> bool:
    """Whether the outputs beside `stamp` were made from inputs with this key and have not changed since.

    A missing, unreadable or foreign stamp means no: the outputs are then made again.
    """
    stamp = Path(stamp)
    if not stamp.is_file():
        return False
    try:
        content = read_json(stamp, like={"key": str, "outputs": dict})
    except InputError:
        return False
    if content["key"] != key:
        return False
    outputs = {stamp.parent / name: digest for name, digest in content["outputs"].items()}
    return all(path.is_file() and sha256_file(path) == digest for path, digest in outputs.items())


def write_stamp(stamp: str | os.PathLike, key: str, outputs: Sequence[str], **facts) -> None:
    """Write the stamp of `outputs`, names in its own folder; `facts` are kept beside them for the reader.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "list.txt").write_text("a b c")
    >>> write_stamp(folder / "done.json", input_key([1, 2]), ["list.txt"])
    >>> is_fresh(folder / "done.json", input_key([1, 2])), is_fresh(folder / "done.json", input_key([1, 3]))
    (True, False)
    >>> _ = (folder / "list.txt").write_text("a b")
    >>> is_fresh(folder / "done.json", input_key([1, 2]))
    False
    """
    stamp = Path(stamp)
    digests = {name: sha256_file(stamp.parent / name) for name in outputs}
    with atomic_write(stamp) as file:
        json.dump({"key": key, "outputs": digests, **facts}, file, indent=1)
        file.write("\n")


class FolderInUse(ValueError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike) -> Iterator[None]:
    """Hold a folder alone while the block runs, so that two runs never write into it together.

    `<folder>/.lock` says who holds it: process, machine, start. The operating system's lock on that file ends with its
    process, however that ends, so a file left by a killed process is taken over, with a word in the log. Where the
    file system has no locks, a process of this machine that no longer runs is taken to be dead.

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
    alpha_sv.files.FolderInUse: ... is in use by process ... on ... since ...; wait for it, or give another folder
    """
    path = Path(folder) / ".lock"
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a+", encoding="utf-8")
        try:
            locked = _lock(file)
            file.seek(0)
            holder = _holder(file.read())
            if locked is False or (locked is None and holder and _runs(holder)):
                raise FolderInUse(
                    f"{folder} is in use by process {holder.get('pid')} on {holder.get('host')} since "
                    f"{holder.get('start')}; wait for it, or give another folder"
                )
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


def _lock(file: IO) -> bool | None:
    """Whether the system's lock is ours now; None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


# what atomic_write, and a conversion by ffmpeg, name a file until it is whole
_PART = re.compile(r"\..+\.([a-z0-9_]{8}|\d+)\.part", re.DOTALL)


def clear_parts(folder: str | os.PathLike, older_than: float = 0.0) -> list[str]:
    """Delete what killed processes have left half written in a folder and its subfolders; links are not followed.

    Only whoever holds the lock of the folder may call it, or with `older_than` beyond what any writer takes, for the
    file of a living writer looks the same.

    Parameters
    ----------
    folder : path-like
        Need not exist.
    older_than : float
        Seconds since a file was last written to.

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
    gone = []
    for where, _, names in os.walk(folder):
        for name in filter(_PART.fullmatch, names):
            path = os.path.join(where, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.lstat(path).st_mtime >= older_than:
                    os.unlink(path)
                    gone.append(path)
    return sorted(gone)
