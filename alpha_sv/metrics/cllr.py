"""Are the scores log-likelihood ratios? Cllr, the APE curve and a reliability diagram.

APE is the applied probability of error: the error rate of Bayes decisions at each prior.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, log_expit

from alpha_sv.metrics.det import DetCurve, det_curve

PRIOR_LOG_ODDS = np.linspace(-10, 10, 201)
RELIABILITY_BINS = 20


def cllr(target_llrs: np.ndarray, nontarget_llrs: np.ndarray) -> float:
    """Cost of log-likelihood ratios, in bits: how far the numbers themselves can be trusted.

        Cllr = (mean over targets of log2(1 + e^-llr) + mean over nontargets of log2(1 + e^llr)) / 2

    0 for perfect scores, 1 for always answering 0 ("I do not know"), without bound for confident
    errors.

    Parameters
    ----------
    target_llrs, nontarget_llrs : array [n_target], [n_nontarget]
        Natural-log likelihood ratios (nats) of same-speaker and different-speaker trials.

    Raises
    ------
    ValueError
        As `det_curve`.

    References
    ----------
    Brümmer and du Preez, "Application-independent evaluation of speaker detection", CSL 20 (2006).

    Example
    -------
    >>> cllr([0.0, 0.0], [0.0])
    1.0
    >>> round(cllr([4.0, 6.0], [-5.0, -1.0]), 4)
    0.1228
    """
    return cllr_of(det_curve(target_llrs, nontarget_llrs))


def cllr_of(curve: DetCurve) -> float:
    llrs = curve.thresholds[:-1]
    return mean_cost(llr_costs(llrs, llrs), (np.diff(curve.misses), -np.diff(curve.false_accepts)))


def llr_costs(target_llrs: np.ndarray, nontarget_llrs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost in bits: log2(1 + e^-llr) of each target trial,
    log2(1 + e^llr) of each nontarget trial."""
    return np.logaddexp2(0, -target_llrs / math.log(2)), np.logaddexp2(0, nontarget_llrs / math.log(2))


def mean_cost(costs: tuple[np.ndarray, np.ndarray], weights: tuple[np.ndarray, np.ndarray]) -> float:
    """Cllr in bits from the costs and the weights of the trials; both kinds weigh alike."""
    return float(sum(cost @ weight / weight.sum() for cost, weight in zip(costs, weights, strict=True)) / 2)


def calibration_of(curve: DetCurve, hull: DetCurve) -> dict:
    """What the calibration figure draws, from a curve and its `convex_hull`.

    At the prior log odds theta = ln(p / (1 - p)) the Bayes decision accepts when llr >= -theta, and
    errs at the rate p p_miss(-theta) + (1 - p) p_fa(-theta) (`act`; not normalised). The best
    threshold would err at `min`. The area under either curve over all theta is 2 ln 2 times cllr or
    min_cllr: with s(u) = 1 / (1 + e^-u),

        ln(1 + e^-llr) = integral of s(theta) over all theta < -llr,
                         the theta at which a target trial of this llr is missed,

    and likewise for nontarget trials.

    Returns
    -------
    dict
        ``prior_log_odds`` [201] from -10 to 10 nats, ``act`` and ``min`` [201] in [0, 1];
        ``reliability`` with the lists ``llr`` (what the bin promises, nats), ``empirical`` (the log
        odds of a target in the bin minus those of the whole list, nats; None in a bin of one kind
        only) and ``count`` (trials). Calibrated scores have empirical = llr up to chance.

    References
    ----------
    Brümmer and du Preez 2006 (APE curves).
    """
    p = expit(PRIOR_LOG_ODDS)
    at = curve.vertex(-PRIOR_LOG_ODDS)
    act = p * curve.p_miss[at] + (1 - p) * curve.p_fa[at]
    least = [float((q * hull.p_miss + (1 - q) * hull.p_fa).min()) for q in p]
    return {
        "prior_log_odds": PRIOR_LOG_ODDS.tolist(),
        "act": act.tolist(),
        "min": least,
        "reliability": _reliability(curve),
    }


def _reliability(curve: DetCurve) -> dict[str, list]:
    """At most 20 bins of equal shares of the trials, where both kinds weigh alike as a whole.

    (By plain counts, a list of 1 % targets would have all of them in one bin.) Equal scores stay
    together.
    """
    # Along the vertices p_miss + 1 - p_fa rises from 0 to 2: the trials rejected so far, both kinds
    # weighing 1.
    rejected = curve.p_miss + 1 - curve.p_fa
    inner = np.searchsorted(rejected, np.linspace(0, 2, RELIABILITY_BINS + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], inner, [rejected.size - 1]]))
    targets, nontargets = np.diff(curve.misses[edges]), -np.diff(curve.false_accepts[edges])

    # A trial of posterior log odds x = llr + ln(targets / nontargets of the list) is a target with
    # probability s(x). If the llrs are right, the fraction of targets in a bin is on average the
    # mean of s(x); the llr with the same odds, mean s(x) : mean s(-x), is what the bin promises.
    # (The mean llr would not do: by Jensen's inequality it overstates a wide bin at either end.)
    prior = math.log(curve.num_target / curve.num_nontarget)
    x = curve.thresholds[:-1] + prior
    log_trials = np.log(np.diff(curve.misses) - np.diff(curve.false_accepts))
    log_sums = [np.logaddexp.reduceat(log_expit(side) + log_trials, edges[:-1]) for side in (x, -x)]
    with np.errstate(divide="ignore"):  # a bin of one kind: +-inf, given as None
        empirical = np.log(targets) - np.log(nontargets) - prior
    return {
        "llr": (log_sums[0] - log_sums[1] - prior).tolist(),
        "empirical": [float(value) if np.isfinite(value) else None for value in empirical],
        "count": (targets + nontargets).tolist(),
    }
