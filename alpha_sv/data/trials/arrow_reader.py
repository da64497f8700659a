"""The fast reader: a list by blocks, as columns of Arrow.

It knows the beginning of the file from the line reader and reads the rest on the promise that it
goes on like that. Where it does not, `Unreadable` hands the file over to the line reader, which has
the last word: the fast reader must never accept what that one refuses, nor give another value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from alpha_sv.data.trials.layouts import Layouts, Roles, fitting, is_number, label_values, look_like_labels
from alpha_sv.data.trials.line_reader import LARGEST, TextTable
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.text import BLOCK, Text
from alpha_sv.files import InputError

_NAME = pa.dictionary(pa.int32(), pa.string())


class Unreadable(Exception):
    """The plain reader has to look at this file."""


def read_columns(text: Text, layouts: Layouts, layout: str | None, head: int = 1 << 16, block: int = BLOCK) -> dict:
    """The columns of a list by name, as `TextTable.arrays`, with `Names` for strings.

    Of `head` bytes it is judged what the file is, and `block` bytes are read at a time.

    Raises
    ------
    Unreadable
        Anything is unusual.
    """
    with contextlib.closing(text.blocks(head)) as blocks:
        start = next(blocks, b"")
    try:
        begun = TextTable.read(text.path, [start[: head + 1].rpartition(b"\n")[0] + b"\n"])
    except InputError:
        raise Unreadable from None
    if layout and (begun.header or layout not in layouts):
        raise Unreadable
    if begun.header:
        candidates, sure = [begun.header], None
    elif layout:
        candidates, sure = [layouts[layout]], None
    else:
        found, sure = fitting(begun.columns, layouts, part=True)
        candidates = list(found.values())
    if any(len(roles) != len(begun.columns) for roles in candidates):
        raise Unreadable
    results = []
    for roles in candidates:
        try:
            results.append((roles, _read(text.blocks(block), begun, roles, sure)))
        except Unreadable:
            continue
    if len(results) != 1:
        raise Unreadable
    [(roles, columns)] = results
    if not (begun.header or layout) and _doubtful(columns):
        raise Unreadable
    return columns


def _doubtful(columns: dict) -> bool:
    """Whether these may be other columns than they seem:
    whatever `plain.doubtful` doubts, and maybe more."""
    scores, labelled = columns.get("scores"), "labels" in columns
    if columns["enroll"].take(slice(1)).array[0].count("*") == 1:
        return True
    if scores is not None and not labelled and np.isin(scores, (0, 1)).all():
        return True
    for side in () if labelled else (columns["enroll"], columns["test"]):
        used = np.flatnonzero(np.bincount(side.codes))
        if len(used) <= 8 or scores is None:
            names = side.table.take(pa.array(used)).to_pylist()
            if all(map(is_number, names)) or look_like_labels(names):
                return True
    return False


def _read(blocks: Iterable[bytes], begun: TextTable, roles: Roles, sure: bool | None) -> dict:
    kinds = {role: pa.string() if role == "score" else _NAME for role in roles}
    parse = csv.ParseOptions(delimiter=begun.mark or " ", quote_char=False, double_quote=False, escape_char=False)
    convert = csv.ConvertOptions(column_types=kinds)
    chunks: dict[str, list] = {role: [] for role in roles}
    skip = bool(begun.header)
    # labels and scores may be the two parts of numbers with a decimal comma
    halves = begun.mark == "," and not skip and roles[2:] == ("label", "score")
    for block in blocks:
        lines = _canonical(block, begun.mark)
        if skip:
            skip, lines = False, lines.lstrip(b"\n").partition(b"\n")[2]
        if not lines.strip(b"\n"):
            continue
        # one thread: two cores would save a second of 4 million
        # lines and make the memory depend on the machine
        options = csv.ReadOptions(column_names=list(roles), use_threads=False, block_size=max(len(lines), 1 << 20))
        try:
            table = csv.read_csv(pa.BufferReader(lines), options, parse, convert)
            for role in roles:
                column = table.column(role)
                if role == roles[0] and _any_starts_with(column, "#"):
                    raise Unreadable  # a comment
                if role == "score":
                    if halves and not pc.any(pc.match_substring(column, ".")).as_py():
                        raise Unreadable
                    numbers = pc.cast(column, pa.float64()).to_numpy()
                    if not (np.abs(numbers) <= LARGEST).all():  # nor is NaN
                        raise Unreadable
                    chunks[role].append(numbers)
                else:
                    chunks[role] += column.chunks
                    if role == "label" and any(len(chunk.dictionary) > 8 for chunk in column.chunks):
                        raise Unreadable
        except pa.ArrowMemoryError:
            raise  # the line reader would need more
        except pa.ArrowException:
            raise Unreadable from None
    if not chunks["enroll"]:
        raise Unreadable
    return _columns(chunks, sure)


def _any_starts_with(column: pa.ChunkedArray, mark: str) -> bool:
    """Asked of distinct names, which are fewer than the rows."""
    texts = [chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk for chunk in column.chunks]
    return any(pc.any(pc.starts_with(some, mark)).as_py() for some in texts)


def _columns(chunks: dict[str, list], sure: bool | None) -> dict:
    length = sum(map(len, chunks["enroll"]))
    names = Names.from_chunks(chunks.pop("enroll") + chunks.pop("test"))
    columns: dict = dict(zip(("enroll", "test"), names.split(length, length), strict=True))
    if "label" in chunks:
        labels = Names.from_chunks(chunks.pop("label"))
        words = labels.table.to_pylist()
        means = None if sure is False else label_values(words, True)
        means = label_values(words, False) if means is None and sure is not True else means
        if means is None:
            raise Unreadable
        columns["labels"] = np.array([means[word] for word in words], dtype=bool)[labels.codes]
    if "score" in chunks:
        columns["scores"] = np.concatenate(chunks.pop("score"))
    columns["conditions"] = {name: Names.from_chunks(some) for name, some in chunks.items()}
    if any(column.unfit() is not None for column in (names, *columns["conditions"].values())):
        raise Unreadable
    return columns


def _canonical(block: bytes, mark: str | None) -> bytes:
    """The lines with exactly one separator between two fields."""
    if mark is not None:
        if b" " in block or b"\t" in block or b'"' in block:
            raise Unreadable  # what is to be stripped, unquoted or refused
        return block
    if b"\t" in block:
        block = block.replace(b"\t", b" ")
    blank = np.frombuffer(block, np.uint8) <= 32
    if (blank[1:] & blank[:-1]).any():  # five times as fast as to look for the three pairs
        for pair, one in ((b"  ", b" "), (b" \n", b"\n"), (b"\n ", b"\n")):
            while pair in block:
                block = block.replace(pair, one)
    return block.lstrip(b" ")
