"""The report on a terminal: aligned columns, no line longer than 80 characters."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from alpha_sv.report.tables import Cell, Table, comparison_tables, summary_table
from alpha_sv.report.wording import basis, comparison_basis, hints, one_line, sentence, short

WIDTH = 80


def to_text(metrics: Mapping) -> str:
    """What `alpha-sv evaluate` prints: a line for each metric, a column for each system.

    Parameters
    ----------
    metrics : dict
        As `alpha_sv.report.load_metrics` returns it. Systems that do not fit side by side follow
        below.

    Example
    -------
    >>> system = {
    ...     "name": "cosine",
    ...     "eer": {"value": 0.05},
    ...     "min_dcf": [{"p_target": 0.01, "value": 0.4}],
    ...     "fnr_at_fpr": [{"fpr": 0.01, "fnr": 0.125, "false_accepts": 9, "supported": False}],
    ...     "intervals": None,
    ...     "cllr": None,
    ...     "trials": {"target": 40, "nontarget": 900, "repeated": 0},
    ... }
    >>> print(to_text({"systems": [system], "comparison": None}))
    40 target and 900 nontarget trials.
    <BLANKLINE>
                      cosine
    EER %              5.000
    minDCF 0.01       0.4000
    FNR % @ FPR 1e-2     n/a (9 false accepts)
    """
    systems, comparison = metrics["systems"], metrics["comparison"]
    parts = list(dict.fromkeys(wrapped(basis(system)) for system in systems))
    parts += _blocks(summary_table(systems))
    if any(system["intervals"] for system in systems):
        parts.append(wrapped("In square brackets the interval, in round ones the false accepts behind a rate."))
    if comparison:
        parts += [wrapped(sentence(comparison["baseline"], pair)) for pair in comparison["pairs"]]
    parts += [wrapped(hint) for system in systems for hint in hints(system)]
    return "\n\n".join(parts)


def comparison_text(comparison: Mapping) -> str:
    """What `alpha-sv compare` prints: for each pair of systems a sentence and the differences."""
    parts = [wrapped(comparison_basis(comparison))]
    for table in comparison_tables(comparison):
        columns = [[name, *(row[place] for row in table.rows)] for place, name in enumerate(table.header[:4])]
        cells = [_column(column, most=14 if 0 < place < 3 else WIDTH) for place, column in enumerate(columns)]
        parts += [wrapped(table.title), _side_by_side(cells)]
    return "\n\n".join(parts)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a few columns, the first at the left, the others at the right.

    >>> print(aligned(["accept at", "misses"], [["eer", "7"], ["fpr 1e-2", "12"]]))
    accept at  misses
    eer             7
    fpr 1e-2       12
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    padded = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    padded[0] = [cell.ljust(widths[0]) for cell in columns[0]]
    return _side_by_side(padded)


def _blocks(table: Table) -> list[str]:
    """The table turned by 90 degrees, in as many blocks as the width asks for."""
    labels = _column(["", *(name.removesuffix(" (false accepts)") for name in table.header[1:])], most=WIDTH)
    columns = [_column(row, most=30) for row in table.rows]
    blocks, open_ = [], [labels]
    for column in columns:
        if len(open_) > 1 and sum(len(part[0]) + 2 for part in [*open_, column]) - 2 > WIDTH:
            blocks, open_ = [*blocks, open_], [labels]
        open_ = [*open_, column]
    return [_side_by_side(block) for block in [*blocks, open_]]


def _column(cells: Sequence[Cell], most: int) -> list[str]:
    """Cells of one width, the first being the head: numbers end in one place, the rest follows."""
    pairs = [(cell, "") if isinstance(cell, str) else cell for cell in cells[1:]]
    numbers = max((len(value.split(" ")[0]) for value, _ in pairs if _numeric(value)), default=0)
    texts = []
    for value, small in pairs:
        head, _, tail = value.partition(" ") if _numeric(value) else (value, "", "")
        texts.append(" ".join(part for part in (head.rjust(numbers), tail, small) if part))
    texts = [short(cells[0], most).rjust(numbers), *texts]
    width = max(map(len, texts))
    return [text.ljust(width) for text in texts]


def _numeric(value: str) -> bool:
    return value[:1] in "0123456789−+–" or value.startswith("n/a")


def _side_by_side(columns: Sequence[Sequence[str]]) -> str:
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def wrapped(text: str) -> str:
    return textwrap.fill(one_line(text), WIDTH)
