"""Error rates of open-set identification,
their exact intervals, and the threshold that searches support.

FPIR and FNIR are those of NIST's tests of face and speaker identification: the share of searches of
strangers that return anybody at or above the threshold, and the share of searches of enrolled
people that do not return the right person, at or above the threshold, among the first R.

References
----------
Grother, Ngan, Hanaoka, "Face recognition vendor test (FRVT), part 2: Identification",
NISTIR 8271, 2019.

Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the
binomial", Biometrika 26, 1934.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv


@dataclass(frozen=True)
class OpenSetRates:
    """FPIR and FNIR with the errors and searches they are made of;
    rates are None where there was no search."""

    false_positives: int
    stranger_searches: int
    false_negatives: int
    mate_searches: int

    @property
    def fpir(self) -> float | None:
        return self.false_positives / self.stranger_searches if self.stranger_searches else None

    @property
    def fnir(self) -> float | None:
        return self.false_negatives / self.mate_searches if self.mate_searches else None


def open_set_rates(scores: np.ndarray, mates: np.ndarray, threshold: float, rank: int = 1) -> OpenSetRates:
    """Errors of S searches in a gallery of N people at a threshold.

    Parameters
    ----------
    scores : array [S, N]
        -inf for a person who is not to be compared.
    mates : array of int [S]
        The column of the person who speaks; -1 for a stranger.
    threshold : float
        A score at or above it is returned.
    rank : int
        R: a mate counts as found among the R best. Ties are broken against the mate.

    Raises
    ------
    ValueError
        Shapes or columns do not fit, a NaN, or a rank below 1.

    Example
    -------
    Two searches of enrolled people, the second finds the wrong one;
    a stranger who is taken for one:

    >>> open_set_rates([[0.9, 0.2], [0.8, 0.7], [0.6, 0.1]], [0, 1, -1], threshold=0.5)
    OpenSetRates(false_positives=1, stranger_searches=1, false_negatives=1, mate_searches=2)
    """
    scores, mates = np.asarray(scores, dtype=np.float64), np.asarray(mates)
    if scores.ndim != 2 or mates.shape != scores.shape[:1] or rank < 1:
        raise ValueError(f"scores are [S, N], mates [S] and rank at least 1; got {scores.shape}, {mates.shape}, {rank}")
    if np.isnan(scores).any() or (mates < -1).any() or (mates >= scores.shape[1]).any():
        raise ValueError("a score is NaN, or a mate is neither -1 nor a column of the scores")
    strangers = mates < 0
    top = scores.max(axis=1, initial=-np.inf)
    rows = np.flatnonzero(~strangers)
    own = scores[rows, mates[rows]]
    better = (scores[rows] >= own[:, None]).sum(axis=1) - 1
    found = (own >= threshold) & (better < rank)
    return OpenSetRates(int((top[strangers] >= threshold).sum()), int(strangers.sum()), int((~found).sum()), len(rows))


def clopper_pearson(errors: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate; numbers that are not
    whole (counts shared among samples) are let through.

    >>> [round(bound, 4) for bound in clopper_pearson(0, 59)]
    [0.0, 0.0606]
    >>> [round(bound, 4) for bound in clopper_pearson(5, 10)]
    [0.1871, 0.8129]
    """
    if not 0 <= errors <= trials or trials <= 0:
        raise ValueError(f"{errors} errors in {trials} trials make no rate")
    tail = (1 - level) / 2
    low = betaincinv(errors, trials - errors + 1, tail) if errors > 0 else 0.0
    high = betaincinv(errors + 1, trials - errors, 1 - tail) if errors < trials else 1.0
    return float(low), float(high)


def supported_threshold(
    tops: np.ndarray, people: np.ndarray, fpir: float, confidence: float = 0.95
) -> tuple[float | None, int]:
    """The lowest threshold at which strangers pass in
    at most `fpir` of the searches, with confidence.

    Parameters
    ----------
    tops : array [S]
        The best score of each search of a stranger.
    people : array [S]
        Who the strangers are. Searches of one person are no independent evidence, so the
        interval (Clopper and Pearson, one side) counts people: each has the share of his
        or her searches that pass.
    fpir, confidence : float
        In (0, 1).

    Returns
    -------
    (float or None, int)
        The threshold, None where even no false alarm would not show it;
        and how many more people would.

    Example
    -------
    Without a single false alarm 59 people show 5 %, because 0.95^59 < 0.05:

    >>> supported_threshold(np.linspace(0, 0.5, 59), np.arange(59), 0.05)[0] > 0.5
    True
    >>> supported_threshold(np.linspace(0, 0.5, 40), np.arange(40), 0.05)
    (None, 19)
    """
    if not 0 < fpir < 1 or not 0 < confidence < 1:
        raise ValueError(f"fpir and confidence are strictly between 0 and 1, got {fpir} and {confidence}")
    who, index, counts = np.unique(people, return_inverse=True, return_counts=True)
    needed = math.ceil(math.log(1 - confidence) / math.log(1 - fpir))
    if len(who) < needed:
        return None, needed - len(who)
    order = np.argsort(tops)[::-1]
    values = np.asarray(tops, dtype=np.float64)[order]
    # if everything down to and with place i passes, so many people err
    errors = np.cumsum(1 / counts[index][order])
    bound = betaincinv(errors + 1, np.maximum(len(who) - errors, 1e-9), confidence)
    passing = int(np.argmax(bound > fpir))  # the first that may not pass; those before it may
    return float(np.nextafter(values[passing], np.inf)), 0
