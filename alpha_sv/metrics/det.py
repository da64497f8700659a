"""The miss / false-acceptance curve: scores are sorted once, every error rate is read off it.

A trial is accepted when score >= threshold. Moving the threshold up from the lowest score, the
errors can change only at a score that occurs: between two neighbouring scores every threshold
decides alike, and trials of equal score are accepted or rejected together. So the curve has one
vertex for each *distinct* score (threshold = that score), and one more that rejects every trial.
Ties are merged by construction; the order of the trials cannot matter.

Trials may carry weights (a trial of weight 2 counts as two): the sort, `RankedTrials`, is kept, and
each set of weights costs one pass over the trials. That is what makes a bootstrap of a long list
cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alpha_sv.metrics.checks import checked_scores, checked_sides


@dataclass(frozen=True, eq=False)
class DetCurve:
    """Errors at the K + 1 thresholds that decide differently, from "accept all" to "reject all".

    Parameters
    ----------
    thresholds : float64 [K + 1], strictly ascending
        The K distinct scores; the last one is the float64 just above the highest score, which
        rejects every trial (finite, so that it can be written as JSON; compare it in float64).
    misses : int64 [K + 1], non-decreasing
        Target trials with score < threshold; from 0 to num_target. float64 sums of weights if there
        are any.
    false_accepts : int64 [K + 1], non-increasing
        Nontarget trials with score >= threshold; from num_nontarget to 0. As misses if weighted.
    """

    thresholds: np.ndarray
    misses: np.ndarray
    false_accepts: np.ndarray

    @property
    def num_target(self) -> int | float:
        """Target trials (the sum of their weights), positive."""
        return self.misses[-1].item()

    @property
    def num_nontarget(self) -> int | float:
        """Nontarget trials (the sum of their weights), positive."""
        return self.false_accepts[0].item()

    @property
    def p_miss(self) -> np.ndarray:
        """Fraction of the target trials that are rejected, float64 [K + 1], from 0 to 1."""
        return self.misses / self.num_target

    @property
    def p_fa(self) -> np.ndarray:
        """Fraction of the nontarget trials that are accepted, float64 [K + 1], from 1 to 0."""
        return self.false_accepts / self.num_nontarget

    def vertex(self, threshold: float | np.ndarray) -> np.ndarray:
        """Index of the vertex that decides every trial as `threshold` does, in its shape."""
        return np.minimum(np.searchsorted(self.thresholds, threshold), self.thresholds.size - 1)

    def take(self, vertices: np.ndarray) -> DetCurve:
        """The curve through some of the vertices; the first and the last must be among them."""
        return DetCurve(self.thresholds[vertices], self.misses[vertices], self.false_accepts[vertices])


@dataclass(frozen=True, eq=False)
class RankedTrials:
    """The one sort: for each trial, the step of the curve at which it is rejected.

    Parameters
    ----------
    thresholds : float64 [K + 1]
        As `DetCurve`.
    target_steps, nontarget_steps : int64 [n_target], [n_nontarget]
        Trial i is accepted at vertices 0 ... step[i] and rejected above.
    """

    thresholds: np.ndarray
    target_steps: np.ndarray
    nontarget_steps: np.ndarray

    def curve(self, target_weights: np.ndarray | None = None, nontarget_weights: np.ndarray | None = None) -> DetCurve:
        """The curve of these trials, each counted once or with its weight (>= 0)."""
        steps = self.thresholds.size - 1
        targets = np.bincount(self.target_steps, target_weights, steps)
        nontargets = np.bincount(self.nontarget_steps, nontarget_weights, steps)
        return DetCurve(
            self.thresholds,
            np.concatenate([[0], np.cumsum(targets)]),
            np.concatenate([np.cumsum(nontargets[::-1])[::-1], [0]]),
        )

    def merged(self, keep: Sequence[float] = ()) -> RankedTrials:
        """The same polyline with fewer vertices: runs of one kind of trials become one step.

        Along a run of steps that hold target trials only p_fa stands still, along one of nontarget
        trials p_miss does: the curve draws an axis-parallel segment, and vertices inside it lie on
        the segment between its ends. What is read off the line stays: the EER; any minimum of a
        p_miss + b p_fa and the convex hull (both live on the ends); the least p_miss with p_fa <=
        fpr (p_miss is constant where p_fa falls). Thresholds and counts at a fixed p_fa do not
        stay, nor decisions at a given threshold unless `keep` lists it.
        """
        steps = self.thresholds.size - 1
        has_target, has_nontarget = (
            np.bincount(side, minlength=steps) > 0 for side in (self.target_steps, self.nontarget_steps)
        )
        starts = np.ones(steps, dtype=bool)
        mixed = has_target & has_nontarget
        starts[1:] = (has_target[1:] != has_target[:-1]) | mixed[1:] | mixed[:-1]
        kept = np.searchsorted(self.thresholds, keep)
        starts[kept[kept < steps]] = True
        run = np.cumsum(starts) - 1
        return RankedTrials(
            np.append(self.thresholds[:-1][starts], self.thresholds[-1]),
            run[self.target_steps],
            run[self.nontarget_steps],
        )


def rank_trials(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> RankedTrials:
    """Sort the trials, O(N log N) time and O(N) memory; both sides are known to be scores."""
    target = checked_scores("target_scores", target_scores)
    nontarget = checked_scores("nontarget_scores", nontarget_scores)
    distinct, steps = np.unique(np.concatenate([target, nontarget]), return_inverse=True)
    thresholds = np.append(distinct, np.nextafter(distinct[-1], np.inf))
    return RankedTrials(thresholds, steps[: target.size], steps[target.size :])


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
        A side is empty, not one-dimensional, not real numbers, or holds NaN or infinity; or it is
        the labels of the other side, see `alpha_sv.metrics.checks.checked_sides`.

    Example
    -------
    >>> curve = det_curve([0.9, 0.5], [0.5, 0.1])
    >>> curve.p_miss.tolist()
    [0.0, 0.0, 0.5, 1.0]
    >>> curve.p_fa.tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    return rank_trials(*checked_sides(target_scores, nontarget_scores)).curve()
