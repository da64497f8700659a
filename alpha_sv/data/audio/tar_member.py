"""A file inside a tar, named by its place:
`/corpora/shards/shard-train-000012.tar:<offset>:<size>`, in bytes.

Such a path stands in a manifest where the path of a loose file would, and everything that reads
audio takes it. Tar archives are usually streamed from end to end. Read by offset instead, an
example is still a function of (seed, epoch, utterance): training on shards is bit for bit the
training on loose files, with the same order, resumed and split over processes in the same way, and
trials can name single members.

A tar is opened for each read rather than kept open: on a local disk that is one percent of the
time of an example, and nothing is then shared between threads or forked workers. A loose file is
looked up and opened twice.
"""

from __future__ import annotations

import io
import os
import re
from typing import BinaryIO, NamedTuple

_MEMBER = re.compile(r"(.+\.tar):(\d+):(\d+)", re.DOTALL)


class Member(NamedTuple):
    """`size` bytes from byte `offset` of a tar; `str` of it is its path.

    Example
    -------
    >>> str(Member("/corpora/a.tar", 512, 64044))
    '/corpora/a.tar:512:64044'
    """

    tar: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.offset}:{self.size}"


def parse_member(path: str | os.PathLike) -> Member | None:
    """The member that a path names; None for the path of a loose file.

    Example
    -------
    >>> parse_member("/corpora/a.tar:512:64044")
    Member(tar='/corpora/a.tar', offset=512, size=64044)
    >>> parse_member("/corpora/a.wav") is None
    True
    """
    found = _MEMBER.fullmatch(os.fspath(path))
    return Member(found[1], int(found[2]), int(found[3])) if found else None


def file_on_disk(path: str | os.PathLike) -> str:
    """The file that holds the bytes: the tar of a member, a loose file itself."""
    member = parse_member(path)
    return member.tar if member else os.fspath(path)


def open_bytes(path: str | os.PathLike) -> BinaryIO:
    """Open a loose file or a member of a tar for reading;
    both begin at 0 and end with their last byte."""
    member = parse_member(path)
    return _Window(member) if member else open(path, "rb")


class _Window(io.RawIOBase):
    """The bytes of a member as a file of their own; reading does not go beyond them."""

    def __init__(self, member: Member):
        super().__init__()
        self._file = open(member.tar, "rb", buffering=0)
        self._offset, self._size, self._position = member.offset, member.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        self._file.seek(self._offset + self._position)
        count = self._file.readinto(memoryview(buffer)[:count])
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
