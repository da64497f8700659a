"""How large a log-likelihood ratio the calibration trials can support:
empirical upper and lower bounds (ELUB).

An LLR of t says: at prior log-odds of -t, where always accepting and always rejecting cost the
same, decide by me. So the scores must do better there than decisions that do not listen. With one
misleading trial added to each class, because what has not been seen in n trials may still be seen
in the next one, they do while

    p_fa(t) e^t + p_miss(t) <= 1    for t >= 0         p_fa(t) + p_miss(t) e^-t <= 1    for t <= 0

The bounds are the ends of the range around 0 where this holds. Without an error at t, e^t <=
(n + 1) (1 - p_miss): n nontarget trials support LLRs up to about ln(n + 1), n target trials down to
about -ln(n + 1). Trials that share their speakers do not count in full: `targets` and `nontargets`
say how many do (`alpha_sv.scoring.calibration_warnings`).

References
----------
Vergeer, van Es, de Jongh, Alberink, Stoel, "Numerical likelihood ratios outputted by LR systems are
often based on extrapolation: When to stop extrapolating?", Science and Justice 56, 2016.

Morrison, Poh, "Avoiding overstating the strength of forensic evidence: Shrunk likelihood ratios /
Bayes factors", Science and Justice 58, 2018.
"""

from __future__ import annotations

import numpy as np

LEAST = 1e-3  # nats: bounds are never closer to 0, so that the order of the trials survives
_MARGIN = 0.01  # nats below a bound, which all that lies beyond has to share
Bounds = tuple[float, float]


def llr_bounds(
    target_llrs: np.ndarray,
    nontarget_llrs: np.ndarray,
    targets: float | None = None,
    nontargets: float | None = None,
) -> Bounds:
    """The lowest and the highest LLR (nats) that labelled LLRs support.

    Parameters
    ----------
    target_llrs, nontarget_llrs : array [n_target], [n_nontarget]
        LLRs in nats, finite.
    targets, nontargets : float, optional
        Independent observations behind them; by default each trial is one.

    Returns
    -------
    (float, float)
        Lower bound <= -0.001, upper bound >= 0.001.

    Example
    -------
    Nine nontarget trials without a false accept: the tenth may be one.

    >>> lower, upper = llr_bounds(np.full(99, 5.0), np.full(9, -5.0))
    >>> bool(abs(upper - np.log(10 * 0.99)) < 1e-12)
    True
    >>> bool(abs(lower + np.log(100 * 0.9)) < 1e-12)
    True
    """
    target, nontarget = np.sort(target_llrs), np.sort(nontarget_llrs)
    counts = (targets or len(target), nontargets or len(nontarget))
    # exchanging the classes and the sign turns one bound into the other
    return -_upper(-nontarget[::-1], -target[::-1], *counts[::-1]), _upper(target, nontarget, *counts)


def limit(llrs: np.ndarray, bounds: Bounds) -> np.ndarray:
    """LLRs held within the bounds (two numbers, or two arrays [N]), in the same order.

    What lies beyond a bound less its margin is squeezed into the margin, 0.01 nats, by x -> x /
    (1 + x): the map is increasing, so EER, minDCF and every other number that rests on the
    order stays what it was.

    Example
    -------
    >>> limit(np.array([-9.0, 1.0, 5.0, 6.0]), (-2.0, 4.0)).round(3).tolist()
    [-1.999, 1.0, 3.995, 3.997]
    """
    margin = margin_of(bounds)
    low, high = bounds[0] + margin, bounds[1] - margin
    held = np.clip(llrs, low, high)
    with np.errstate(over="ignore"):
        return held + margin * (_squeezed(llrs - high) - _squeezed(low - llrs))


def margin_of(bounds: Bounds) -> float:
    """Width in nats of the strip inside each bound in which LLRs are squeezed."""
    return np.minimum(_MARGIN, (bounds[1] - bounds[0]) / 4)


def _squeezed(excess: np.ndarray) -> np.ndarray:
    return 1.0 - 1.0 / (1.0 + np.maximum(excess, 0.0))


def _upper(target: np.ndarray, nontarget: np.ndarray, targets: float, nontargets: float) -> float:
    # Between neighbouring LLRs the errors are constant and the condition reads t <= limit;
    # so the bound is the first limit that falls into its own interval, or before it.
    starts = np.unique(np.concatenate([[0.0], target[target > 0], nontarget[nontarget > 0]]))
    ends = np.append(starts[1:], np.inf)
    false_accepts = 1 - np.searchsorted(nontarget, starts, "right") / len(nontarget)
    misses = np.searchsorted(target, starts, "right") / len(target)
    p_fa = (false_accepts * nontargets + 1) / (nontargets + 1)
    p_miss = (misses * targets + 1) / (targets + 1)
    with np.errstate(divide="ignore"):
        limits = np.log1p(-p_miss) - np.log(p_fa)
    first = int(np.argmax(limits < ends))  # the last end is infinite, so there is one
    return max(LEAST, float(starts[first]), float(limits[first]))
