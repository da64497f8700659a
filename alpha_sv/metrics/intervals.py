"""The replicates of a bootstrap, and the percentile intervals they give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alpha_sv.metrics.dcf import P_TARGETS
from alpha_sv.metrics.errors import FPRS

MIN_SPEAKERS = 10  # with 5, a 95 % interval of the EER misses the truth about three times as often as it says


@dataclass(frozen=True, eq=False)
class SpeakerBootstrap:
    """What `speaker_bootstrap` measured: M metrics of S systems, on the list and on R' usable replicates of it.

    Parameters
    ----------
    metrics : tuple of str, length M
        "eer", "min_dcf 0.01", "min_dcf 0.05", "fnr at fpr 1e-2" (1e-3, 1e-4), "min_cllr", and for LLRs "cllr",
        "act_dcf 0.01", "act_dcf 0.05".
    observed : float64 [S, M]
        On the list itself.
    draws : float64 [R', S, M]
        On the replicates, the same draws of speakers for all systems.
    supported : bool [S, M]
        False for an FNR that rests on fewer than 10 false accepts of the list.
    speakers, replicates, undefined : int
        Speakers of the list; replicates drawn; those of them without a target or without a nontarget trial
        (R' = replicates - undefined).
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

        ``fnr_at_fpr`` has None where the rate is not supported; ``cllr`` and ``act_dcf`` are None unless the scores
        are LLRs.
        """
        bounds = dict(zip(self.metrics, self.interval(self.draws[:, system]), strict=True))
        known = dict(zip(self.metrics, self.supported[system].tolist(), strict=True))
        return {
            **self.settings(),
            "eer": bounds["eer"],
            "min_dcf": [bounds[dcf_name("min", p)] for p in P_TARGETS],
            "fnr_at_fpr": [bounds[fnr_name(f)] if known[fnr_name(f)] else None for f in FPRS],
            "min_cllr": bounds["min_cllr"],
            "cllr": bounds.get("cllr"),
            "act_dcf": [bounds[dcf_name("act", p)] for p in P_TARGETS] if "cllr" in bounds else None,
            "undefined": self.undefined,
        }


def too_few_speakers(enroll_speakers: np.ndarray, test_speakers: np.ndarray, labels: np.ndarray) -> str:
    """Why the speakers of a trial list support no interval; "" if they do.

    Both kinds of trials need `MIN_SPEAKERS` speakers: all draws of the one speaker of a kind are alike, and an interval
    of no width would look like certainty.

    Example
    -------
    >>> too_few_speakers(np.array(["a", "a"]), np.array(["a", "b"]), np.array([True, False]))
    '1 speakers have target and 2 nontarget trials, and an interval needs 10 of either kind'
    """
    target, nontarget = (
        len({*enroll_speakers[side].tolist(), *test_speakers[side].tolist()}) for side in (labels, ~labels)
    )
    if min(target, nontarget) >= MIN_SPEAKERS:
        return ""
    return (
        f"{target} speakers have target and {nontarget} nontarget trials, and an interval needs {MIN_SPEAKERS} of "
        "either kind"
    )


def dcf_name(kind: str, p_target: float) -> str:
    return f"{kind}_dcf {p_target}"


def fnr_name(fpr: float) -> str:
    return f"fnr at fpr {fpr:.0e}".replace("e-0", "e-")
