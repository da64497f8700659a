"""What is read from elsewhere: whatever is wrong in a file,
the error is an `InputError` that names it.

Files that somebody else wrote may be cut, huge, nested a hundred thousand deep or of other types
than expected. They are read through `reading`, `read_text`, `read_json` and `read_npy`, so that no
parser's own exception reaches the user.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import tokenize
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class InputError(ValueError):
    """Something is wrong with a file that was given;
    the message names the file, the value and the remedy."""


@contextlib.contextmanager
def reading(
    path: str | os.PathLike,
    remedy: str = "give the file as it was written",
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Within, whatever a parser of text, CSV,
    JSON or gzip raises is an `InputError` that names `path`.

    An `OSError` without a file name, such as one of a read in the middle of a file, gets that of
    `path`. `also` are further exceptions that mean a damaged file, such as ValueError where
    `numpy.load` reads a header.

    Example
    -------
    >>> with reading("list.csv"):  # doctest: +ELLIPSIS
    ...     list(csv.reader(['a,"b'], strict=True))
    Traceback (most recent call last):
    alpha_sv.inputs.InputError: list.csv: damaged (unexpected end of data); give the file ...
    """
    try:
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {error.encoding.upper()} text ({error}); {remedy}") from error
    except (csv.Error, json.JSONDecodeError, UnicodeError, EOFError, zlib.error, OverflowError, *also) as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply; {remedy}") from error
    except OSError as error:
        if error.errno is None:  # of gzip
            raise InputError(f"{path}: damaged ({error}); {remedy}") from error
        error.filename = os.fspath(path) if error.filename is None else error.filename
        raise


def read_text(path: str | os.PathLike, most: int = 1 << 28) -> str:
    """A whole text file, UTF-8 with or without a byte-order mark.

    Raises
    ------
    InputError
        Not UTF-8, or larger than `most` bytes.
    OSError
        Not there, not readable; the error names the file.
    """
    with reading(path, "give a UTF-8 text file"), open(path, "rb") as file:
        content = file.read(most + 1)
        if len(content) > most:
            raise InputError(f"{path}: more than {most:,} bytes, which is no file of this kind; give the right one")
        return content.decode("utf-8-sig")


def read_json(
    path: str | os.PathLike, like: object = None, most: int = 1 << 28, depth: int = 64, finite: bool = True
) -> object:
    """A JSON file from elsewhere: bounded in size and depth,
    every number finite, its types checked.

    Parameters
    ----------
    like : pattern, optional
        See `check_types`.
    most : int
        Bytes.
    depth : int
        How deep lists may lie in lists; what is deeper could break whoever walks through it.
    finite : bool
        False where NaN, an infinity or a number of any size may stand,
        and the caller says which field must not.

    Raises
    ------
    InputError
        Damaged, too large, too deep, a number that no int64 or
        float64 holds, or not like `like`; the file is named.
    OSError
        As `read_text`.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "config.json")
    >>> with open(path, "w") as file:
    ...     _ = file.write('{"kind": "ecapa", "sizes": [512, 192]}')
    >>> read_json(path, like={"kind": str, "sizes": [int]})["sizes"]
    [512, 192]
    """
    return parse_json(read_text(path, most), path, like, depth, finite)


def parse_json(
    text: str | bytes, where: str | os.PathLike, like: object = None, depth: int = 64, finite: bool = True
) -> object:
    """As `read_json`, for text at hand, such as a line of a log; `where` names it in errors.

    >>> parse_json('{"loss": NaN}', "log.jsonl:3")
    Traceback (most recent call last):
    alpha_sv.inputs.InputError: log.jsonl:3: the number NaN is not finite; repair the file
    """

    def number(digits: str, least: float = float("inf")) -> float:
        if not abs(float(digits)) < least:
            what = "not finite" if least == float("inf") else "too large"
            raise InputError(f"{where}: the number {digits[:40]} is {what}; repair the file")
        return float(digits)

    def whole(digits: str) -> int:
        return int(digits) if number(digits, 2.0**63) else 0

    checks = {"parse_int": whole, "parse_float": number, "parse_constant": number} if finite else {}
    with reading(where, "make the file again", also=(ValueError,)):  # of int, for thousands of digits
        content = json.loads(text, **checks)
    level: list = [content]
    for _ in range(depth + 1):
        nodes = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, (dict, list))]
        level = list(itertools.chain.from_iterable(nodes))
    if level:
        raise InputError(f"{where}: nested more than {depth} deep; make the file again")
    try:
        check_types(content, like)
    except ValueError as error:
        raise InputError(f"{where}: {error}; make the file again") from None
    return content


