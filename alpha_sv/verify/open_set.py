"""Open-set identification: who of the enrolled people is it, or a stranger? The verdict.

A search compares one recording with N people. With calibrated log-likelihood ratios a stranger
reaches the threshold t with one given person with a probability of at most e^-t, so with any of N
with at most N e^-t (the union bound). Adding ln N to a threshold that was measured on single
comparisons therefore keeps the rate of false alarms whatever the size of the gallery.

The verdict is

* "unknown" if the best person stays below the threshold, or no threshold was measured;
* "too close" if the best is less than ln 19 = 2.94 nats ahead of the runner-up: were it one of
  these two, the best would be the wrong one in more than 5 % of the cases. Without a calibrator, if
  both reach the threshold;
* "known" otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.decision import choose_point, describe_point
from alpha_sv.verify.open_set_rates import (  # noqa: F401  they were here
    OpenSetRates,
    clopper_pearson,
    open_set_rates,
    supported_threshold,
)

MIN_MARGIN = math.log(19)  # nats: 95 % for the best of two
POINT = "fpr 1e-2"  # by default: a stranger is taken for somebody in at most about 1 % of the searches


@dataclass(frozen=True)
class Candidate:
    """An enrolled person, with the mean cosine and LLR (nats;
    None without a calibrator) over all pairs of samples."""

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
        Unit of the threshold.
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
    """What the evidence for a person must reach: `value` in `unit` ("nats" or "cosine"),
    None if nobody measured one; `basis` says where it comes from, or why there is none."""

    value: float | None
    unit: str
    basis: str

    def __str__(self) -> str:
        return f"{self.value:.2f} nats" if self.unit == "nats" else f"a cosine of {self.value:.3f}"


def gallery_threshold(calibrator: Calibrator | None, point: str | None, people: int) -> Threshold:
    """The LLR from which on somebody of N people is known: a calibrator's point raised by ln N.

    There is none without a calibrator,
    or where its trials do not support the point for so many people.

    >>> from alpha_sv.scoring.calibrator import OperatingPoint
    >>> line = Calibrator(
    ...     20.0, -6.0, points=(OperatingPoint("fpr 1e-2", 2.0, 200, 9, 20000, 400),)
    ... )
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
