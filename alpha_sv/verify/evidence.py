"""What two sets of recordings say together: the mean over all pairs of one recording from either set.

A calibrator, and so a threshold, is fitted to pairs of single recordings. The mean over pairs has the expectation of
one pair and a smaller spread, so that a threshold measured on single pairs lets through no more strangers when people
are enrolled with more recordings. The cosine between the normalised mean embeddings does not have this property: it
grows with the number of recordings, for strangers too. The mean of the cosines is the dot product of the means of unit
embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.scoring.llr_bounds import limit
from alpha_sv.scoring.qualities import duration_qualities

_DURATIONS = frozenset({"log_duration_min", "log_duration_max"})


@dataclass(frozen=True, eq=False)
class Sounds:
    """N recordings: unit embeddings [N, D] and lengths in seconds [N]."""

    vectors: np.ndarray
    seconds: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, seconds: np.ndarray) -> Sounds:
        """From embeddings of any length but zero.

        >>> Sounds.of([[3.0, 4.0]], [2.5]).vectors.tolist()
        [[0.6, 0.8]]
        """
        vectors = np.asarray(embeddings, dtype=np.float64)
        return cls(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.asarray(seconds, dtype=np.float64))


def takes_pairs(calibrator: Calibrator) -> bool:
    """Whether a calibrator needs no more than the cosine of two recordings and their lengths.

    >>> takes_pairs(Calibrator(10.0, -3.0)), takes_pairs(Calibrator(10.0, -3.0, kind="as-norm top 300"))
    (True, False)
    """
    names = {quality.name for quality in calibrator.qualities}
    return calibrator.weight > 0 and calibrator.kind in (None, "cosine") and names <= _DURATIONS


def require_pairs(calibrator: Calibrator | None) -> None:
    """ValueError unless `takes_pairs`."""
    if calibrator is None or takes_pairs(calibrator):
        return
    if calibrator.weight <= 0:
        what = f"has a weight of {calibrator.weight:g}, as of distances"
    elif calibrator.kind not in (None, "cosine"):
        what = f"was fitted to scores of the kind {calibrator.kind!r}"
    else:
        what = f"needs the quality measures {', '.join(quality.name for quality in calibrator.qualities)}"
    raise ValueError(
        f"this calibrator {what}; here one of plain cosines is wanted (durations may help): alpha-sv calibrate"
    )


def cosines(a: Sounds, b: Sounds) -> np.ndarray:
    """Of all pairs [A, B]."""
    return np.clip(a.vectors @ b.vectors.T, -1.0, 1.0)


def nats(calibrator: Calibrator, scores: np.ndarray, a: Sounds, b: Sounds) -> np.ndarray:
    """LLRs of all pairs [A, B] from their cosines, before they are held within the calibrator's bounds.

    >>> sounds = Sounds.of([[1.0, 0.0], [0.0, 1.0]], [2.0, 3.0])
    >>> nats(Calibrator(10.0, -3.0, bounds=(-1.0, 1.0)), cosines(sounds, sounds), sounds, sounds).tolist()
    [[7.0, -3.0], [-3.0, 7.0]]
    """
    llrs = calibrator.offset + calibrator.weight * scores
    if calibrator.qualities:
        sides = (np.ravel(side) for side in np.broadcast_arrays(a.seconds[:, None], b.seconds[None, :]))
        measures = duration_qualities(*sides)
        for quality in calibrator.qualities:
            values = np.clip(measures[quality.name], *quality.ends).reshape(scores.shape)
            llrs = llrs + quality.weight * (values - quality.mean) / quality.scale
    return llrs


def held(calibrator: Calibrator, llr: float) -> float:
    """An LLR within the calibrator's bounds."""
    return llr if calibrator.bounds is None else float(limit(np.array([llr]), calibrator.bounds)[0])
