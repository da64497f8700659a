"""How well the people of a gallery are told apart, from their own recordings.

Every sample is a search twice. As one of its person: against everybody, its person being enrolled
by the other samples only, so a person needs two. As one of a stranger: against everybody but its
person. A cohort of recordings of other people are strangers as well. From these searches come FPIR
and FNIR at a threshold, and the lowest threshold that the strangers support, if they support one.

Samples of one person are no independent evidence, so intervals (Clopper and
Pearson) count people, each with the share of his or her searches that err.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.evidence import Sounds
from alpha_sv.verify.gallery_voices import Voices
from alpha_sv.verify.open_set import Threshold
from alpha_sv.verify.open_set_rates import clopper_pearson, supported_threshold

OWN_FPIR = 0.05  # what a threshold from the gallery's own voices keeps to, with 95 % confidence
_OUTLIER = 3.5  # robust standard deviations: the usual rule of Iglewicz and Hoaglin
_BLOCK = 1024


@dataclass(frozen=True)
class Overlap:
    """Two people who are taken for each other: in so many of the searches of their samples."""

    first: str
    second: str
    confused: int
    searches: int


@dataclass(frozen=True)
class Misfit:
    """A sample that does not fit: the evidence for its
    person without it, and for the nearest other person."""

    name: str
    file: str
    score: float
    nearest: str | None
    nearest_score: float | None
    why: str


@dataclass(frozen=True)
class GalleryCheck:
    """What `check_voices` found; ``print(check)`` says it in words.

    `rates` has fpir and fnir with their counts, `intervals` the 95 % intervals of both, or None;
    all at `threshold`. `own_threshold` is that of the gallery's own voices; `needs` says why there
    is none and what would give one.
    """

    people: int
    samples: int
    strangers: int
    threshold: float | None
    unit: str
    basis: str
    rates: dict
    intervals: dict
    own_threshold: float | None
    needs: str
    single: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    misfits: tuple[Misfit, ...]

    def to_json(self) -> dict:
        """The attributes as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.people} people, {self.samples} samples; {self.strangers} people heard as strangers"
        at = Threshold(self.threshold, self.unit, self.basis)
        yield self.basis if self.threshold is None else f"at {at} ({self.basis}):"
        for key, what in (("fpir", "a stranger is taken for somebody"), ("fnir", "an enrolled person is not found")):
            errors, searches = self.rates[key]
            if self.threshold is not None and searches:
                low, high = self.intervals[key]
                rate = f"{100 * errors / searches:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
                yield f"  {key.upper()} {rate}: {what} in {errors} of {searches} searches"
        if self.own_threshold is None:
            yield f"no threshold from these voices alone: {self.needs}"
        else:
            own = Threshold(self.own_threshold, self.unit, "")
            yield f"these voices support a threshold of {own} (FPIR at most {OWN_FPIR:.0%})"
        if self.single:
            names = ", ".join(self.single)
            yield f"one sample only, so nobody knows whether they are found: {names}; enrol one more sample of each"
        for pair in self.overlaps:
            yield f"overlap: {pair.first} and {pair.second}, in {pair.confused} of {pair.searches} searches"
        for misfit in self.misfits:
            yield f"does not fit {misfit.name}: {misfit.file} ({misfit.score:.3f} {self.unit}; {misfit.why})"


def searches(voices: Voices, calibrator: Calibrator | None) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of samples: their rows, evidence for every
    person [B, N], and for their own without them [B].

    The own one is NaN for a person's only sample.
    """
    counts, sounds = voices.counts, voices.sounds
    for start in range(0, len(voices.person), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(voices.person)))
        person, index = voices.person[rows], np.arange(rows.stop - rows.start)
        pairs = voices.evidence(Sounds(sounds.vectors[rows], sounds.seconds[rows]), calibrator)
        sums = voices.sums(pairs)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = (sums[index, person] - pairs[index, start + index]) / (counts[person] - 1)
        yield rows, sums / counts, np.where(counts[person] > 1, own, np.nan)


def strangers(
    voices: Voices, cohort: Sounds | None = None, calibrator: Calibrator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The best evidence of each search of a stranger,
    and who that is (one number per person): [M], [M]."""
    tops, people = [], []
    if len(voices.names) > 1:
        for rows, values, _ in searches(voices, calibrator):
            person = voices.person[rows]
            values[np.arange(len(person)), person] = -np.inf
            tops.append(values.max(axis=1))
            people.append(person)
    if cohort is not None and len(cohort.seconds) and voices.names:
        tops.append((voices.sums(voices.evidence(cohort, calibrator)) / voices.counts).max(axis=1))
        people.append(len(voices.names) + np.arange(len(cohort.seconds)))
    return (np.concatenate(tops), np.concatenate(people)) if tops else (np.empty(0), np.empty(0, dtype=int))


def own_threshold(
    voices: Voices, cohort: Sounds | None = None, calibrator: Calibrator | None = None
) -> tuple[float | None, str]:
    """The lowest evidence that keeps FPIR at or below 5 %
    with 95 % confidence, or None and what is missing."""
    tops, people = strangers(voices, cohort, calibrator)
    threshold, missing = supported_threshold(tops, people, OWN_FPIR) if len(tops) else (None, None)
    if threshold is not None:
        return threshold, ""
    if missing is None:
        return None, "there are no strangers to try; enrol more people, or give a cohort of other voices"
    return None, (
        f"{len(np.unique(people))} people as strangers cannot show an FPIR of {OWN_FPIR:.0%}; at least {missing} more "
        f"samples of {missing} other people would, enrolled or as a cohort"
    )


