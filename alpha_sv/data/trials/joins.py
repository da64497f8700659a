"""Trials matched with trials: repeats, contradictions,
and the labels of a list for the scores of a file.

A pair of names is one number, so that ten million pairs
are compared by a sort instead of a dictionary of strings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpha_sv.data.trials.name_column import same_numbers
from alpha_sv.data.trials.tables import ScoreTable, Trials

Table = Trials | ScoreTable


def count_duplicates(trials: Table) -> int:
    """Number of trials that repeat an earlier (enroll, test) pair.
    (a, b) and (b, a) are two different pairs.

    >>> count_duplicates(Trials(["a", "a", "b"], ["b", "b", "a"]))
    1
    """
    return _repeats(*_pairs(trials))


def label_scores(table: ScoreTable, trials: Trials) -> ScoreTable:
    """Attach the labels of a trial list to a score table.

    The result follows the trial list in order and repeats,
    so metrics are computed on exactly the published trials.

    Raises
    ------
    ValueError
        The list has no labels, a trial has no score, a score has no trial,
        a pair has two different scores, or the table has labels of its own that differ.

    Example
    -------
    >>> scores = ScoreTable(["a", "a"], ["c", "b"], [0.1, 0.8])
    >>> labelled = label_scores(scores, Trials(["a", "a"], ["b", "c"], [True, False]))
    >>> labelled.scores.tolist(), labelled.labels.tolist()
    ([0.8, 0.1], [True, False])
    """
    if trials.labels is None:
        raise ValueError("label_scores: the trial list has no labels; give the labelled list")
    wanted, scored = _pairs(trials, table)
    listed = check_values(trials, wanted, trials.labels, "labels", "keep one of them in the trial list")
    given = check_values(table, scored, table.scores, "scores", "score each pair once")
    found = np.searchsorted(given.pairs, listed.pairs)
    known = given.pairs[np.minimum(found, len(given.pairs) - 1)] == listed.pairs if len(given.pairs) else found < 0
    if not known.all() or len(given.pairs) > len(listed.pairs):
        missing = np.sort(listed.rows[~known])
        extra = np.sort(given.rows[~np.isin(given.pairs, listed.pairs, assume_unique=True)])
        raise ValueError(
            f"label_scores: {len(missing)} of {len(listed.rows)} trials have no score{_examples(trials, missing)} and "
            f"{len(extra)} of {len(given.rows)} scored pairs are not in the trial list{_examples(table, extra)}; "
            "score this very list (sides are ordered, identifiers must match exactly)"
        )
    scores = table.scores[given.rows]  # by pair, as are the labels of the list, for both have the same pairs
    labels = trials.labels[listed.rows]
    if table.labels is not None:
        own = table.labels[given.rows] if given.alike(table.labels) else None
        if own is None or (own != labels).any():
            place = np.searchsorted(given.pairs, scored)
            row = np.flatnonzero(table.labels != labels[place])[0]
            raise ValueError(
                f"label_scores: pair '{_pair(table, row)}' is labelled {int(table.labels[row])} in the scores and "
                f"{int(labels[place[row]])} in the trial list; use the list that was scored"
            )
    return ScoreTable(*trials.sides, scores[listed.place_of_row()], trials.labels)


def check_alike(table: Table, values: dict[str, np.ndarray]) -> None:
    """Raise ValueError if one pair of a table has
    two different values, such as labels or scores."""
    [pairs] = _pairs(table)
    if _repeats(pairs):  # a plain sort is much faster than one that keeps the rows
        for what, column in values.items():
            check_values(table, pairs, column, what, "keep the right line only")


class _Distinct:
    """The distinct pairs of a table in order: `pairs` [M],
    their first `rows` [M], and where each row's pair is."""

    def __init__(self, numbers: np.ndarray):
        self._numbers = numbers
        self.order = np.argsort(numbers, kind="stable")
        ordered = numbers[self.order]
        first = np.ones(len(ordered), dtype=bool)
        first[1:] = ordered[1:] != ordered[:-1]
        self.first, self.rows, self.pairs = first, self.order[first], ordered[first]

    def place_of_row(self) -> np.ndarray:
        """Where in `pairs` the pair of each row is [N]."""
        place = np.empty(len(self.order), dtype=np.int64)
        place[self.order] = np.cumsum(self.first) - 1
        return place

    def alike(self, values: np.ndarray) -> bool:
        """Whether all rows of a pair have one value."""
        ordered = values[self.order]
        return bool((self.first[1:] | (ordered[1:] == ordered[:-1])).all())


def check_values(table: Table, pairs: np.ndarray, values: np.ndarray, what: str, remedy: str) -> _Distinct:
    """The distinct pairs of a table, if each has one value; else a ValueError that names one."""
    distinct = _Distinct(pairs)
    if not distinct.alike(values):
        last = np.empty(len(distinct.pairs), dtype=values.dtype)
        place = distinct.place_of_row()
        last[place] = values  # repeats: the last one stays; the first row that differs from it is shown
        row = np.flatnonzero(values != last[place])[0]
        one, two = (v if isinstance(v, float) else int(v) for v in (values[row].item(), last[place[row]].item()))
        raise ValueError(f"pair '{_pair(table, row)}' has two {what}, {one} and {two}; {remedy}")
    return distinct


def _repeats(pairs: np.ndarray) -> int:
    pairs = np.sort(pairs)
    return int((pairs[1:] == pairs[:-1]).sum())


def _pairs(*tables: Table) -> list[np.ndarray]:
    """A number for each pair of each table, int64 [N]; equal pairs have equal numbers."""
    numbers, count = same_numbers(*(side for table in tables for side in table.sides))
    sides: Sequence[tuple[np.ndarray, np.ndarray]] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return [enroll.astype(np.int64) * count + test for enroll, test in sides]


def _pair(table: Table, row: int) -> str:
    return " ".join(side.table[int(side.codes[row])].as_py() for side in table.sides)


def _examples(table: Table, rows: np.ndarray) -> str:
    return f" (such as {', '.join(repr(_pair(table, row)) for row in rows[:3])})" if len(rows) else ""
