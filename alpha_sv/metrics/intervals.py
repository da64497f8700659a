"""The replicates of a bootstrap, and the percentile intervals they give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alpha_sv.metrics.checks import checked_labels, checked_speakers
from alpha_sv.metrics.names import METRICS, field_keys

MIN_SPEAKERS = 10  # with 5, a 95 % interval of the EER misses the truth about three times as often as it says


@dataclass(frozen=True, eq=False)
class SpeakerBootstrap:
    """What `speaker_bootstrap` measured: M metrics of S systems on R' usable replicates.

    Parameters
    ----------
    metrics : tuple of str, length M
        Keys of `alpha_sv.metrics.names.METRICS`; those with ``llr`` for log-likelihood ratios only.
    observed : float64 [S, M]
        On the list itself.
    draws : float64 [R', S, M]
        On the replicates, the same draws of speakers for all systems.
    supported : bool [S, M]
        False for an FNR that rests on fewer than 10 false accepts of the list.
    speakers, replicates, undefined : int
        Speakers of the list; replicates drawn; those of them without a target or without a
        nontarget trial (R' = replicates - undefined).
    level, seed : float, int
        As given.
    """

    metrics: tuple[str, ...]
    observed: np.ndarray
    draws: np.ndarray
    supported: np.ndarray
    speakers: int
    replicates: int
    undefined: int
    level: float
    seed: int

    def settings(self) -> dict:
        """The part of metrics.json that says how the intervals were made."""
        return {
            "resampled": "speakers",
            "speakers": self.speakers,
            "replicates": self.replicates,
            "level": self.level,
            "seed": self.seed,
        }

    def interval(self, draws: np.ndarray) -> list:
        """Percentile interval over the first axis: [R', ...] to the nested list [..., 2].

        ValueError if there are so few draws that less than one is expected beyond either bound.
        """
        tail = (1 - self.level) / 2
        if len(draws) * tail < 1 - 1e-9:
            raise ValueError(
                f"{len(draws)} usable replicates do not reach the bounds of a {100 * self.level:g} % interval; take at "
                f"least {math.ceil(1 / tail - 1e-9)} replicates"
            )
        return np.moveaxis(np.quantile(draws, [tail, 1 - tail], axis=0), 0, -1).tolist()

    def intervals(self, system: int = 0) -> dict:
        """The intervals of one system as in metrics.json: [low, high] for each metric.

        ``fnr_at_fpr`` has None where the rate is not supported; ``cllr`` and ``act_dcf`` are None
        unless the scores are LLRs.
        """
        bounds = zip(self.metrics, self.interval(self.draws[:, system]), self.supported[system], strict=True)
        known = {key: limits if supported else None for key, limits, supported in bounds}
        found = self.settings()
        for field in dict.fromkeys(metric.field for metric in METRICS.values()):
            keys = field_keys(field)
            if keys[0] not in known:
                found[field] = None
            elif METRICS[keys[0]].point is None:
                found[field] = known[keys[0]]
            else:
                found[field] = [known[key] for key in keys]
        return {**found, "undefined": self.undefined}


def too_few_speakers(enroll_speakers: np.ndarray, test_speakers: np.ndarray, labels: np.ndarray) -> str:
    """Why the speakers of a trial list support no interval; "" if they do.

    Both kinds of trials need `MIN_SPEAKERS` speakers: all draws of the one speaker of a kind are
    alike, and an interval of no width would look like certainty.

    Parameters
    ----------
    enroll_speakers, test_speakers : array of str or int [N]
        Who speaks on the two sides of each trial.
    labels : array [N]
        True for a target trial, or as `alpha_sv.metrics.checks.checked_labels`.

    Raises
    ------
    ValueError
        Arrays of different lengths, values that are no labels or no names.

    Example
    -------
    >>> too_few_speakers(["a", "a"], ["a", "b"], [1, 0])
    '1 speakers have target and 2 nontarget trials, and an interval needs 10 of either kind'
    """
    labels = checked_labels(labels)
    _, left, right = checked_speakers(enroll_speakers, test_speakers, labels.size)
    return few_speakers(left, right, labels)


def few_speakers(left: np.ndarray, right: np.ndarray, labels: np.ndarray) -> str:
    """`too_few_speakers` of speakers given as numbers and labels that are truth values."""
    target, nontarget = (np.unique(np.concatenate([left[rows], right[rows]])).size for rows in (labels, ~labels))
    if min(target, nontarget) >= MIN_SPEAKERS:
        return ""
    return (
        f"{target} speakers have target and {nontarget} nontarget trials, and an interval needs {MIN_SPEAKERS} of "
        "either kind"
    )
