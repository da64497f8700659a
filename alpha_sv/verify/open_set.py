"""Open-set identification: who of the enrolled people is it, or a stranger? The verdict, and its error rates.

A search compares one recording with N people. With calibrated log-likelihood ratios a stranger reaches the threshold
t with one given person with a probability of at most e^-t, so with any of N with at most N e^-t (the union bound).
Adding ln N to a threshold that was measured on single comparisons therefore keeps the rate of false alarms whatever
the size of the gallery.

The verdict is

* "unknown" if the best person stays below the threshold, or no threshold was measured;
* "too close" if the best is less than ln 19 = 2.94 nats ahead of the runner-up: were it one of these two, the best
  would be the wrong one in more than 5 % of the cases. Without a calibrator, if both reach the threshold;
* "known" otherwise.

FPIR and FNIR are those of NIST's tests of face and speaker identification: the share of searches of strangers that
return anybody at or above the threshold, and the share of searches of enrolled people that do not return the right
person, at or above the threshold, among the first R.

References
----------
Grother, Ngan, Hanaoka, "Face recognition vendor test (FRVT), part 2: Identification", NISTIR 8271, 2019.
Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26,
1934.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.decision import choose_point, describe_point

MIN_MARGIN = math.log(19)  # nats: 95 % for the best of two
POINT = "fpr 1e-2"  # by default: a stranger is taken for somebody in at most about 1 % of the searches
VERDICTS = ("known", "unknown", "too close")


@dataclass(frozen=True)
class Candidate:
    """An enrolled person, with the mean cosine and LLR (nats; None without a calibrator) over all pairs of samples."""

    name: str
    score: float
    llr: float | None


@dataclass(frozen=True)
class Identification:
    """Who it is; ``print(identification)`` says it in words.

    Attributes
    ----------
    name : str or None
        Who it is, if known.
    verdict : {"known", "unknown", "too close"}
    candidates : tuple of Candidate
        The best first.
    threshold : float or None
        What the best must reach; None if nobody measured one.
    unit : {"nats", "cosine"}
        Of the threshold.
    basis : str
        Where the threshold comes from, in words.
    margin : float or None
        The lead over the runner-up, nats; None without one or without a calibrator.
    reason : str
        Why it is not known; "" if it is.
    warnings : tuple of str
    """

    name: str | None
    verdict: str
    candidates: tuple[Candidate, ...]
    threshold: float | None
    unit: str
    basis: str
    margin: float | None
    reason: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """The attributes as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if not self.candidates:
            return f"unknown: {self.reason}"
        best, *others = self.candidates
        behind = f"; next {others[0].name!r} ({others[0].score:.3f})" if others else ""
        lead = f", {self.margin:.2f} nats behind" if behind and self.margin is not None else ""
        llr = "" if best.llr is None else f", LLR {best.llr:.2f} nats"
        what = f"{best.name!r} (cosine {best.score:.3f}{llr}){behind}{lead}"
        if self.threshold is not None:
            what += f"; threshold {Threshold(self.threshold, self.unit, '')}: {self.basis}"
        return f"known: {what}" if self.verdict == "known" else f"{self.verdict}: {self.reason}; best {what}"


@dataclass(frozen=True)
class Threshold:
    """What the evidence for a person must reach: `value` in `unit` ("nats" or "cosine"), None if nobody measured one;
    `basis` says where it comes from, or why there is none."""

    value: float | None
    unit: str
    basis: str

    def __str__(self) -> str:
        return f"{self.value:.2f} nats" if self.unit == "nats" else f"a cosine of {self.value:.3f}"


def gallery_threshold(calibrator: Calibrator | None, point: str | None, people: int) -> Threshold:
    """The LLR from which on somebody of N people is known: a calibrator's point raised by ln N.

    There is none without a calibrator, or where its trials do not support the point for so many people.

    >>> from alpha_sv.scoring.calibrator import OperatingPoint
    >>> line = Calibrator(20.0, -6.0, points=(OperatingPoint("fpr 1e-2", 2.0, 200, 9, 20000, 400),))
    >>> print(gallery_threshold(line, None, 1), gallery_threshold(line, None, 20), sep=", ")
    2.00 nats, 5.00 nats
    """
    unit = "cosine" if calibrator is None else "nats"
    chosen, reason = choose_point(calibrator, point or (POINT if calibrator else None))
    if chosen is None or reason:
        return Threshold(None, unit, reason)
    raised = chosen.threshold + math.log(max(1, people))
    if not calibrator.reaches(raised):
        return Threshold(None, unit, f"the calibration trials do not support {chosen.name!r} for {people} people")
    return Threshold(raised, unit, f"{chosen.name!r} for {people} people; {describe_point(calibrator, chosen)}")


def decide(
    candidates: Sequence[Candidate],
    threshold: Threshold,
    margin: float | None = None,
    warnings: Sequence[str] = (),
) -> Identification:
    """The verdict on candidates, the best first.

    Parameters
    ----------
    candidates : sequence of Candidate
    threshold : Threshold
    margin : float, optional
        By how many nats the best leads; None without a runner-up or without a calibrator.

    Example
    -------
    >>> ann, bob = Candidate("Ann", 0.7, None), Candidate("Bob", 0.6, None)
    >>> half = Threshold(0.5, "cosine", "my own")
    >>> decide([ann, bob], half, 2.0).verdict, decide([ann, bob], half, 4.0).name
    ('too close', 'Ann')
    """
    candidates = tuple(candidates)
    values = [one.llr if threshold.unit == "nats" else one.score for one in candidates[:2]]
    name, verdict, reason = None, "unknown", ""
    if not candidates:
        reason = "nobody is enrolled"
    elif threshold.value is None:
        reason = threshold.basis
    elif values[0] < threshold.value:
        reason = f"nobody reaches the threshold, {threshold}"
    elif len(values) > 1 and (values[1] >= threshold.value if margin is None else margin < MIN_MARGIN):
        verdict, reason = "too close", f"it may be {candidates[0].name!r} or {candidates[1].name!r}"
    else:
        name, verdict = candidates[0].name, "known"
    said = (threshold.value, threshold.unit, threshold.basis)
    return Identification(name, verdict, candidates, *said, margin, reason, tuple(warnings))


@dataclass(frozen=True)
class OpenSetRates:
    """FPIR and FNIR with the errors and searches they are made of; rates are None where there was no search."""

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
    Two searches of enrolled people, the second finds the wrong one; a stranger who is taken for one:

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
    """Exact interval of a rate; numbers that are not whole (counts shared among samples) are let through.

    >>> [round(bound, 4) for bound in clopper_pearson(0, 59)], [round(bound, 4) for bound in clopper_pearson(5, 10)]
    ([0.0, 0.0606], [0.1871, 0.8129])
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
    """The lowest threshold at which strangers pass in at most `fpir` of the searches, with confidence.

    Parameters
    ----------
    tops : array [S]
        The best score of each search of a stranger.
    people : array [S]
        Who the strangers are. Searches of one person are no independent evidence, so the interval (Clopper and
        Pearson, one side) counts people: each has the share of his or her searches that pass.
    fpir, confidence : float
        In (0, 1).

    Returns
    -------
    (float or None, int)
        The threshold, None where even no false alarm would not show it; and how many more people would.

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
