"""The miss / false-acceptance curve: sort the scores once, and every error rate is read off the same object.

A trial is accepted when score >= threshold. Moving the threshold up from the lowest score, the errors can
change only at a score that occurs: between two neighbouring scores every threshold decides alike, and trials
of equal score are accepted or rejected together. So the curve has one vertex for each *distinct* score
(threshold = that score), and one more that rejects every trial. Ties are merged by construction; the order of
the trials cannot matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class DetCurve:
    """Errors at each of the K + 1 thresholds that decide differently, from "accept all" to "reject all".

    Parameters
    ----------
    thresholds : float64 [K + 1], strictly ascending
        The K distinct scores; the last one is the float64 just above the highest score, which rejects every
        trial (finite, so that it can be written as JSON; compare it in float64).
    misses : int64 [K + 1], non-decreasing
        Target trials with score < threshold; from 0 to num_target.
    false_accepts : int64 [K + 1], non-increasing
        Nontarget trials with score >= threshold; from num_nontarget to 0.
    num_target, num_nontarget : int
        Trials of each kind, both positive.
    """

    thresholds: np.ndarray
    misses: np.ndarray
    false_accepts: np.ndarray
    num_target: int
    num_nontarget: int

    @property
    def p_miss(self) -> np.ndarray:
        """Fraction of the target trials that are rejected, float64 [K + 1], from 0 to 1."""
        return self.misses / self.num_target

    @property
    def p_fa(self) -> np.ndarray:
        """Fraction of the nontarget trials that are accepted, float64 [K + 1], from 1 to 0."""
        return self.false_accepts / self.num_nontarget


def det_curve(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> DetCurve:
    """All operating points of a set of scores, O(N log N) time and O(N) memory.

    Parameters
    ----------
    target_scores : array [n_target]
        Scores of same-speaker trials, in any unit, higher for "same speaker".
    nontarget_scores : array [n_nontarget]
        Scores of different-speaker trials.

    Raises
    ------
    ValueError
        A side is empty, not one-dimensional, not real numbers, or holds NaN or infinity.

    Example
    -------
    >>> curve = det_curve([0.9, 0.5], [0.5, 0.1])
    >>> curve.p_miss.tolist()
    [0.0, 0.0, 0.5, 1.0]
    >>> curve.p_fa.tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    target = _one_side("target_scores", target_scores)
    nontarget = _one_side("nontarget_scores", nontarget_scores)
    scores = np.concatenate([target, nontarget])
    order = np.argsort(scores)
    scores = scores[order]

    # position of the first trial of each distinct score = number of trials strictly below it
    below = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    thresholds = np.append(scores[below], np.nextafter(scores[-1], np.inf))
    below = np.append(below, scores.size)
    targets_up_to = np.concatenate([[0], np.cumsum(order < target.size)])
    misses = targets_up_to[below]
    false_accepts = nontarget.size - (below - misses)
    return DetCurve(thresholds, misses, false_accepts, target.size, nontarget.size)


def _one_side(name: str, scores: np.ndarray) -> np.ndarray:
    array = np.asarray(scores)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, one score a trial, got shape {array.shape}; flatten it")
    if array.size == 0:
        raise ValueError(f"{name} is empty; error rates need at least one target and one nontarget trial")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}; convert the scores to float")
    array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{name}: {bad.size} of {array.size} scores are NaN or infinite (first at index {bad[0]}: "
            f"{array[bad[0]]}); check the embeddings behind them, and score these trials again"
        )
    return array
