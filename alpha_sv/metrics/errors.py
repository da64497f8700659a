"""Error rates of verification scores: EER, minimum detection cost, misses at a fixed false-acceptance rate.

All are read off one `DetCurve`, so they share its rule (accept when score >= threshold, ties together) and
each function returns the value with the threshold that goes with it. docs/metrics.md lists the conventions.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from alpha_sv.metrics.det import DetCurve, det_curve

P_TARGETS = (0.01, 0.05)
FPRS = (1e-2, 1e-3, 1e-4)
MIN_FALSE_ACCEPTS = 10  # k counted errors are known to about 1 / sqrt(k) of themselves: a third at 10
DET_POINTS = 400
HISTOGRAM_BINS = 60


def eer(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> tuple[float, float]:
    """Equal error rate: where the linearly interpolated curve (p_fa, p_miss) meets p_miss = p_fa.

    No threshold need make both errors equal when trials are few or tied; the point between the two
    neighbouring vertices of the curve is then reached by tossing a biased coin between their thresholds. It
    is symmetric: swapping the sides and negating the scores changes nothing, and scores that carry no
    information (all tied) give 0.5.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".

    Returns
    -------
    (float, float)
        The rate in [0, 1], and the threshold (a score that occurs) of the vertex nearest to p_miss = p_fa.

    Raises
    ------
    ValueError
        As `det_curve`.

    References
    ----------
    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.

    Example
    -------
    >>> eer([0.9, 0.8, 0.4], [0.5, 0.2, 0.1])
    (0.3333333333333333, 0.5)
    """
    return _eer(det_curve(target_scores, nontarget_scores))


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

    The normaliser is the cost of the better of the two blind systems, "reject all" and "accept all": 1 means
    no better than not listening, and the value never exceeds 1.

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
    return _min_dcf(det_curve(target_scores, nontarget_scores), p_target, c_miss, c_fa)


def fnr_at_fpr(target_scores: np.ndarray, nontarget_scores: np.ndarray, fpr: float) -> tuple[float, float]:
    """Smallest p_miss among the thresholds whose p_fa is at most `fpr`.

    Nothing is interpolated: the point is a threshold one can set, and the false acceptances it rests on can
    be counted.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".
    fpr : float
        Highest accepted false-acceptance rate, a fraction in [0, 1].

    Returns
    -------
    (float, float)
        p_miss (false non-match rate) in [0, 1], and the lowest threshold that meets the limit.

    Raises
    ------
    ValueError
        As `det_curve`; also `fpr` outside [0, 1].

    Example
    -------
    >>> fnr_at_fpr([0.9, 0.8, 0.4], [0.5, 0.2, 0.1], fpr=0.01)
    (0.3333333333333333, 0.8)
    """
    curve = det_curve(target_scores, nontarget_scores)
    index = _index_at_fpr(curve, fpr)
    return float(curve.p_miss[index]), float(curve.thresholds[index])


def evaluate(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> dict:
    """Every number of the report for one system, as plain Python numbers ready for JSON.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".

    Returns
    -------
    dict
        ``trials`` {target, nontarget}; ``eer`` {value, threshold}; ``min_dcf``, one {p_target, c_miss, c_fa,
        value, threshold} for each prior .01 and .05; ``fnr_at_fpr``, one {fpr, fnr, threshold, false_accepts,
        misses, supported} for each rate 1e-2, 1e-3, 1e-4, where supported says that the rate allows at least
        10 false accepts on these trials; ``det`` {p_fa, p_miss}, at most 400 vertices from accept-all to
        reject-all; ``histogram`` {edges [61], target [60], nontarget [60]} with counts.

    Raises
    ------
    ValueError
        As `det_curve`.

    Example
    -------
    >>> result = evaluate([0.9, 0.8, 0.4], [0.5, 0.2, 0.1])
    >>> result["trials"], result["fnr_at_fpr"][0]["supported"]
    ({'target': 3, 'nontarget': 3}, False)
    """
    curve = det_curve(target_scores, nontarget_scores)
    return {
        "trials": {"target": curve.num_target, "nontarget": curve.num_nontarget},
        "eer": dict(zip(("value", "threshold"), _eer(curve), strict=True)),
        "min_dcf": [_dcf_entry(curve, p_target) for p_target in P_TARGETS],
        "fnr_at_fpr": [_fnr_entry(curve, fpr) for fpr in FPRS],
        "det": _thinned(curve, DET_POINTS),
        "histogram": _histogram(target_scores, nontarget_scores, HISTOGRAM_BINS),
    }


def _eer(curve: DetCurve) -> tuple[float, float]:
    # p_miss - p_fa rises strictly from -1 to 1 along the vertices, so it crosses zero exactly once, in
    # (before, after]
    p_miss = curve.p_miss
    gap = p_miss - curve.p_fa
    after = int(np.searchsorted(gap, 0.0))
    before = after - 1
    weight = -gap[before] / (gap[after] - gap[before])
    value = p_miss[before] + weight * (p_miss[after] - p_miss[before])
    nearest = before if -gap[before] <= gap[after] else after
    return float(value), float(curve.thresholds[nearest])


def _min_dcf(curve: DetCurve, p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    if not 0 < p_target < 1:
        raise ValueError(f"min_dcf: p_target is a probability strictly between 0 and 1, got {p_target}")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < math.inf:
            raise ValueError(f"min_dcf: {name} must be positive and finite, got {cost}")
    miss, false_accept = c_miss * p_target, c_fa * (1 - p_target)
    # each weight is divided first, so that the better blind system costs exactly 1
    blind = min(miss, false_accept)
    cost = (miss / blind) * curve.p_miss + (false_accept / blind) * curve.p_fa
    index = int(np.argmin(cost))
    return float(cost[index]), float(curve.thresholds[index])


def _index_at_fpr(curve: DetCurve, fpr: float) -> int:
    if not 0 <= fpr <= 1:
        raise ValueError(f"fnr_at_fpr: fpr is a fraction between 0 and 1, got {fpr}")
    # p_fa falls and p_miss rises along the vertices: the first one within the limit misses least, and
    # reject-all (0) always is within it. k / n is rounded like the literal 0.001, so a limit of exactly k
    # false accepts allows k of them, which comparing k with fpr * n would not (0.29 * 100 = 28.999...).
    return int(np.argmax(curve.p_fa <= fpr))


def _dcf_entry(curve: DetCurve, p_target: float) -> dict:
    value, threshold = _min_dcf(curve, p_target, c_miss=1.0, c_fa=1.0)
    return {"p_target": p_target, "c_miss": 1.0, "c_fa": 1.0, "value": value, "threshold": threshold}


def _fnr_entry(curve: DetCurve, fpr: float) -> dict:
    index = _index_at_fpr(curve, fpr)
    return {
        "fpr": fpr,
        "fnr": float(curve.p_miss[index]),
        "threshold": float(curve.thresholds[index]),
        "false_accepts": int(curve.false_accepts[index]),
        "misses": int(curve.misses[index]),
        "supported": MIN_FALSE_ACCEPTS / curve.num_nontarget <= fpr,
    }


def _thinned(curve: DetCurve, points: int) -> dict[str, list[float]]:
    """At most `points` vertices, evenly along the curve as a DET plot draws it (normal-deviate axes)."""
    p_miss, p_fa = curve.p_miss, curve.p_fa
    if p_miss.size > points:
        # The curve only goes up and left, so ndtri(p_miss) - ndtri(p_fa) is its city-block length up to a
        # constant; rates of 0 and 1, infinitely far away, count as half an error.
        half_miss, half_fa = 0.5 / curve.num_target, 0.5 / curve.num_nontarget
        length = ndtri(np.clip(p_miss, half_miss, 1 - half_miss)) - ndtri(np.clip(p_fa, half_fa, 1 - half_fa))
        inner = np.searchsorted(length, np.linspace(length[0], length[-1], points)[1:-1])
        keep = np.unique(np.concatenate([[0], inner, [p_miss.size - 1]]))
        p_miss, p_fa = p_miss[keep], p_fa[keep]
    return {"p_fa": p_fa.tolist(), "p_miss": p_miss.tolist()}


def _histogram(target_scores: np.ndarray, nontarget_scores: np.ndarray, bins: int) -> dict[str, list]:
    target, nontarget = (np.asarray(side, dtype=np.float64) for side in (target_scores, nontarget_scores))
    low, high = min(target.min(), nontarget.min()), max(target.max(), nontarget.max())
    size = max(abs(low), abs(high)) or 1.0
    if high - low <= 1e-9 * size:  # all (nearly) equal: bins of positive width around them
        low, high = low - size / 2, high + size / 2
    edges = np.linspace(low, high, bins + 1)
    return {
        "edges": edges.tolist(),
        "target": np.histogram(target, edges)[0].tolist(),
        "nontarget": np.histogram(nontarget, edges)[0].tolist(),
    }
