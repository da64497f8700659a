"""Files: written whole or not at all, and made again only if their inputs have changed.

A file is written under a temporary name in its own folder, forced to disk and renamed: rename is
atomic on one file system, so after a crash, a full disk or an interrupt the old file is still
whole, or there is none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
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
    spelled,
)
from alpha_sv.locks import FolderInUse, folder_lock, in_turn  # noqa: F401
from alpha_sv.unfinished import clear_parts, new_part, whole_folder  # noqa: F401

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False).encode

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
        `path` is there and not a file: a folder,
        or a device such as /dev/null, which a rename would replace.
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
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    temporary = None
    try:
        with new_part(path) as (handle, temporary):
            with os.fdopen(handle, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        of_ours = isinstance(error, OSError) and (
            error.filename in (None, temporary)
            or temporary is None
            and os.path.dirname(error.filename) == os.fspath(path.parent)  # the temporary could not be made
        )
        if of_ours:
            error.filename, error.filename2 = os.fspath(path), None  # which file had no space left?
        raise


@contextlib.contextmanager
def libtorch_writes(path: str | os.PathLike | None = None) -> Iterator[None]:
    """Within, an error that libtorch's writer puts in
    place of a full disk or an interrupt is that again.

    Where it wrote to disk by itself, nothing stands behind its error:
    then it is an `OSError` of `path`, if known.
    """
    try:
        yield
    except RuntimeError as error:
        if "inline_container" not in str(error):
            raise
        behind = error.__context__
        while behind is not None and not isinstance(behind, (OSError, KeyboardInterrupt)):
            behind = behind.__context__
        if behind is None and path is not None:
            behind = OSError(errno.EIO, "could not be written, most likely for lack of space", os.fspath(path))
        if behind is None:
            raise
        raise behind from error


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
    """What tells cheaply that a file has changed:
    its bytes and its time in ns; None if it is not there."""
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
        Taken as canonical JSON. The parts of an iterator, JSON values or buffers of bytes,
        are taken one after the other, so that the key of a million rows needs no memory.

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
    # no two sequences of parts give the same bytes: JSON has no line break, a buffer has its length
    for part in inputs:
        if isinstance(part, (bytes, memoryview)):
            digest.update(b"%d bytes\n" % memoryview(part).nbytes)
            digest.update(part)
        else:
            digest.update(_canonical(part).encode() + b"\n")
    return digest.hexdigest()


def is_fresh(stamp: str | os.PathLike, key: str) -> bool:
    """Whether the outputs beside `stamp` were made from
    inputs with this key and have not changed since.

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
    """Write the stamp of `outputs`, names in its own folder;
    `facts` are kept beside them for the reader.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "list.txt").write_text("a b c")
    >>> write_stamp(folder / "done.json", input_key([1, 2]), ["list.txt"])
    >>> is_fresh(folder / "done.json", input_key([1, 2]))
    True
    >>> is_fresh(folder / "done.json", input_key([1, 3]))
    False
    >>> _ = (folder / "list.txt").write_text("a b")
    >>> is_fresh(folder / "done.json", input_key([1, 2]))
    False
    """
    stamp = Path(stamp)
    digests = {name: sha256_file(stamp.parent / name) for name in outputs}
    with atomic_write(stamp) as file:
        json.dump({"key": key, "outputs": digests, **facts}, file, indent=1)
        file.write("\n")
