"""What a study measured: means over seeds with intervals
over speakers, and paired differences of two rows.

Every run of a corpus is a system of one bootstrap, so all share the same draws of speakers; a row
is the mean of its seeds in each draw. Two rows are compared over the seeds that both have. A list
of fewer than ten speakers of either kind of trials has no intervals. `tables.py` writes and
`figures.py` draws the same estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alpha_sv.metrics import SpeakerBootstrap, evaluate, speaker_bootstrap, too_few_speakers
from alpha_sv.metrics.names import values_by_key
from alpha_sv.pipeline.evaluate import load_systems
from alpha_sv.pipeline.speakers import sides_speakers

METRICS = {
    "eer": ("EER %", 100, 2),
    "min_dcf 0.01": ("minDCF 0.01", 1, 3),
    "fnr at fpr 1e-2": ("FNR % at FPR 1 %", 100, 2),
    "fnr at fpr 1e-3": ("FNR % at FPR 0.1 %", 100, 2),
}
"""Metric → its name, the factor to its unit, and decimal places.
minDCF is normalised by min(p, 1 − p) = 0.01."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """The S runs of a model on one corpus with one kind of scores.

    `observed` and `supported` are of each metric, [S];
    `boot` is their joint bootstrap, or None for too few speakers.
    """

    runs: list
    observed: dict[str, np.ndarray]
    supported: dict[str, np.ndarray]
    boot: SpeakerBootstrap | None

    def seeds(self, row: str) -> dict[int, int]:
        """Seed → the run's number. A model as it comes is that of every seed."""
        found = {run.seed: number for number, run in enumerate(self.runs) if run.row == row}
        fixed = [number for number in found.values() if getattr(self.runs[number], "as_it_is", False)]
        return {run.seed: fixed[0] for run in self.runs} if fixed else found

    def level(self, row: str, metric: str) -> tuple[float, float, float, float] | None:
        """Mean over seeds, interval over speakers,
        and standard deviation of one seed (NaN of a single one).

        None if there is no such run, or the metric rests on too few errors.
        """
        return _summary([self.sample(metric, list(self.seeds(row).values()))])

    def difference(self, row: str, baseline: str, metric: str) -> tuple[float, float, float, float] | None:
        """As `level`, of row − baseline, over the seeds that both have."""
        return difference([self], row, baseline, metric)

    def sample(self, metric: str, plus: list[int], minus: list[int] | None = None) -> Sample | None:
        """Of those runs, or of plus − minus pair by pair."""
        if not plus or not self.supported[metric][[*plus, *(minus or [])]].all():
            return None

        def over_seeds(values: np.ndarray) -> np.ndarray:  # [..., S] to [..., seeds]
            return METRICS[metric][1] * (values[..., plus] - (values[..., minus] if minus is not None else 0))

        if self.boot is None:
            return Sample(over_seeds(self.observed[metric]), None, self.boot)
        draws = self.boot.draws[..., self.boot.metrics.index(metric)]
        return Sample(over_seeds(self.observed[metric]), over_seeds(draws).mean(1), self.boot)


class Sample(NamedTuple):
    """A figure of every seed, [seeds], and its mean in each draw of speakers, [R]."""

    values: np.ndarray
    draws: np.ndarray | None
    boot: SpeakerBootstrap | None


def difference(lists: list[Estimates], row: str, baseline: str, metric: str) -> tuple | None:
    """Row − baseline as `Estimates.difference`,
    the mean of several lists of trials, which have no speaker in common.

    None if a list lacks it.
    """
    samples = []
    for of in lists:
        ours, theirs = of.seeds(row), of.seeds(baseline)
        common = sorted(ours.keys() & theirs.keys())
        samples.append(of.sample(metric, [ours[seed] for seed in common], [theirs[seed] for seed in common]))
    return _summary(samples)


def over_lists(lists: list[Estimates], row: str, baseline: str | None, metric: str) -> tuple[tuple | None, int, int]:
    """The row, or row − baseline, as the mean of the lists
    that have both, over the seeds that all of these have.

    Returns
    -------
    (estimate, lists, seeds)
        The estimate is as of `Estimates.level`, None if a list has too few errors;
        how many lists and seeds it is of.
    """
    wanted = [row] if baseline is None else [row, baseline]
    having = [of for of in lists if all(of.seeds(name) for name in wanted)]
    if not having:
        return None, 0, 0
    common = sorted(set.intersection(*(set(of.seeds(name)) for of in having for name in wanted)))
    runs = [[[of.seeds(name)[seed] for seed in common] for name in wanted] for of in having]
    return _summary([of.sample(metric, *pair) for of, pair in zip(having, runs, strict=True)]), len(having), len(common)


def _summary(samples: list[Sample | None]) -> tuple[float, float, float, float] | None:
    """The mean of the lists: it, an interval over speakers,
    and the standard deviation of one seed."""
    if not samples or None in samples:
        return None
    values, bounds = np.mean([sample.values for sample in samples], axis=0), (math.nan, math.nan)
    if all(sample.boot is not None for sample in samples):
        least = min(len(sample.draws) for sample in samples)
        shifted = [np.roll(sample.draws[:least], number) for number, sample in enumerate(samples)]  # independent draws
        bounds = samples[0].boot.interval(np.mean(shifted, axis=0))
    return float(values.mean()), *bounds, float(values.std(ddof=1)) if len(values) > 1 else math.nan


def estimates(runs: list, done: dict, corpus: str, kind: str, output, replicates: int = 1000) -> Estimates:
    """Of those `runs` that are done; they share their trials."""
    runs = [run for run in runs if run.key in done]
    files = [(run.name, str(output / run.key / done[run.key]["scores"][corpus][kind])) for run in runs]
    systems = load_systems(files, trials=str(dict(runs[0].trials)[corpus]))
    labels, sides = systems.trials.labels, sides_speakers(systems.trials)
    few = too_few_speakers(*sides, labels)
    boot = None if few else speaker_bootstrap(systems.scores, *sides, labels, replicates=replicates)
    found = [values_by_key(evaluate(scores[labels], scores[~labels])) for scores in systems.scores]
    observed, supported = ({m: np.array([of[m][place] for of in found]) for m in METRICS} for place in (0, 1))
    return Estimates(runs, observed, supported, boot)
