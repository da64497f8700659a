"""The readable reader: a list as columns of Python strings,
line by line, and what is wrong with which line.

It is the reference of `alpha_sv.data.trials.arrow_reader`,
which reads the same files by the block, and it finds the line where that one gives up.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from alpha_sv.data.trials.layouts import (
    LONGEST_NAME,
    Layouts,
    Roles,
    first_misfit,
    fitting,
    header_roles,
    hint,
    is_number,
    label_values,
    likeliest,
    look_like_labels,
    separator,
    short,
)
from alpha_sv.files import InputError, reading

_FRACTION = re.compile(r"\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)  # what follows a decimal comma
LARGEST = 1e300  # of a score: sums and differences are then numbers, too
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff]")


@dataclass(frozen=True)
class TextTable:
    """The columns of a list as strings, with the line number of every row;
    `header` are the roles that one gives."""

    path: str
    columns: list[list[str]]
    lines: array
    header: Roles | None
    mark: str | None

    @classmethod
    def read(cls, path: str, blocks: Iterable[bytes]) -> TextTable:
        """Read blocks of whole lines of UTF-8 text; blank lines are skipped."""
        columns: list[list[str]] = []
        lines, same, header, mark = array("q"), {}, None, None
        for number, line in enumerate(_lines(path, blocks), start=1):
            if not line or line.isspace():
                continue
            if not columns:
                bare = line.lstrip("# \t")
                if line[0] == "#" and header_roles(re.split(r"[\s,;]+", bare)):
                    line = bare  # a header as numpy.savetxt writes it
                mark = separator(line)
            fields = line.split() if mark is None else _unquoted(path, number, line, mark)
            if not columns:
                columns = [[] for _ in fields]
                header = header_roles(fields)
                first = (number, fields)
                if header:
                    continue
            if fields[0][0] == "#":
                raise InputError(
                    f"{path}:{number}: '{short(' '.join(fields))}' is a comment, as its first field begins with '#'; "
                    "remove the line, or if '#' is part of a name, put a column before it ('label enroll test')"
                )
            if len(fields) != len(columns):
                if len(lines) < 2 and first[1][0][:1] in "%;/":
                    raise InputError(f"{path}:{first[0]}: '{short(' '.join(first[1]))}' is a comment; remove the line")
                raise InputError(
                    f"{path}:{number}: {len(fields)} columns where line {first[0]} has {len(columns)} "
                    f"(line: '{short(' '.join(fields), 200)}'); every line needs the same columns, and a "
                    "space in a name is %20, as `alpha-sv prepare` writes it"
                )
            if len(line) > LONGEST_NAME and (long := next((f for f in fields if len(f) > LONGEST_NAME), None)):
                raise InputError(
                    f"{path}:{number}: the name {short(long, 40)!r} is longer than {LONGEST_NAME:,} characters; "
                    "give the names of utterances"
                )
            for column, field in zip(columns, fields, strict=True):
                column.append(same.setdefault(field, field))  # a name is kept once
            lines.append(number)
        if not columns:
            raise InputError(f"{path}: empty file; give a list with one 'enroll test' pair a line")
        if not lines:
            raise InputError(f"{path}: a header line but no trials; give one 'enroll test' pair a line")
        if header and len(set(header)) < len(header):
            raise InputError(f"{path}: the header names a column twice ('{' '.join(first[1])}'); name each once")
        return cls(path, columns, lines, header, mark)

    def fail(self, row: int, problem: str) -> NoReturn:
        line = short(" ".join(column[row] for column in self.columns), 200)
        raise InputError(f"{self.path}:{self.lines[row]}: {problem} (line: '{line}')")

    def roles(self, layouts: Layouts, layout: str | None, otherwise: str) -> Roles:
        """What each column is, by the header, the layout given, or from all lines.

        Raises
        ------
        InputError
            No layout fits every line, or two do; `otherwise` says what else the file may be.
        """
        if layout is not None and layout not in layouts:
            raise InputError(f"{self.path}: unknown layout {layout!r}; choose one of {', '.join(layouts)}")
        if layout and self.header:
            raise InputError(
                f"{self.path} has a header ('{' '.join(self.header)}'), which names the columns; leave the layout out"
            )
        roles = self.header or (layouts[layout] if layout else self._detect(layouts, otherwise))
        if len(roles) != len(self.columns):
            self.fail(0, f"layout {layout!r} is '{' '.join(roles)}', this file has {len(self.columns)} columns")
        if (found := first_misfit(self.columns, roles)) is not None:
            self.fail(*found)
        return roles

    def arrays(self, roles: Roles) -> dict:
        """Columns by name: enroll, test, labels and scores if there are any, conditions."""
        column = dict(zip(roles, self.columns, strict=True))
        arrays: dict = {side: column.pop(side) for side in ("enroll", "test")}
        if "label" in column:
            words = set(column["label"])
            means = label_values(words, True) or label_values(words, False)
            arrays["labels"] = np.array([means[word] for word in column.pop("label")], dtype=bool)
        if "score" in column:
            arrays["scores"] = self._finite(column.pop("score"))
        return {**arrays, "conditions": column}

    def _detect(self, layouts: Layouts, otherwise: str) -> Roles:
        known = "; ".join(f"{name}: '{' '.join(roles)}'" for name, roles in layouts.items())

        def advice(row: int) -> str:
            return f". {hint(self.columns, layouts, row)}".rstrip(". ")

        if len(self.columns) not in map(len, layouts.values()):
            self.fail(
                0,
                f"{len(self.columns)} columns fit no layout ({known}); {otherwise}; further columns need a header "
                f"line, such as 'label enroll test gender', and a space in a name is %20{advice(0)}",
            )
        found, _ = fitting(self.columns, layouts)
        if not found:
            row, problem = first_misfit(self.columns, likeliest(self.columns, layouts))
            self.fail(row, f"{problem}{advice(row)}. Layouts: {known}; {otherwise}")
        if len(found) > 1:
            self.fail(
                0,
                f"every line fits the layouts {' and '.join(found)}; say which it is with layout= (--layout), or "
                f"by a first line such as '{' '.join(next(iter(found.values())))}'",
            )
        [(name, roles)] = found.items()
        if doubt := doubtful(dict(zip(roles, self.columns, strict=True)), self.mark):
            self.fail(0, f"{doubt}; {otherwise}. If not, say so with layout={name} (--layout {name})")
        return roles

    def _finite(self, column: list[str]) -> np.ndarray:
        numbers = np.array(list(map(float, column)), dtype=np.float64)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            self.fail(row, f"score {column[row]!r} is not finite; check the embeddings of this pair")
        if abs(numbers[row := int(np.abs(numbers).argmax())]) > LARGEST:
            self.fail(row, f"score {column[row]!r} is beyond ±{LARGEST:g}; give the scores in another unit")
        return numbers


def _lines(path: str, blocks: Iterable[bytes]) -> Iterable[str]:
    before = 0
    for block in blocks:
        try:
            text = block.decode()
        except UnicodeDecodeError as error:
            line = before + block.count(b"\n", 0, error.start) + 1
            raise InputError(
                f"{path}: not UTF-8 text (line {line}: {error.reason}); give a plain text list, saved as UTF-8"
            ) from error
        if found := _CONTROL.search(text):
            line = before + text.count("\n", 0, found.start()) + 1
            raise InputError(
                f"{path}:{line}: the control character {found[0]!r} can be no part of a list; remove it, or save the "
                "file as UTF-8 text"
            )
        yield from text.removesuffix("\n").split("\n")
        before += block.count(b"\n")


def doubtful(columns: Mapping[str, Sequence[str]], mark: str | None) -> str:
    """What a file of a layout found from its lines may be instead, or ""; `columns` by role."""
    scores, sides = columns.get("score"), {side: columns[side] for side in ("enroll", "test")}
    if all(name.count("*") == 1 for name in sides["enroll"]):
        return "every name of the column 'enroll' may be a pair, which ESPnet joins by * (tr '*' ' ' separates them)"
    for what, side in sides.items() if "label" not in columns else ():
        if scores is not None and set(side) == {"0", "1"} or look_like_labels(side):
            return f"every name of the column '{what}' looks like a label, as in a list of single utterances"
    if scores is None and "label" not in columns:
        for what, side in sides.items():
            if all(map(is_number, side)) and (set(side) <= {"0", "1"} or not all(map(str.isdigit, side))):
                return f"every name of the column '{what}' is a number, which looks like labels or scores"
    elif scores is not None and "label" not in columns and set(scores) <= {"0", "1"}:
        return "every score is 0 or 1, which looks like labels"
    elif (
        scores is not None
        and mark == ","
        and list(columns)[2:] == ["label", "score"]
        and all(map(_FRACTION.fullmatch, scores))
    ):
        return "labels and scores may be the two parts of numbers with a decimal comma, such as 0,51"
    return ""


def _unquoted(path: str, number: int, line: str, mark: str) -> list[str]:
    fields = line.split(mark)
    if '"' in line:
        with reading(f"{path}:{number}", "give each line whole, with two quotes for one in a name"):
            [fields] = csv.reader([line], delimiter=mark, skipinitialspace=True, strict=True)
    fields = [field.strip() for field in fields]
    for field in fields:
        if '"' in field or field.split() != [field]:
            index = "; if the first column numbers the lines, leave it out (pandas: index=False)" * (not fields[0])
            raise InputError(
                f"{path}:{number}: the field {short(field)!r} between '{mark}' is empty, or has white space or a quote "
                f"(line: '{short(line, 200)}'); give one name or number in each field{index}"
            )
    return fields
