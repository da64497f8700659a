"""Tables of trials: which pairs are compared, what they scored, and which are the same speaker.

A label is True for a target trial (same speaker). The order is that of the file; `alpha_sv.data.trials.files` reads
and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs to compare, in list order.

    Parameters
    ----------
    enroll, test : array of str, shape [N]
        Utterance identifiers of the two sides.
    labels : array of bool, shape [N], or None
        True for a target trial; None when unknown.
    conditions : dict of str to array of str, shape [N]
        Further columns of the list, such as gender, nationality, duration class.

    Raises
    ------
    ValueError
        The arrays differ in length, a label is neither 0 nor 1, or a condition has the name of a column above.

    Example
    -------
    >>> trials = Trials(["a", "a"], ["b", "c"], [True, False], {"gender": ["f", "m"]})
    >>> trials.test[trials.conditions["gender"] == "m"].tolist()
    ['c']
    """

    enroll: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None = None
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if taken := sorted({"enroll", "test", "label", "score"}.intersection(self.conditions)):
            raise ValueError(f"a condition cannot be called {taken[0]!r}, the name of a column; rename it")
        conditions = {name: np.asarray(values, dtype=str) for name, values in self.conditions.items()}
        object.__setattr__(self, "conditions", conditions)
        _normalise_fields(self, conditions)

    def __len__(self) -> int:
        return len(self.enroll)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One score a trial, higher for "same speaker"; the other fields are those of `Trials`.

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

    enroll: np.ndarray
    test: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        _normalise_fields(self, {"scores": self.scores})

    def __len__(self) -> int:
        return len(self.enroll)

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


def _normalise_fields(table: Trials | ScoreTable, further: dict[str, np.ndarray]) -> None:
    fields = {"enroll": np.asarray(table.enroll, dtype=str), "test": np.asarray(table.test, dtype=str)}
    if table.labels is not None:
        labels = np.asarray(table.labels)
        if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
            raise ValueError(f"labels must be booleans or 0 / 1 (1 = target), got dtype {labels.dtype}")
        fields["labels"] = labels.astype(bool)
    for name, value in fields.items():
        object.__setattr__(table, name, value)
    shapes = {name: value.shape for name, value in {**fields, **further}.items()}
    if set(shapes.values()) != {(len(fields["enroll"]),)}:
        raise ValueError(f"all columns need one value a trial, got shapes {shapes}")
