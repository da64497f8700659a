"""A column of names: each distinct name once, and its number for every row.

Ten million trials name some ten thousand utterances. As numbers of 4 bytes and one table of names,
a column takes the memory of its rows and of its names, never of rows times the longest name. Names
are equal if they are in one Unicode form (NFC), and are given back as they were read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alpha_sv.data.trials.layouts import FOREIGN_TO_NAMES, LONGEST_NAME
from alpha_sv.files import nfc

_ROWS = 1 << 20


class Names:
    """N names: `codes` [N], int32, into `table`, an Arrow array of distinct strings.

    Example
    -------
    >>> names = Names.of(["b", "a", "b"])
    >>> names.codes.tolist(), names.table.to_pylist(), names.array.tolist()
    ([0, 1, 0], ['b', 'a'], ['b', 'a', 'b'])
    """

    def __init__(self, codes: np.ndarray, table: pa.Array):
        self.codes, self.table = codes, table

    @classmethod
    def of(cls, *columns: Names | Sequence[str] | np.ndarray) -> Names:
        """The names of one column, or of several on end.

        Raises
        ------
        ValueError
            Not a flat column of text.
        """
        if len(columns) == 1 and isinstance(columns[0], Names):
            return columns[0]
        if all(isinstance(column, Names) and column.table is columns[0].table for column in columns):
            return cls(np.concatenate([column.codes for column in columns]), columns[0].table)
        return cls.from_chunks([chunk for column in columns for chunk in _chunks(column)])

    @classmethod
    def from_chunks(cls, chunks: Sequence[pa.DictionaryArray]) -> Names:
        """Chunks of one column, or of several on end, each with a dictionary of its own."""
        wide = [pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(pa.large_string())) for c in chunks]
        if not wide:
            return cls(np.empty(0, dtype=np.int32), pa.array([], pa.large_string()))
        united = pa.chunked_array(wide).unify_dictionaries()
        codes = np.concatenate([chunk.indices.to_numpy().astype(np.int32, copy=False) for chunk in united.chunks])
        return cls(codes, united.chunk(united.num_chunks - 1).dictionary)

    def __len__(self) -> int:
        return len(self.codes)

    def split(self, *lengths: int) -> list[Names]:
        """What `of` put on end, apart again."""
        parts = np.split(self.codes, np.cumsum(lengths)[:-1])
        return [Names(part, self.table) for part in parts]

    def take(self, rows: np.ndarray | slice) -> Names:
        """The names of some rows."""
        return Names(self.codes[rows], self.table)

    @cached_property
    def array(self) -> np.ndarray:
        """The names as a read-only array of str objects [N]: rows of one name share one object."""
        if len(self.codes) * 4 < len(self.table):  # a few rows of a large table
            used, place = np.unique(self.codes, return_inverse=True)
            return Names(place.astype(np.int32), self.table.take(pa.array(used))).array
        found = np.array([*self.table.to_pylist(), None], dtype=object)[:-1][self.codes]
        found.flags.writeable = False  # a change would not reach the numbers
        return found

    @cached_property
    def one_form(self) -> pa.Array:
        """The table in the form in which names are compared."""
        if pc.all(pc.string_is_ascii(self.table)).as_py() in (True, None):
            return self.table
        return pa.array([nfc(name) for name in self.table.to_pylist()], pa.large_string())

    def unfit(self) -> str | None:
        """A name of the table that no file can hold: empty,
        too long, with white space or control characters."""
        foreign = pc.match_substring_regex(self.table, FOREIGN_TO_NAMES)
        length = pc.utf8_length(self.table)
        bad = pc.or_(foreign, pc.or_(pc.equal(length, 0), pc.greater(length, LONGEST_NAME)))
        place = pc.index(bad, True).as_py()
        return None if place < 0 else self.table[place].as_py()


def same_numbers(*columns: Names) -> tuple[list[np.ndarray], int]:
    """Numbers [N] of each column in which equal names
    have equal numbers, and how many numbers there are.

    >>> same_numbers(Names.of(["b", "e\\u0301"]), Names.of(["\\u00e9", "c"]))[0]
    [array([0, 1], dtype=int32), array([1, 2], dtype=int32)]
    """
    tables = {id(column.table): column.one_form for column in columns}
    encoded = pa.concat_arrays(list(tables.values())).dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int32, copy=False)
    parts = np.split(numbers, np.cumsum([len(table) for table in tables.values()])[:-1])
    of = dict(zip(tables, parts, strict=True))
    return [of[id(column.table)][column.codes] for column in columns], len(encoded.dictionary)


def _chunks(column: Names | Sequence[str] | np.ndarray) -> list[pa.DictionaryArray]:
    if isinstance(column, Names):
        return [pa.DictionaryArray.from_arrays(pa.array(column.codes), column.table)]
    if isinstance(column, np.ndarray) and column.ndim != 1 or any(np.ndim(name) for name in column[:1]):
        raise ValueError(f"all columns need one value a trial, got a column of shape {np.shape(column)}")
    return [_encoded(column[start : start + _ROWS]) for start in range(0, len(column), _ROWS)]


def _encoded(names: Sequence[str] | np.ndarray) -> pa.DictionaryArray:
    names = names.tolist() if isinstance(names, np.ndarray) else names
    try:
        found = pa.array(names, pa.large_string())
    except UnicodeEncodeError:
        bad = next(name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name))
        raise ValueError(f"the name {bad!r} is no valid Unicode text; rename the file") from None
    except pa.ArrowException:  # numbers, say
        found = None
    if found is None or found.null_count:
        kinds = (str, bytes, int, np.integer, os.PathLike)
        if odd := [name for name in names if not isinstance(name, kinds)]:
            raise ValueError(f"names must be text or whole numbers, found {odd[0]!r}; give one in every row")
        return _encoded(list(map(str, names)))
    return found.dictionary_encode()
