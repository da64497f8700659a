"""The convex hull of the curve, and what is read off it: the ROCCH-EER and the minimum of Cllr.

The hull and the best calibration are one object. Sort the trials by score and fit the
non-decreasing step function of the score that is closest to the labels (isotonic regression; its
pool-adjacent-violators (PAV) algorithm pools neighbours until the fraction of target trials rises
from block to block). A block with t of the T target and n of the N nontarget trials is a segment of
slope -(t / T) / (n / N) in the (p_fa, p_miss) plane, so rising fractions are a convex polyline, the
lower left hull of the curve; and the block's log-likelihood ratio is ln((t / T) / (n / N)), the log
of that slope.

References
----------
Brümmer and du Preez, "Application-independent evaluation of speaker detection", CSL 20 (2006);
Fawcett and Niculescu-Mizil, "PAV and the ROC convex hull", Machine Learning 68 (2007).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import rel_entr

from alpha_sv.metrics.det import DetCurve, det_curve
from alpha_sv.metrics.errors import eer_of


def min_cllr(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> float:
    """The least `cllr`, in bits, of any non-decreasing map of these scores.

    It measures discrimination alone, over all operating points at once; cllr - min_cllr is the
    calibration loss.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".

    Returns
    -------
    float
        In [0, 1] bits; 1 if the scores carry no information.

    Raises
    ------
    ValueError
        As `det_curve`.

    References
    ----------
    Brümmer and du Preez 2006.

    Example
    -------
    >>> min_cllr([3.0, 2.0], [2.0, 1.0])
    0.5
    """
    return min_cllr_of(convex_hull(det_curve(target_scores, nontarget_scores)))


def eer_rocch(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> float:
    """Equal error rate of the convex hull of the ROC; at most `eer`, and 0.5 without information.

    It is the error rate of the best thresholds at the least favourable prior:

        max over p of  min over t of  p p_miss(t) + (1 - p) p_fa(t)

    Parameters and errors as `eer`.

    References
    ----------
    Brümmer and de Villiers, "The BOSARIS toolkit", 2011 (the EER that toolkit reports).

    Example
    -------
    >>> eer_rocch([3.0, 3.0, 1.0], [2.0, 0.0, 0.0])
    0.16666666666666666
    >>> eer_of(det_curve([3.0, 3.0, 1.0], [2.0, 0.0, 0.0]))[0]
    0.3333333333333333
    """
    return eer_of(convex_hull(det_curve(target_scores, nontarget_scores)))[0]


def convex_hull(curve: DetCurve) -> DetCurve:
    """The lower left hull: vertices that minimise a p_miss + b p_fa for some a, b >= 0."""
    targets, nontargets = np.diff(curve.misses), -np.diff(curve.false_accepts)
    trials = targets + nontargets
    used = np.flatnonzero(trials)  # a step all of whose weights are 0 is no step
    blocks = isotonic_regression(targets[used] / trials[used], weights=trials[used]).blocks
    # block b begins at step used[blocks[b]]; the vertex of that step is where all trials below it
    # are rejected
    return curve.take(np.append(used[blocks[:-1]], trials.size))


def min_cllr_of(hull: DetCurve) -> float:
    """minCllr of a curve, given its `convex_hull`."""
    # With shares t, n of the target and nontarget trials in a block, whose llr is ln(t / n),
    #     t ln(1 + e^-llr) = t ln((t + n) / t) = -rel_entr(t, t + n),
    # which is 0 at t = 0, where the llr is infinite.
    t, n = np.diff(hull.p_miss), -np.diff(hull.p_fa)
    return float(0.0 - (rel_entr(t, t + n).sum() + rel_entr(n, t + n).sum()) / (2 * math.log(2)))
