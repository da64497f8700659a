"""The text of a list, whatever it came in: UTF-8,
UTF-16 or UTF-32, gzip or not, with any line ends, by blocks.

A list of ten million lines does not fit into memory as Python strings, so it is passed
on in blocks of whole lines, with "\\n" as the line end and without a byte-order mark.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO

from alpha_sv.files import InputError, reading

BLOCK = LONGEST_LINE = 1 << 24
_PACKED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet"}
_PACKED |= {b"\x1f\x8b": "gzip"}
_ELSE = {
    b"\x93numpy": "a numpy array",
    b"\x89hdf": "an HDF5 file",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"%pdf": "a PDF",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
    b"riff": "a recording",
    b"flac": "a recording",
    b"oggs": "a recording",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"version https://git-lfs": "a pointer of Git LFS ('git lfs pull' gets the list)",
}
_ELSE |= dict.fromkeys([b'{"', b"{\n", b"{\r", b"{ ", b'["', b"[[", b"[{", b"[\n", b"[\r"], "JSON")
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16"}  # in this order
_MARKS |= {codecs.BOM_UTF16_BE: "utf-16"}
_REMEDY = "give a plain text list"


class Text:
    """A source of text that can be read more than once:
    a path, or an open text stream, which is kept in memory.

    Raises
    ------
    InputError
        A text stream that is not UTF-8.

    Example
    -------
    >>> b"".join(Text(io.StringIO("1 a b\\r\\n0 a c")).blocks())
    b'1 a b\\n0 a c\\n'
    """

    def __init__(self, source: str | os.PathLike | TextIO):
        self._content: bytes | None = None
        if hasattr(source, "read"):
            self.path = str(getattr(source, "name", "<stream>"))
            with reading(self.path, _REMEDY):
                text = source.read()
                self._content = text.encode() if isinstance(text, str) else bytes(text)
        else:
            self.path = os.fspath(source)
            if Path(self.path).is_fifo():  # can be read once only
                with reading(self.path), open(self.path, "rb") as pipe:
                    self._content = pipe.read()

    def blocks(self, size: int = BLOCK) -> Iterator[bytes]:
        """Whole lines, about `size` bytes at a time; the last one has a line end too.

        Raises
        ------
        InputError
            Damaged, of another kind than text, or a line longer than 16 MiB.
        OSError
            Not there or not readable; it names the file.
        """
        rest, lines = b"", 0
        with reading(self.path, _REMEDY), self._plain() as file:
            while piece := file.read(size):
                rest += piece
                # "\r" at the very end may be half of "\r\n"
                cut = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, len(rest) - 1)) + 1
                block, rest = _unix(rest[:cut]), rest[cut:]
                if len(rest) > LONGEST_LINE:
                    raise InputError(
                        f"{self.path}:{lines + 1}: a line of more than {LONGEST_LINE >> 20} MiB; {_REMEDY}"
                    )
                lines += block.count(b"\n")
                if block:
                    yield block
            if rest:
                yield _unix(rest) if rest.endswith((b"\r", b"\n")) else rest + b"\n"

    @contextlib.contextmanager
    def _plain(self) -> Iterator[IO[bytes]]:
        """The bytes of UTF-8 text."""
        with contextlib.ExitStack() as stack:
            file = io.BytesIO(self._content) if self._content is not None else open(self.path, "rb")
            file = stack.enter_context(io.BufferedReader(file) if isinstance(file, io.FileIO) else file)
            if _start(file).startswith(b"\x1f\x8b"):
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            start = _start(file)
            if kind := next((kind for magic, kind in _PACKED.items() if start.startswith(magic)), None):
                raise InputError(f"{self.path}: not UTF-8 text but packed ({kind}); unpack it first")
            if kind := next((kind for magic, kind in _ELSE.items() if start.lower().startswith(magic)), None):
                raise InputError(f"{self.path}: no list but {kind}; {_REMEDY}")
            if start.startswith(codecs.BOM_UTF8):
                file.read(len(codecs.BOM_UTF8))
            elif encoding := _wide(start):
                file = _Recoded(self.path, io.TextIOWrapper(file, encoding=encoding, newline=""))
            yield file


def _wide(start: bytes) -> str | None:
    """UTF-16 or UTF-32, if it is that: by a byte-order mark,
    or by the zeros in every other byte of ASCII letters."""
    if encoding := next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None):
        return encoding
    for encoding, high in (("utf-16-be", 0), ("utf-16-le", 1)):
        if len(start) > 3 and not any(start[high::2]) and all(start[1 - high :: 2]):
            return encoding
    return None


class _Recoded:
    """Wide text as UTF-8."""

    def __init__(self, path: str, text: TextIO):
        self._path, self._text = path, text

    def read(self, size: int) -> bytes:
        try:
            return self._text.read(size // 2).encode()
        except UnicodeError as error:
            raise InputError(f"{self._path}: not UTF-8 text, and damaged as wide text ({error}); {_REMEDY}") from error


def _start(file: IO[bytes]) -> bytes:
    start = file.read(64)
    file.seek(0)
    return start


def _unix(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
