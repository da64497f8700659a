"""The layouts of trial lists and score files: found from the whole file; a line that breaks one is named.

    trial lists   voxceleb     label enroll test          label 0 | 1
                  kaldi        enroll test label          label target | nontarget, or 1 | 0
                  unlabeled    enroll test
    score files   speechbrain  enroll test label score    label 0 | 1
                  wespeaker    enroll test score label    label target | nontarget
                  voxsrc       score enroll test        the order of VoxSRC submissions
                  unlabeled    enroll test score        Kaldi

Or the first line names the columns, in any order: `label enroll test gender nationality`. Columns of a trial
list beyond these three are conditions. A header is a line with both words, enroll and test.

The layout is a property of the whole file, never of a line: a column is a label column only if all its
entries are labels of one vocabulary, and a score column only if all are numbers, so one odd line is an error
instead of a trial read the wrong way round. Where two layouts fit every line, the reader refuses and asks which
one it is.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import NoReturn, TextIO

import numpy as np

TRIAL_LAYOUTS = {
    "voxceleb": ("label", "enroll", "test"),
    "kaldi": ("enroll", "test", "label"),
    "unlabeled": ("enroll", "test"),
}
SCORE_LAYOUTS = {
    "speechbrain": ("enroll", "test", "label", "score"),
    "wespeaker": ("enroll", "test", "score", "label"),
    "voxsrc": ("score", "enroll", "test"),
    "unlabeled": ("enroll", "test", "score"),
}
_DIGITS, _WORDS = frozenset({"0", "1"}), frozenset({"nontarget", "target"})
_TARGET = ("1", "target")


@dataclass(frozen=True)
class TextTable:
    """The columns of a text file as strings, with the line number of every row for error messages."""

    path: str
    columns: list[list[str]]
    lines: list[int]
    header: tuple[str, ...] | None

    @classmethod
    def read(cls, source: str | os.PathLike | TextIO) -> TextTable:
        """Read a UTF-8 file, or an open text stream; blank lines are skipped."""
        stream = hasattr(source, "read")
        path = getattr(source, "name", "<stream>") if stream else os.fspath(source)
        tokens: list[str] = []
        widths: list[int] = []
        try:
            with contextlib.nullcontext(source) if stream else open(path, encoding="utf-8") as file:
                for line in file:
                    fields = (line if widths else line.removeprefix("\ufeff")).split()
                    tokens += fields
                    widths.append(len(fields))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error}); give a plain text list") from error
        lines = [number for number, width in enumerate(widths, start=1) if width]
        if not lines:
            raise ValueError(f"{path}: empty file; give a list with one 'enroll test' pair a line")
        width = widths[lines[0] - 1]
        if not {0, width}.issuperset(widths):
            odd = next(number for number in lines if widths[number - 1] != width)
            start = sum(widths[: odd - 1])
            fields = tokens[start : start + widths[odd - 1]]
            raise ValueError(
                f"{path}:{odd}: {len(fields)} columns where line {lines[0]} has {width} "
                f"(line: '{' '.join(fields)}'); every line needs the same columns, no "
                "identifier may have a space"
            )
        header = None
        if {"enroll", "test"}.issubset(tokens[:width]):
            header, tokens, lines = tuple(tokens[:width]), tokens[width:], lines[1:]
            if not lines:
                raise ValueError(f"{path}: a header line but no trials; give one 'enroll test' pair a line")
            if len(set(header)) < width:
                raise ValueError(f"{path}: the header names a column twice ('{' '.join(header)}'); name each once")
        return cls(path, [tokens[column::width] for column in range(width)], lines, header)

    def fail(self, row: int, problem: str) -> NoReturn:
        line = " ".join(column[row] for column in self.columns)
        raise ValueError(f"{self.path}:{self.lines[row]}: {problem} (line: '{line}')")

    def split(self, layouts: dict[str, tuple[str, ...]], layout: str | None, otherwise: str) -> dict:
        """Columns by name, as arrays: enroll, test and, where there are any, labels and scores; conditions, a
        dict of further columns, as a header names them."""
        if layout is not None and layout not in layouts:
            raise ValueError(f"{self.path}: unknown layout {layout!r}; choose one of {', '.join(layouts)}")
        if layout and self.header:
            raise ValueError(
                f"{self.path} has a header ('{' '.join(self.header)}'), which names the columns; leave the layout out"
            )
        roles = self.header or (layouts[layout] if layout else self._detect(layouts, otherwise))
        if len(roles) != len(self.columns):
            self.fail(0, f"layout {layout!r} is '{' '.join(roles)}', this file has {len(self.columns)} columns")
        if (found := self._first_misfit(roles)) is not None:
            self.fail(found[0], found[1])
        column = dict(zip(roles, self.columns, strict=True))
        arrays: dict = {side: np.array(column.pop(side), dtype=str) for side in ("enroll", "test")}
        if "label" in column:
            arrays["labels"] = np.isin(np.array(column.pop("label")), _TARGET)
        if "score" in column:
            arrays["scores"] = self._finite(column.pop("score"))
        return {**arrays, "conditions": {name: np.array(values, dtype=str) for name, values in column.items()}}

    def _detect(self, layouts: dict[str, tuple[str, ...]], otherwise: str) -> tuple[str, ...]:
        widths = {name: roles for name, roles in layouts.items() if len(roles) == len(self.columns)}
        known = "; ".join(f"{name}: '{' '.join(roles)}'" for name, roles in layouts.items())
        if not widths:
            self.fail(
                0,
                f"{len(self.columns)} columns fit no layout ({known}); {otherwise}; further columns need a header "
                "line, such as 'label enroll test gender'",
            )
        misfits = {name: self._first_misfit(roles) for name, roles in widths.items()}
        fitting = [name for name, misfit in misfits.items() if misfit is None]
        if not fitting:
            # the layout that holds for longest is the one meant; its first broken line is the one to repair
            best = max(misfits, key=lambda name: misfits[name][0])
            self.fail(misfits[best][0], f"{misfits[best][1]}. Layouts: {known}; {otherwise}")
        if len(fitting) > 1:
            self.fail(
                0,
                f"every line fits the layouts {' and '.join(fitting)}; say which it is with layout= (--layout), or "
                f"by a first line such as '{' '.join(widths[fitting[0]])}'",
            )
        roles = widths[fitting[0]]
        if "score" in roles and "label" not in roles and set(self.columns[roles.index("score")]) <= _DIGITS:
            self.fail(
                0,
                f"every score is 0 or 1, which looks like labels; {otherwise}. If these are scores, say so with "
                f"layout={fitting[0]} (--layout {fitting[0]})",
            )
        return roles

    def _first_misfit(self, roles: tuple[str, ...]) -> tuple[int, str] | None:
        """First row that these roles cannot read, and why; None if they can."""
        for role, column in zip(roles, self.columns, strict=True):
            if role == "label":
                vocabulary = _WORDS if column[0] in _WORDS else _DIGITS
                if not set(column) <= vocabulary:
                    row = next(row for row, label in enumerate(column) if label not in vocabulary)
                    return row, f"label {column[row]!r} is not one of {' | '.join(sorted(vocabulary))}"
            elif role == "score":
                row = next((row for row, score in enumerate(column) if not _is_number(score)), None)
                if row is not None:
                    return row, f"score {column[row]!r} is not a number; repair or remove the line"
        return None

    def _finite(self, column: list[str]) -> np.ndarray:
        numbers = np.array(list(map(float, column)), dtype=np.float64)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            self.fail(row, f"score {column[row]!r} is not finite; check the embeddings of this pair")
        return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