def read_npy(path: str | os.PathLike, remedy: str = "make the file again", mode: str = "r") -> np.memmap:
    """An array of numpy's .npy, mapped from disk:
    what its header claims takes no memory, and nothing is unpickled.

    Parameters
    ----------
    mode : {"r", "r+"}
        Of `numpy.memmap`, which would lengthen a cut file that is opened for writing.

    Raises
    ------
    InputError
        It is no such file, or ends before its array does.
    OSError
        Not there, not readable; the error names the file.
    """
    import numpy as np

    # numpy evaluates the header as a Python literal,
    # and multiplies the shape as machine integers, which may wrap
    with reading(path, remedy, (ValueError, TypeError, SyntaxError, tokenize.TokenError, MemoryError)):
        with np.errstate(over="raise"):
            try:
                array = np.lib.format.open_memmap(path, mode="r")
                return array if mode == "r" else np.lib.format.open_memmap(path, mode=mode)
            except FloatingPointError:
                raise InputError(f"{path}: its shape is larger than any file; {remedy}") from None


def check_types(content: object, like: object, where: str = "") -> None:
    """Check parsed JSON against a pattern.

    A pattern is a type (`float` takes whole numbers too; True is no number), a tuple of patterns of
    which one fits, ``[pattern]`` for a list of such, a dict whose keys must be there (there may be
    more), or None for anything.

    Raises
    ------
    ValueError
        Says where the first misfit is.

    Example
    -------
    >>> check_types({"systems": 5}, {"systems": [dict]})
    Traceback (most recent call last):
    ValueError: systems must be a list, got 5
    """
    place = where or "the content"
    if isinstance(like, dict):
        check_types(content, dict, where)
        for key, inner in like.items():
            if key not in content:
                raise ValueError(f"{place} has no {key!r}")
            check_types(content[key], inner, f"{where}.{key}".lstrip("."))
    elif isinstance(like, list):
        check_types(content, list, where)
        for number, item in enumerate(content):
            check_types(item, like[0], f"{place}[{number}]")
    elif like is not None:
        types = tuple(like) if isinstance(like, tuple) else (like,)
        plain = {type(None) if item is None else item for item in types if item is None or isinstance(item, type)}
        plain |= {int} if float in plain else set()
        if type(content) in plain:
            return
        for inner in (item for item in types if isinstance(item, (dict, list))):
            with contextlib.suppress(ValueError):
                return check_types(content, inner, where)
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}
        names |= {bool: "true or false", type(None): "null"}
        wanted = " or ".join(names.get(item, "null" if item is None else "an object or a list") for item in types)
        raise ValueError(f"{place} must be {wanted}, got {repr(content)[:60]}")


def nfc(name: str) -> str:
    """The form in which names are compared:
    an accent is one character, however it was typed or copied (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def spelled(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Names as `known` has them: what differs in its Unicode form only is one name.

    >>> spelled(["Jose\u0301", "Ann", "Bob"], {"Jos\u00e9", "Ann"}) == [
    ...     "Jos\u00e9",
    ...     "Ann",
    ...     "Bob",
    ... ]
    True
    """
    names, known = list(names), known if isinstance(known, Set | Mapping) else set(known)
    if all(name in known for name in names):
        return names
    forms = {nfc(name): name for name in known}
    return [name if name in known else forms.get(nfc(name), name) for name in names]
