"""`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`:
the pairs of insightface, which are pickles, read without unpickling.

Such a file is the tuple (images, labels): a list of 2n image files as bytes, and a list of n
booleans that say whether images 2i and 2i + 1 show one person. A pickle is a program for a small
machine with a stack. Only the instructions that such a file needs are known here; they make lists,
tuples, bytes and booleans, and any other one is refused.
"""

from __future__ import annotations

import os
import pickletools
from pathlib import Path

import numpy as np

MAX_BYTES = 2 << 30
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"}  # the last two from Python 2
_MARK = object()


def read_pairs(path: str | os.PathLike) -> tuple[list[bytes], np.ndarray]:
    """Image files [2n] and labels bool [n] of a `.bin`; images 2i and 2i + 1 are pair i.

    Raises
    ------
    ValueError
        The file is larger than 2 GiB, or anything but a
        list of bytes and a list of half as many booleans.
    """
    if (size := Path(path).stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path} has {size} bytes; files of pairs have less than {MAX_BYTES}")
    try:
        content = _run(Path(path).read_bytes())
    except (ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is not a file of pairs (a list of images and a list of booleans): {error}") from error
    if not (isinstance(content, (tuple, list)) and len(content) == 2 and all(type(part) is list for part in content)):
        raise ValueError(f"{path} is not a file of pairs: it must be two lists")
    images, labels = content
    if not (all(type(image) is bytes for image in images) and all(type(label) is bool for label in labels)):
        raise ValueError(f"{path} is not a file of pairs: images must be bytes and labels booleans")
    if not labels or len(images) != 2 * len(labels):
        raise ValueError(f"{path} has {len(images)} images for {len(labels)} pairs; two each are needed")
    return images, np.array(labels)


def _run(data: bytes) -> object:
    """What the pickle makes, from the allowed instructions."""
    stack: list = []
    memo: dict[int, object] = {}
    for instruction, argument, position in pickletools.genops(data):
        name = instruction.name
        if name in _BYTES:
            stack.append(argument.encode("latin-1") if isinstance(argument, str) else bytes(argument))
        elif name in ("NEWTRUE", "NEWFALSE"):
            stack.append(name == "NEWTRUE")
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "APPEND":
            item = stack.pop()
            _list(stack).append(item)
        elif name == "APPENDS":
            items = _from_mark(stack)
            _list(stack).extend(items)
        elif name == "TUPLE2":
            stack[-2:] = [(stack[-2], stack[-1])]
        elif name == "TUPLE":
            items = _from_mark(stack)
            stack.append(tuple(items))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name} at byte {position} makes something else, and is not run")
    raise ValueError("it has no end")


def _list(stack: list) -> list:
    if type(stack[-1]) is not list:
        raise ValueError("something is added to what is not a list")
    return stack[-1]


def _from_mark(stack: list) -> list:
    items: list = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]
