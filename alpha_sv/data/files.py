"""Writing files so that no reader ever sees half of one.

A file is written under a temporary name in its own folder, forced to disk and renamed: rename is atomic on one file
system, so after a crash, a full disk or an interrupt the old file is still whole, or there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
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
