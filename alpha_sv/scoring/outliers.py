"""Values that are not measurements: -999999 and the like,
which some programs write when they have failed.

One such score outweighs thousands of others in a mean, a standard deviation or a slope. The rule:
with the median and the spread (1.4826 median absolute deviations, the standard deviation of normal
values) of the target and of the nontarget scores, and the wider spread of the two, a score is set
aside if it lies more than 10 spreads below the lower or above the higher of the two medians. A
quality measure has one median, and the distance of its 5 % and 95 % quantiles gives its spread.

A trial that is set aside has no say in the line from scores to LLRs. It is counted with every error
and in the bounds of the LLRs (`alpha_sv.scoring.llr_bounds`): a target trial at -999999 is a miss,
and where many are, the bounds are narrow. So nothing is hidden by setting a trial aside.

A failure may also be written as a usual score, 0 above all, or be most of a class. It then shows
as one value that many trials have and next to none beside it (`repeated_score`). That may be
right, so it is only said.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

SPREADS = 10.0


def odd_scores(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of N scores are set aside, bool [N]; see the module.

    Example
    -------
    >>> scores = np.array([0.7, 0.6, 0.5, 0.1, 0.2, 0.15, -999999.0])
    >>> odd_scores(scores, np.arange(7) < 3).nonzero()[0].tolist()
    [6]
    """
    scores = scores / 1e10  # a sentinel may be the largest number there is, and differences of it overflow
    medians = sorted(float(np.median(scores[side])) for side in (labels, ~labels))
    # scores that are tied in both classes: the distance of the classes is the only unit there is
    spread = max(_spread(scores[side]) for side in (labels, ~labels)) or medians[1] - medians[0] or np.inf
    return (scores < medians[0] - SPREADS * spread) | (scores > medians[1] + SPREADS * spread)


def repeated_score(scores: np.ndarray) -> tuple[float, int] | None:
    """The score, and its count, of at least ten trials and 1 % of all,
    ten times as many as the next ones beside it.

    Rounded scores have no such value, because those beside it are about as many.

    >>> repeated_score(np.append(np.linspace(-1, 1, 101), np.zeros(10)))
    (0.0, 11)
    >>> repeated_score(np.random.default_rng(0).normal(size=1000).round(1)) is None
    True
    """
    scores = np.sort(scores)
    starts = np.flatnonzero(np.diff(scores, prepend=np.nan))
    counts = np.diff(starts, append=len(scores))
    beside = np.maximum(np.append(counts[1:], 0), np.append(0, counts[:-1]))
    found = np.flatnonzero((counts >= 10) & (counts > len(scores) / 100) & (counts > 10 * beside))
    if not len(found):
        return None
    most = found[counts[found].argmax()]
    return float(scores[starts[most]]), int(counts[most])


def odd_qualities(values: np.ndarray) -> np.ndarray:
    """Which of N values of a quality measure are set aside, bool [N]; see the module.

    >>> odd_qualities(np.append(np.arange(100.0), 1e6)).nonzero()[0].tolist()
    [100]
    """
    values = values / 1e10
    return np.abs(values - np.median(values)) > SPREADS * (_quantile_spread(values, (5, 1)) or np.inf)


def _spread(values: np.ndarray) -> float:
    """1.4826 median absolute deviations;
    where more than half of the values are tied, from further quantiles."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) or _quantile_spread(values, (10, 5, 1))


def _quantile_spread(values: np.ndarray, percents: tuple[int, ...]) -> float:
    """Standard deviation of normal values whose quantiles are as far apart:
    of the first pair not tied, or 0."""
    for percent in percents:
        low, high = np.percentile(values, [percent, 100 - percent])
        if high > low:
            return float(high - low) / (2 * float(ndtri(1 - percent / 100)))
    return 0.0
