"""Scores for the tests of the metrics, and the oracle that most of them share."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

CASES = [(seed, levels) for seed in range(3) for levels in (None, 1, 4)]


def random_sides(seed, n_target=23, n_nontarget=41, levels=None):
    """Overlapping target and nontarget scores; with `levels` few distinct values, tied within a side and across."""
    rng = np.random.default_rng(seed)
    target, nontarget = rng.normal(1, 1, n_target), rng.normal(0, 1, n_nontarget)
    if levels:
        target, nontarget = np.round(target * levels) / levels, np.round(nontarget * levels) / levels
    return target, nontarget


def operating_points(target, nontarget):
    """(threshold, p_miss, p_fa) by looping over every threshold, in exact fractions."""
    thresholds = sorted({*target.tolist(), *nontarget.tolist()}) + [np.inf]
    for threshold in thresholds:
        misses, false_accepts = int((target < threshold).sum()), int((nontarget >= threshold).sum())
        yield threshold, Fraction(misses, target.size), Fraction(false_accepts, nontarget.size)
