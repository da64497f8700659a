"""Tables of trials: which pairs are compared, what they scored, and which are the same speaker.

A label is True for a target trial (same speaker).
The order is that of the file; `alpha_sv.data.trials.files` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from alpha_sv.data.trials.name_column import Names

Column = Sequence[str] | np.ndarray | Names


class _Pairs:
    """N pairs of names, which both sides share a table of, with labels or None."""

    def __init__(self, enroll: Column, test: Column, labels: Sequence | np.ndarray | None, **further: object):
        sides = [side if isinstance(side, (Names, np.ndarray, list, tuple)) else list(side) for side in (enroll, test)]
        self._sides = Names.of(*sides).split(*map(len, sides))
        self._labels = None
        if labels is not None:
            labels = _unmasked("labels", labels)
            if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
                raise ValueError(f"labels must be booleans or 0 / 1 (1 = target), got dtype {labels.dtype}")
            self._labels = labels.astype(bool)
            further["labels"] = self._labels
        shapes = {"enroll": (len(sides[0]),), "test": (len(sides[1]),)}
        shapes |= {
            name: (len(value),) if isinstance(value, Names) else np.shape(value) for name, value in further.items()
        }
        if len(set(shapes.values())) > 1:
            raise ValueError(f"all columns need one value a trial, got shapes {shapes}")

    def __len__(self) -> int:
        return len(self._sides[0])

    def __repr__(self) -> str:
        known = "without labels" if self.labels is None else f"{int(self.labels.sum()):,} of them targets"
        return f"<{type(self).__name__}: {len(self):,} trials, {known}>"

    @property
    def enroll(self) -> np.ndarray:
        """Utterances of the enrolment side, an array of str objects [N]."""
        return self._sides[0].array

    @property
    def test(self) -> np.ndarray:
        """Utterances of the test side, an array of str objects [N]."""
        return self._sides[1].array

    @property
    def labels(self) -> np.ndarray | None:
        """True for a target trial, an array of bool [N]; None when unknown."""
        return self._labels

    @property
    def sides(self) -> tuple[Names, Names]:
        """Both sides as numbers of names, which is what joins and counts are made with."""
        return self._sides[0], self._sides[1]


def _unmasked(name: str, values: object) -> np.ndarray:
    if np.ma.is_masked(values):  # numpy would uncover what is masked
        raise ValueError(f"{name} has {np.ma.count_masked(values)} masked values; leave these trials out")
    return np.asarray(values)


class Trials(_Pairs):
    """Pairs to compare, in list order.

    Parameters
    ----------
    enroll, test : array or list of str, or Names, length N
        Utterance identifiers of the two sides.
    labels : array of bool, shape [N], or None
        True for a target trial; None when unknown.
    conditions : dict of str to array of str, shape [N]
        Further columns of the list, such as gender, nationality, duration class.

    Raises
    ------
    ValueError
        The columns differ in length, a label is neither 0 nor 1,
        or a condition has the name of a column above.

    Example
    -------
    >>> trials = Trials(["a", "a"], ["b", "c"], [True, False], {"gender": ["f", "m"]})
    >>> trials.test[trials.conditions["gender"] == "m"].tolist()
    ['c']
    """

    def __init__(
        self,
        enroll: Column,
        test: Column,
        labels: Sequence | np.ndarray | None = None,
        conditions: Mapping[str, Column] | None = None,
    ):
        conditions = {name: Names.of(values) for name, values in (conditions or {}).items()}
        if taken := sorted({"enroll", "test", "label", "score"}.intersection(conditions)):
            raise ValueError(f"a condition cannot be called {taken[0]!r}, the name of a column; rename it")
        super().__init__(enroll, test, labels, **{f"condition {name}": names for name, names in conditions.items()})
        self._conditions = conditions

    @property
    def conditions(self) -> dict[str, np.ndarray]:
        """Further columns, arrays of str objects [N]."""
        return {name: names.array for name, names in self._conditions.items()}

    @property
    def condition_names(self) -> dict[str, Names]:
        """Further columns as numbers of names."""
        return self._conditions


class ScoreTable(_Pairs):
    """One score per trial, higher for "same speaker"; the other fields are those of `Trials`.

    Parameters
    ----------
    scores : array of float64, shape [N]
        In the unit of the scorer (a cosine in [-1, 1], standard deviations after AS-norm, ...).

    Example
    -------
    >>> table = ScoreTable(["a", "a"], ["b", "c"], [0.8, 0.1], [True, False])
    >>> table.target_scores.tolist(), table.nontarget_scores.tolist()
    ([0.8], [0.1])
    """

    def __init__(
        self,
        enroll: Column,
        test: Column,
        scores: Sequence[float] | np.ndarray,
        labels: Sequence | np.ndarray | None = None,
    ):
        numbers = _unmasked("scores", scores)
        if numbers.dtype.kind not in "fiub" and (odd := [x for x in numbers.ravel() if not isinstance(x, Real)]):
            raise ValueError(f"scores must be real numbers, got {odd[0]!r}; convert them")
        self._scores = numbers.astype(np.float64)
        super().__init__(enroll, test, labels, scores=self._scores)

    @property
    def scores(self) -> np.ndarray:
        """float64 [N]."""
        return self._scores

    @property
    def target_scores(self) -> np.ndarray:
        """Scores of the target trials, float64 [n_target]."""
        return self.scores[self._known_labels()]

    @property
    def nontarget_scores(self) -> np.ndarray:
        """Scores of the nontarget trials, float64 [n_nontarget]."""
        return self.scores[~self._known_labels()]

    def _known_labels(self) -> np.ndarray:
        if self.labels is None:
            raise ValueError("the score table has no labels; attach them with label_scores(table, trials)")
        return self.labels
