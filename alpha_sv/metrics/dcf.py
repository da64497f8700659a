"""Detection costs: minimum and actual DCF, always normalised, and SRE16's C_primary.

    DCF(t) = (c_miss p_target p_miss(t) + c_fa (1 - p_target) p_fa(t))
             / min(c_miss p_target, c_fa (1 - p_target))

As in `alpha_sv.metrics.errors`, a public function takes the scores and what ends in `_of` takes a
curve.
"""

from __future__ import annotations

import math

import numpy as np

from alpha_sv.metrics.det import DetCurve, det_curve

P_TARGETS = (0.01, 0.05)
_LEAST = 1e-300  # a cost, and its ratio to the other: the smallest numbers have fewer digits
SRE16_P_TARGETS = (0.01, 0.005)


def min_dcf(
    target_scores: np.ndarray,
    nontarget_scores: np.ndarray,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> tuple[float, float]:
    """Minimum normalised detection cost over all thresholds.

        DCF(t) = (c_miss * p_target * p_miss(t) + c_fa * (1 - p_target) * p_fa(t))
                 / min(c_miss * p_target, c_fa * (1 - p_target))

    The normaliser is the cost of the better of the two blind systems, "reject all" and "accept
    all": 1 means no better than not listening, and the value never exceeds 1.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".
    p_target : float
        Prior probability of a target trial, in (0, 1).
    c_miss, c_fa : float
        Costs of a miss and of a false acceptance, positive.

    Returns
    -------
    (float, float)
        The cost in [0, 1], and the lowest threshold that attains it.

    Raises
    ------
    ValueError
        As `det_curve`; also a prior or cost out of range.

    References
    ----------
    NIST 2016 Speaker Recognition Evaluation Plan (the detection cost and its normalisation).

    Example
    -------
    >>> value, threshold = min_dcf([0.9, 0.8, 0.4], [0.5, 0.2, 0.1], p_target=0.01)
    >>> round(value, 6), threshold
    (0.333333, 0.8)
    """
    return min_dcf_of(det_curve(target_scores, nontarget_scores), p_target, c_miss, c_fa)


def act_dcf(
    target_llrs: np.ndarray,
    nontarget_llrs: np.ndarray,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> tuple[float, float]:
    """Actual detection cost: what one pays who believes the scores, normalised as `min_dcf`.

    If the scores are log-likelihood ratios, accepting costs c_fa (1 - p_target) and rejecting
    c_miss p_target e^llr on average (up to a common factor), so the best threshold is

        llr >= ln(c_fa (1 - p_target) / (c_miss p_target))

    and is known without looking at a label. The excess over `min_dcf` is the price of bad
    calibration.

    Parameters
    ----------
    target_llrs, nontarget_llrs : array [n_target], [n_nontarget]
        Natural-log likelihood ratios (nats) of same-speaker and different-speaker trials.
    p_target, c_miss, c_fa : float
        As `min_dcf`.

    Returns
    -------
    (float, float)
        The cost, at least min_dcf and possibly far above 1, and the Bayes threshold in nats.

    Raises
    ------
    ValueError
        As `min_dcf`.

    References
    ----------
    Brümmer and du Preez, "Application-independent evaluation of speaker detection", CSL 20 (2006).

    Example
    -------
    >>> value, threshold = act_dcf([5.0, 6.0, 3.0], [-4.0, 1.0, -2.0], p_target=0.01)
    >>> round(value, 6), round(threshold, 6)
    (0.333333, 4.59512)
    """
    return act_dcf_of(det_curve(target_llrs, nontarget_llrs), p_target, c_miss, c_fa)


def c_primary(target_scores: np.ndarray, nontarget_scores: np.ndarray, llr: bool = False) -> tuple[float, float | None]:
    """Primary cost of NIST SRE16: the mean of the normalised DCFs at p_target = .01 and .005.

    SRE16 also averages over partitions of its own list; here all trials count alike.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".
    llr : bool
        The scores are natural-log likelihood ratios, so that the actual cost has a meaning.

    Returns
    -------
    (float, float or None)
        Minimum cost (each prior with its own threshold) in [0, 1], and the actual cost, None unless
        `llr`.

    Raises
    ------
    ValueError
        As `det_curve`.

    References
    ----------
    NIST 2016 Speaker Recognition Evaluation Plan, section 3.

    Example
    -------
    >>> minimum, actual = c_primary([9.0, 8.0, 5.0], [4.0, 2.0, 1.0], llr=True)
    >>> round(minimum, 6), round(actual, 6)
    (0.0, 0.166667)
    """
    return c_primary_of(det_curve(target_scores, nontarget_scores), llr)


def min_dcf_of(curve: DetCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> tuple[float, float]:
    miss, false_accept = _normalised_costs(p_target, c_miss, c_fa)
    cost = miss * curve.p_miss + false_accept * curve.p_fa
    vertex = int(np.argmin(cost))
    return float(cost[vertex]), float(curve.thresholds[vertex])


def act_dcf_of(curve: DetCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> tuple[float, float]:
    miss, false_accept = _normalised_costs(p_target, c_miss, c_fa)
    threshold = bayes_threshold(p_target, c_miss, c_fa)
    vertex = curve.vertex(threshold)
    cost = miss * curve.misses[vertex] / curve.num_target + false_accept * curve.false_accepts[vertex] / (
        curve.num_nontarget
    )
    return float(cost), threshold


def c_primary_of(curve: DetCurve, llr: bool) -> tuple[float, float | None]:
    minimum = float(np.mean([min_dcf_of(curve, p)[0] for p in SRE16_P_TARGETS]))
    return minimum, float(np.mean([act_dcf_of(curve, p)[0] for p in SRE16_P_TARGETS])) if llr else None


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The log-likelihood ratio (nats) above which accepting is the cheaper decision."""
    return math.log(c_fa * (1 - p_target)) - math.log(c_miss * p_target)


def _normalised_costs(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Weights of p_miss and p_fa, divided first: the better blind system costs exactly 1."""
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is a probability strictly between 0 and 1, got {p_target}")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {cost}")
    miss, false_accept = c_miss * p_target, c_fa * (1 - p_target)
    blind = min(miss, false_accept)
    if blind < _LEAST or max(miss, false_accept) * _LEAST > blind:
        raise ValueError(
            f"p_target {p_target:g} with c_miss {c_miss:g} and c_fa {c_fa:g} makes one kind of error cost {miss:g} and "
            f"the other {false_accept:g}, which is out of the range of numbers; give others"
        )
    return miss / blind, false_accept / blind
