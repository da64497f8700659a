"""Same speaker or not: a cosine, a log-likelihood ratio,
a threshold that somebody measured, and what follows.

The rules, in this order. `same` is None, "cannot say", if

1. a recording is refused by the quality rules (`alpha_sv.verify.quality`);
2. there is neither a calibrator nor a threshold of the caller's own;
3. the calibration trials do not support the operating point: a rate that rests on fewer
   than 10 counted false accepts, or a threshold beyond the LLRs that the trials support.

Otherwise it is whether the LLR reaches the point's threshold, or the cosine the caller's own one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alpha_sv.scoring.calibrator import Calibrator, OperatingPoint
from alpha_sv.verify.evidence import Sounds, cosines, held, nats, require_model, require_pairs, takes_pairs
from alpha_sv.verify.quality import Finding, Quality, findings, measure
from alpha_sv.verify.waveforms import recordings

if TYPE_CHECKING:
    from alpha_sv.verify.model import SpeakerModel

POINTS = ("fpr 1e-3", "fpr 1e-2")  # the first that the calibration trials support is the default


@dataclass(frozen=True)
class Sample:
    """One recording that was listened to: its name, file,
    embedding [D], quality, and the rules it breaks."""

    name: str
    path: str | None
    embedding: np.ndarray
    quality: Quality
    findings: tuple[Finding, ...]

    @property
    def refusals(self) -> list[str]:
        return [f"{self.name}: {finding.message}" for finding in self.findings if finding.refused]

    @property
    def warnings(self) -> list[str]:
        return [f"{self.name}: {finding.message}" for finding in self.findings if not finding.refused]


@dataclass(frozen=True)
class Decision:
    """Whether two sides are one speaker; ``print(decision)`` says it in words.

    Attributes
    ----------
    score : float
        Cosine, in [-1, 1]; the mean over all pairs where a side has several recordings.
    llr : float or None
        Natural-log likelihood ratio, nats, the mean likewise; None without a calibrator.
    threshold : float or None
        What was compared with: nats, or a cosine if the caller gave it.
    point : str or None
        Name of the operating point, such as "fpr 1e-3".
    same : bool or None
        None: cannot say.
    reason : str
        Why it cannot say; "" if it can.
    cosine_threshold : float or None
        The threshold as a cosine, for recordings of these lengths.
    measured : OperatingPoint or None
        The point with the errors that were counted at it.
    measured_on : str
        The trials behind it, in words.
    warnings : tuple of str
        What the quality rules say of the recordings, and other things to know.
    """

    score: float
    llr: float | None = None
    threshold: float | None = None
    point: str | None = None
    same: bool | None = None
    reason: str = ""
    cosine_threshold: float | None = None
    measured: OperatingPoint | None = None
    measured_on: str = ""
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        value = f"cosine {self.score:.3f}" if self.llr is None else f"LLR {self.llr:.2f} nats (cosine {self.score:.3f})"
        if self.same is None:
            return f"cannot say: {self.reason}; {value}"
        verdict, side = ("same speaker", "at or above") if self.same else ("different speakers", "below")
        if self.point is None:
            return f"{verdict}: cosine {self.score:.3f} is {side} {self.threshold:g}, a threshold of your own"
        return f"{verdict}: {value} is {side} {self.threshold:.2f}, the threshold of {self.point!r}; {self.measured_on}"

    def to_json(self) -> dict:
        """The attributes as JSON values."""
        return dataclasses.asdict(self)


def verify(
    model: SpeakerModel,
    a: object,
    b: object,
    *,
    sample_rate: int | None = None,
    point: str | None = None,
    threshold: float | None = None,
    calibrator: Calibrator | None = None,
    check_quality: bool = True,
) -> Decision:
    """Decide whether two sides are one speaker; `SpeakerModel.verify`.

    Parameters
    ----------
    a, b : path, array, tensor, or a list of these
        As for `SpeakerModel.embed`.
        Several recordings on a side are one enrolment; see `alpha_sv.verify.evidence`.
    sample_rate : int, optional
        Hz, of arrays.
    point : str, optional
        An operating point of the calibrator, such as "fpr 1e-3", or "p_target P" for
        any prior P. By default the first of "fpr 1e-3" and "fpr 1e-2" that is supported.
    threshold : float, optional
        A threshold of your own, on the cosine. Not together with `point`.
    calibrator : Calibrator, optional
        Instead of the one that came with the model.
        It must have been fitted to cosines of this model.
    check_quality : bool
        False: decide on recordings that the quality rules refuse, too;
        their findings become warnings.

    Raises
    ------
    ValueError
        As `SpeakerModel.embed`; no such point; `threshold` is not in [-1, 1] or comes with `point`;
        the calibrator was fitted to something else, or to scores of another model.
    """
    check_request(point, threshold)
    calibrator = model.calibrator if calibrator is None else calibrator
    require_model(calibrator, model)
    if threshold is None:
        require_pairs(calibrator)
        chosen, reason = choose_point(calibrator, point)
    sides = [listen(model, side, sample_rate) for side in (a, b)]
    pair = [sounds(side) for side in sides]
    scores = cosines(*pair)
    every = [sample for side in sides for sample in side]
    said = [text for sample in every for text in sample.warnings]
    refused = [text for sample in every for text in sample.refusals]
    if scores.max() > 1 - 1e-9:
        said.append("one recording is on both sides")
    known = {"score": float(scores.mean()), "warnings": (*said, *(() if check_quality else refused))}
    if calibrator is not None and takes_pairs(calibrator):
        raw = float(nats(calibrator, scores, *pair).mean())
        known["llr"] = held(calibrator, raw)
    if threshold is not None:
        known |= {"threshold": float(threshold), "cosine_threshold": float(threshold)}
        same = bool(known["score"] >= threshold)
    elif chosen is not None:
        known |= {"threshold": chosen.threshold, "point": chosen.name, "measured": chosen}
        known["cosine_threshold"] = known["score"] + (chosen.threshold - raw) / calibrator.weight
        known["measured_on"] = describe_point(calibrator, chosen)
        same = None if reason else raw >= chosen.threshold
    else:
        same = None
    if refused and check_quality:
        same, reason = None, "; ".join(refused)
    return Decision(**known, same=same, reason="" if same is not None else reason)


def listen(model: SpeakerModel, inputs: object, sample_rate: int | None = None) -> list[Sample]:
    """Measure and embed recordings; ValueError as `SpeakerModel.embed`, or if there is none."""
    items = recordings(inputs, sample_rate, model.sample_rate)
    if not items:
        raise ValueError("a list without recordings; give at least one")
    samples = []
    measured = [measure(item.samples(item.sample_rate), item.sample_rate) for item in items]
    embeddings = model.embed(items)
    for item, quality, embedding in zip(items, measured, embeddings, strict=True):
        samples.append(Sample(item.path or item.name, item.path, embedding, quality, findings(quality)))
    return samples


def sounds(samples: Sequence[Sample]) -> Sounds:
    """The recordings as evidence."""
    return Sounds.of([sample.embedding for sample in samples], [sample.quality.seconds for sample in samples])


def check_request(point: str | None, threshold: float | None) -> None:
    """ValueError unless at most one is given and a threshold is a cosine."""
    if threshold is None:
        return
    if point is not None:
        raise ValueError(f"point {point!r} and threshold {threshold!r} are two thresholds; give one of them")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not -1 <= threshold <= 1:
        raise ValueError(f"threshold is on the cosine, from -1 to 1; got {threshold!r}. For nats give a point")


def choose_point(calibrator: Calibrator | None, name: str | None) -> tuple[OperatingPoint | None, str]:
    """The operating point to decide at, and why one cannot decide there ("" if one can).

    >>> points = (
    ...     OperatingPoint("fpr 1e-3", 7.5, 2, 30, 2000, 90),
    ...     OperatingPoint("fpr 1e-2", 4.5, 20, 9, 2000, 90),
    ... )
    >>> calibrator = Calibrator(10.0, -3.0, points=points)
    >>> choose_point(calibrator, None)[0].name
    'fpr 1e-2'
    >>> choose_point(calibrator, "fpr 1e-3")[1].split(": ")[1]
    '2 false accepts in 2,000 nontarget trials, 10 are needed'
    """
    if calibrator is None:
        if name is not None:
            raise ValueError(f"the point {name!r} needs a calibrator, and this model came with none; give one")
        return (
            None,
            "the model came without a calibrator, so nobody measured a threshold; give a calibrator or threshold",
        )
    if name is None:
        known = [p for p in POINTS if any(point.is_called(p) for point in calibrator.points)]
        name = next((p for p in known if calibrator.supports(p)), None)
        if name is None:
            supported = ", ".join(repr(point.name) for point in calibrator.points if point.supports()) or "none"
            return None, f"the calibration trials support none of {', '.join(POINTS)} (supported: {supported})"
    point = _bayes_point(calibrator, name) or calibrator.point(name)
    if point.supports():
        return point, ""
    if point.false_accepts is not None and point.nontargets is not None and point.false_accepts < 10:
        why = f"{point.false_accepts} false accepts in {point.nontargets:,} nontarget trials, 10 are needed"
    else:
        why = f"its threshold of {point.threshold:.2f} nats is beyond the LLRs that they can tell"
    return point, f"the calibration trials do not support {point.name!r}: {why}"


def describe_point(calibrator: Calibrator, point: OperatingPoint) -> str:
    """What a threshold was measured on and how often it errs there, in words."""
    targets, nontargets = (
        getattr(point, side) or calibrator.support.get(side) or calibrator.provenance.get(side)
        for side in ("targets", "nontargets")
    )
    if not targets or not nontargets:
        return "the calibrator does not say what it was fitted to"
    speakers = point.speakers or calibrator.support.get("speakers")
    corpora = calibrator.provenance.get("fitted_to")
    where = f" ({', '.join(map(str, corpora))})" if isinstance(corpora, (dict, list)) and corpora else ""
    on = f"{targets:,} target and {nontargets:,} nontarget trials"
    on += f" of {speakers:,} speakers{where}" if speakers else where
    if point.false_accepts is None or point.misses is None:
        return f"calibrated on {on}"
    rates = 100 * point.false_accepts / nontargets, 100 * point.misses / targets
    return (
        f"measured on {on}: {point.false_accepts:,} false accepts ({rates[0]:.2g} %), "
        f"{point.misses:,} misses ({rates[1]:.2g} %)"
    )


def _bayes_point(calibrator: Calibrator, name: str) -> OperatingPoint | None:
    """ "p_target P" for any P, by Bayes: ln((1 - P) / P);
    None for other names and for points that are there."""
    word, _, number = name.partition(" ")
    if word != "p_target" or any(point.is_called(name) for point in calibrator.points):
        return None
    try:
        prior = float(number)
    except ValueError:
        return None
    if not 0 < prior < 1:
        raise ValueError(f"p_target is a probability strictly between 0 and 1, got {number}")
    threshold = math.log((1 - prior) / prior)
    return OperatingPoint(name, threshold, supported=calibrator.reaches(threshold))
