"""Error rates of verification scores: EER, and misses at a fixed false-acceptance rate.

All are read off one `DetCurve`, so they share its rule (accept when score >= threshold, ties
together) and each function returns the value with the threshold that goes with it. docs/metrics.md
lists the conventions. A public function takes the scores; what ends in `_of` takes a curve, so that
many numbers share one sort.
"""

from __future__ import annotations

import numpy as np

from alpha_sv.metrics.det import DetCurve, det_curve

FPRS = (1e-2, 1e-3, 1e-4)
MIN_FALSE_ACCEPTS = 10  # k counted errors are known to about 1 / sqrt(k) of themselves: a third at 10


def eer(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> tuple[float, float]:
    """Equal error rate: where the linearly interpolated curve (p_fa, p_miss) meets p_miss = p_fa.

    No threshold need make both errors equal when trials are few or tied; the point between the two
    neighbouring vertices of the curve is then reached by tossing a biased coin between their
    thresholds. It is symmetric: swapping the sides and negating the scores changes nothing, and
    scores that carry no information (all tied) give 0.5.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".

    Returns
    -------
    (float, float)
        The rate in [0, 1], and the threshold (a score that occurs) of the vertex nearest to p_miss
        = p_fa.

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
    return eer_of(det_curve(target_scores, nontarget_scores))


def fnr_at_fpr(target_scores: np.ndarray, nontarget_scores: np.ndarray, fpr: float) -> tuple[float, float]:
    """Smallest p_miss among the thresholds whose p_fa is at most `fpr`.

    Nothing is interpolated: the point is a threshold one can set, and the false acceptances it
    rests on can be counted.

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
    vertex = fpr_vertex(curve, fpr)
    return float(curve.p_miss[vertex]), float(curve.thresholds[vertex])


def tar_at_far(target_scores: np.ndarray, nontarget_scores: np.ndarray, far: float) -> tuple[float, float]:
    """Largest true-acceptance rate, 1 - p_miss, with p_fa at most `far`; otherwise as `fnr_at_fpr`.

    Example
    -------
    >>> tar_at_far([0.9, 0.8, 0.4, 0.7], [0.5, 0.2, 0.1], far=0.01)
    (0.75, 0.7)
    """
    fnr, threshold = fnr_at_fpr(target_scores, nontarget_scores, far)
    return 1.0 - fnr, threshold


def eer_of(curve: DetCurve) -> tuple[float, float]:
    # p_miss - p_fa never falls from -1 to 1 along the vertices, so it meets zero in (before,
    # after], where it rises
    p_miss = curve.p_miss
    gap = p_miss - curve.p_fa
    after = int(np.searchsorted(gap, 0.0))
    before = after - 1
    weight = -gap[before] / (gap[after] - gap[before])
    value = p_miss[before] + weight * (p_miss[after] - p_miss[before])
    nearest = before if -gap[before] <= gap[after] else after
    return float(value), float(curve.thresholds[nearest])


def fpr_vertex(curve: DetCurve, fpr: float) -> int:
    if not 0 <= fpr <= 1:
        raise ValueError(f"the false-acceptance limit is a fraction between 0 and 1, got {fpr}")
    # p_fa falls and p_miss rises along the vertices: the first one within the limit misses least,
    # and reject-all (0) always is within it. k / n is rounded like the literal 0.001, so a limit of
    # exactly k false accepts allows k of them, which comparing k with fpr * n would not (0.29 * 100
    # = 28.999...).
    return int(np.argmax(curve.p_fa <= fpr))