def check_voices(
    voices: Voices, threshold: Threshold, cohort: Sounds | None = None, calibrator: Calibrator | None = None
) -> GalleryCheck:
    """Error rates, overlapping people and misfits of a gallery.

    Parameters
    ----------
    voices : Voices
    threshold : Threshold
        At which FPIR and FNIR are counted; without a value,
        that of the gallery's own voices, if there is one.
    cohort : Sounds, optional
        Strangers, each recording of another person.
    calibrator : Calibrator, optional
        Evidence is then in nats, and cosines without one.
    """
    unit = "cosine" if calibrator is None else "nats"
    if threshold.unit != unit:
        raise ValueError(f"the evidence is in {unit}, the threshold in {threshold.unit}")
    if cohort is not None and voices.names and cohort.vectors.shape[1:] != voices.sounds.vectors.shape[1:]:
        raise ValueError(f"the cohort is [M, {voices.sounds.vectors.shape[1]}], got {cohort.vectors.shape}")
    own_limit, needs = own_threshold(voices, cohort, calibrator)
    if threshold.value is None and own_limit is not None:
        threshold = Threshold(own_limit, unit, "by these voices")
    own, nearest, nearest_score = _own_and_nearest(voices, calibrator)
    tops, people = strangers(voices, cohort, calibrator)
    heard = ~np.isnan(own)
    limit = np.inf if threshold.value is None else threshold.value
    passed, missed = tops >= limit, (own < limit) | (nearest_score >= own)  # ties are held against the mate
    outcomes = {"fpir": (passed, people), "fnir": (missed[heard], voices.person[heard])}
    return GalleryCheck(
        people=len(voices.names),
        samples=len(voices.person),
        strangers=len(np.unique(people)),
        threshold=threshold.value,
        unit=unit,
        basis=threshold.basis,
        rates={key: (int(errors.sum()), len(errors)) for key, (errors, _) in outcomes.items()},
        intervals={key: None if threshold.value is None else _interval(*both) for key, both in outcomes.items()},
        own_threshold=own_limit,
        needs=needs,
        single=tuple(np.array(voices.names, dtype=object)[voices.counts == 1]),
        overlaps=tuple(_overlaps(voices, own, nearest, nearest_score, limit)),
        misfits=tuple(_misfits(voices, own, nearest, nearest_score)),
    )


def _own_and_nearest(voices: Voices, calibrator: Calibrator | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each sample: the evidence for its person without it (NaN if there is nothing else),
    the nearest other person (-1 if there is none) and the evidence for that one (NaN)."""
    own, nearest_score = np.full((2, len(voices.person)), np.nan)
    nearest = np.full(len(voices.person), -1)
    for rows, scores, mine in searches(voices, calibrator):
        own[rows] = mine
        if len(voices.names) > 1:
            scores[np.arange(len(mine)), voices.person[rows]] = -np.inf
            nearest[rows], nearest_score[rows] = scores.argmax(axis=1), scores.max(axis=1)
    return own, nearest, nearest_score


def _interval(errors: np.ndarray, people: np.ndarray) -> tuple[float, float] | None:
    """Of a rate, counting people, each with the share of his or her searches that err."""
    if not len(errors):
        return None
    _, index, sizes = np.unique(people, return_inverse=True, return_counts=True)
    return clopper_pearson(min(len(sizes), float((np.bincount(index, errors) / sizes).sum())), len(sizes))


def _overlaps(voices, own, nearest, nearest_score, limit) -> Iterator[Overlap]:
    """Pairs of which a sample is nearer the other person than its own, or passes for the other."""
    confused = (nearest >= 0) & ((nearest_score >= own) | (nearest_score >= limit))  # NaN compares as false
    pairs = np.sort(np.stack([voices.person, nearest], axis=1)[confused], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    for place in np.argsort(-counts, kind="stable"):
        first, second = found[place]
        total = int(voices.counts[first] + voices.counts[second])
        yield Overlap(voices.names[first], voices.names[second], int(counts[place]), total)


def _misfits(voices, own, nearest, nearest_score) -> Iterator[Misfit]:
    """Samples nearer another person, or far below what
    samples of this gallery have with their own people."""
    known = own[~np.isnan(own)]
    low = -np.inf
    if len(known) >= 10:  # fewer do not show a spread
        middle = np.median(known)
        low = middle - _OUTLIER * 1.4826 * np.median(np.abs(known - middle))
    # one recording of another person lowers the cosines
    # of the others of its person, which are not to blame
    spoilt = set(voices.person[nearest_score >= own].tolist())
    for row in np.argsort(own, kind="stable"):
        other = None if nearest[row] < 0 else voices.names[nearest[row]]
        if nearest_score[row] >= own[row]:
            why = f"nearer {other}, {nearest_score[row]:.3f}"
        elif own[row] < low and voices.person[row] not in spoilt:
            why = f"most samples here have more than {low:.3f} with their own person"
        else:
            continue
        score = None if other is None else float(nearest_score[row])
        yield Misfit(voices.names[voices.person[row]], voices.files[row], float(own[row]), other, score, why)
