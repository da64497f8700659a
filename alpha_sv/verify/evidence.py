"""What two sets of recordings say together:
the mean over all pairs of one recording from either set.

A calibrator, and so a threshold, is fitted to pairs of single recordings. The mean over pairs has
the expectation of one pair and a smaller spread, so that a threshold measured on single pairs lets
through no more strangers when people are enrolled with more recordings. The cosine between the
normalised mean embeddings does not have this property: it grows with the number of recordings, for
strangers too. The mean of the cosines is the dot product of the means of unit embeddings.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_sv.files import file_state, sha256_file
from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.scoring.llr_bounds import limit
from alpha_sv.scoring.qualities import duration_qualities

if TYPE_CHECKING:
    from alpha_sv.verify.model import SpeakerModel

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

    >>> takes_pairs(Calibrator(10.0, -3.0))
    True
    >>> takes_pairs(Calibrator(10.0, -3.0, kind="as-norm top 300"))
    False
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


def require_model(calibrator: Calibrator | None, model: SpeakerModel | None) -> None:
    """ValueError if a calibrator is known to be fitted to scores of another model.

    The one that came with the model is believed:
    it may have been fitted to the same network in another format.
    """
    fitted = None if calibrator is None else calibrator.fitted_model
    # vars: where it was not read so far, it is not the one in use
    if fitted is None or model is None or calibrator is vars(model).get("calibrator"):
        return
    state = file_state(model.weights)
    ours = _digest(model.weights, state) if state is not None and os.path.isfile(model.weights) else None
    if ours is not None and ours != fitted:
        raise ValueError(
            f"the calibrator was fitted to scores of the model {fitted[:12]} (SHA-256), and {model.name!r} is "
            f"{ours[:12]}, so its log-likelihood ratios would be wrong; fit one to scores of this model, or, if both "
            "are one network in two formats, put it beside the model as calibrator.json"
        )


def of_older_weights(calibrator: Calibrator, weights: Path) -> bool:
    """Whether a calibrator was fitted to a file of the name of `weights`
    that had another content: the model was trained or converted anew since.

    A file of another name may be the same network in another format.
    """
    fitted, sources = calibrator.fitted_model, calibrator.provenance.get("sources") or {}
    if fitted is None or os.path.basename(str(sources["model"].get("file", ""))) != weights.name:
        return False
    state = file_state(weights)
    return state is not None and weights.is_file() and _digest(weights, state) != fitted


@functools.lru_cache(maxsize=8)
def _digest(weights: Path, state: tuple[int, int]) -> str:
    return sha256_file(weights)


def cosines(a: Sounds, b: Sounds) -> np.ndarray:
    """Of all pairs [A, B]."""
    return np.clip(a.vectors @ b.vectors.T, -1.0, 1.0)


def nats(calibrator: Calibrator, scores: np.ndarray, a: Sounds, b: Sounds) -> np.ndarray:
    """LLRs of all pairs [A, B] from their cosines,
    before they are held within the calibrator's bounds.

    >>> sounds = Sounds.of([[1.0, 0.0], [0.0, 1.0]], [2.0, 3.0])
    >>> line = Calibrator(10.0, -3.0, bounds=(-1.0, 1.0))
    >>> nats(line, cosines(sounds, sounds), sounds, sounds).tolist()
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
