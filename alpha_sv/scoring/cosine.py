"""Cosine scores of paired embeddings, and of a trial list over a store of embeddings.

Embeddings are normalised and multiplied in float64, whatever they are stored in: the cosine of
two float32 vectors is then exact to about 1e-16, and the score of a pair does not depend on
the pairs scored beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.scoring.checks import as_numbers
from alpha_sv.scoring.store_rows import Store, named_rows

_BLOCK = 4096  # rows in float64 at a time: a few MB, whatever the number of pairs


def cosine_scores(enroll: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Cosine of each row of `enroll` with the same row of `test`.

    Parameters
    ----------
    enroll, test : array [N, D]
        Embeddings of the two sides (arrays, lists of rows or tensors),
        of any length (they are normalised here); row n of each makes pair n.

    Returns
    -------
    float64 [N]
        Cosines in [-1, 1].

    Raises
    ------
    ValueError
        Shapes differ or are not [N, D];
        a row is all zero or holds NaN or infinity (its number is named).

    Example
    -------
    >>> enroll, test = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 0.0], [0.0, 5.0]])
    >>> cosine_scores(enroll, test).round(4).tolist()
    [1.0, 0.7071]
    """
    enroll, test = as_numbers("enroll", enroll), as_numbers("test", test)
    if enroll.shape != test.shape or enroll.ndim != 2:
        raise ValueError(
            f"cosine_scores: enroll and test must both be [N, D], got {enroll.shape} and {test.shape}; "
            "row n of one is compared with row n of the other (a single pair is [a], [b])"
        )
    return _paired_cosines(enroll, test)


def score_trials(trials: Trials, store: Store, chunk: int = 65536, progress: bool = True) -> ScoreTable:
    """Cosine score of every trial, gathering `chunk` trials at a time from a (memory-mapped) store.

    Parameters
    ----------
    trials : Trials
        N pairs of utterance identifiers.
    store : object with .ids, .matrix [num_utterances, D] and .rows(ids) -> int64 row numbers
        Usually an `EmbeddingStore`.
    chunk : int
        Trials gathered at a time; it bounds the memory and does not change the scores.
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    ScoreTable
        The trials in order, with cosines in [-1, 1] and the labels of `trials`.

    Raises
    ------
    ValueError
        A trial names an utterance that is not in the store,
        or an embedding is zero or not finite (it is named).

    Example
    -------
    >>> class Store:
    ...     ids, matrix = ["a", "b"], np.array([[1.0, 0.0], [0.6, 0.8]])
    ...
    ...     def rows(self, ids):
    ...         return np.array([self.ids.index(i) for i in ids])
    >>> score_trials(Trials(["a"], ["b"], [True]), Store(), progress=False).scores.round(
    ...     4
    ... ).tolist()
    [0.6]
    """
    if chunk < 1:
        raise ValueError(f"score_trials: chunk must be at least 1, got {chunk}")
    enroll_rows, test_rows = named_rows(store, *trials.sides)
    enroll, test = trials.enroll, trials.test
    scores = np.empty(len(trials))
    with tqdm(total=len(trials), unit="trial", desc="score", disable=None if progress else True) as bar:
        for start in range(0, len(trials), chunk):
            part = slice(start, start + chunk)
            scores[part] = _paired_cosines(
                store.matrix[enroll_rows[part]], store.matrix[test_rows[part]], enroll[part], test[part]
            )
            bar.update(len(enroll[part]))
    return ScoreTable(*trials.sides, scores, trials.labels)


def unit_rows(matrix: np.ndarray, what: str, ids: Sequence[str] | None = None, first: int = 0) -> np.ndarray:
    """Rows of `matrix` [N, D] scaled to length one, float64 [N, D].

    `what` and the row (`ids` of the rows, or their number counted from `first`)
    name the culprit in the ValueError for a row that is zero or not finite.
    """
    matrix = as_numbers(what, matrix)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype.kind not in "fiu":
        raise ValueError(f"{what}: embeddings must be real numbers [N, D], got {matrix.dtype} {matrix.shape}")
    matrix = matrix.astype(np.float64)
    # dividing by the largest entry first keeps the squares of
    # very small or large rows in range; NaN fails the comparison
    peak = np.abs(matrix).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~((peak > 0) & (peak < np.inf)))
    if bad.size:
        row = int(bad[0])
        name = f"row {first + row}" if ids is None else repr(ids[row])
        raise ValueError(
            f"{what}: the embedding of {name} is {'all zero' if peak[row] == 0 else 'not finite'}, so it "
            f"has no direction ({bad.size} such among {len(matrix)} rows); check its audio, extract it again"
        )
    matrix /= peak
    matrix /= np.sqrt(np.einsum("nd,nd->n", matrix, matrix))[:, None]
    return matrix


def _paired_cosines(
    enroll: np.ndarray,
    test: np.ndarray,
    enroll_ids: Sequence[str] | None = None,
    test_ids: Sequence[str] | None = None,
) -> np.ndarray:
    cosines = np.empty(len(enroll))
    for start in range(0, len(enroll), _BLOCK):
        part = slice(start, start + _BLOCK)
        left = unit_rows(enroll[part], "enroll", None if enroll_ids is None else enroll_ids[part], start)
        right = unit_rows(test[part], "test", None if test_ids is None else test_ids[part], start)
        cosines[part] = np.einsum("nd,nd->n", left, right)
    return cosines.clip(-1.0, 1.0)  # rounding may exceed 1 by an ulp
