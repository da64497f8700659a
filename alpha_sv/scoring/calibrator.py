"""A calibrator: the affine map from scores and quality measures to log-likelihood ratios, as data.

    LLR = offset + weight * score + sum_q weight_q * (quality_q - mean_q) / scale_q        (natural logarithm)

It is saved as JSON with the thresholds of named operating points and a note of where it came from; reading one
runs no code. `alpha_sv.scoring.fit_calibration` makes it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from alpha_sv.data.trials.files import ScoreTable
from alpha_sv.files import atomic_write

FORMAT = "alpha_sv.calibration/1"


@dataclass(frozen=True)
class Quality:
    """One quality measure: `weight` is in nats for each `scale` that the measure is above `mean`."""

    name: str
    mean: float
    scale: float
    weight: float

    def __post_init__(self) -> None:
        _check(self, ("mean", "scale", "weight"))
        if self.scale <= 0:
            raise ValueError(f"the field 'scale' must be positive, got {self.scale}")


@dataclass(frozen=True)
class OperatingPoint:
    """Accept a trial when LLR >= threshold (nats).

    `false_accepts` and `misses` are those counted on the calibration trials; None for a threshold that follows
    from prior and costs alone (Bayes).
    """

    name: str
    threshold: float
    false_accepts: int | None = None
    misses: int | None = None

    def __post_init__(self) -> None:
        counts = [name for name in ("false_accepts", "misses") if getattr(self, name) is not None]
        _check(self, ("threshold", *counts))


@dataclass(frozen=True)
class Calibrator:
    """Scores to natural-log LLRs; see the module for the formula.

    Parameters
    ----------
    weight, offset : float
        Nats per unit of the score; nats.
    qualities : tuple of Quality
        Measures that must be given with the scores.
    points : tuple of OperatingPoint
        Named thresholds.
    provenance : dict
        JSON values that say what the calibrator was fitted to.

    Example
    -------
    >>> calibrator = Calibrator(weight=10.0, offset=-3.0, points=(OperatingPoint("p_target 0.01", 4.595),))
    >>> calibrator.llrs([0.5, 0.1]).tolist(), calibrator.threshold("p_target 0.01")
    ([2.0, -2.0], 4.595)
    """

    weight: float
    offset: float
    qualities: tuple[Quality, ...] = ()
    points: tuple[OperatingPoint, ...] = ()
    provenance: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, ("weight", "offset"))
        for kind in ("qualities", "points"):
            names = [entry.name for entry in getattr(self, kind)]
            if len(set(names)) < len(names):
                raise ValueError(f"the field {kind!r} has a name twice ({', '.join(names)}); name each once")

    def llrs(self, scores: np.ndarray, qualities: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """LLRs of N trials, float64 [N] in nats.

        Parameters
        ----------
        scores : array [N]
            Of the kind the calibrator was fitted to (cosines, AS-normed, ...).
        qualities : mapping of name to array [N]
            The measures it was fitted with; more are ignored.

        Raises
        ------
        ValueError
            A measure is missing, or anything is not finite or of another length.
        """
        scores = finite_column("scores", scores)
        given = qualities or {}
        if missing := [quality.name for quality in self.qualities if quality.name not in given]:
            raise ValueError(
                f"this calibrator needs the quality measures {', '.join(missing)}; give them, or fit without"
            )
        llrs = self.offset + self.weight * scores
        for quality in self.qualities:
            values = finite_column(quality.name, given[quality.name], len(scores))
            llrs += quality.weight * (values - quality.mean) / quality.scale
        return llrs

    def apply(self, table: ScoreTable, qualities: Mapping[str, np.ndarray] | None = None) -> ScoreTable:
        """The table with LLRs for scores; see `llrs`."""
        return ScoreTable(table.enroll, table.test, self.llrs(table.scores, qualities), table.labels)

    def threshold(self, name: str) -> float:
        """LLR threshold (nats) of a named operating point; ValueError lists those there are."""
        for point in self.points:
            if point.name == name:
                return point.threshold
        raise ValueError(
            f"no operating point {name!r}; this calibrator has {', '.join(repr(p.name) for p in self.points) or 'none'}"
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, whole or not at all."""
        with atomic_write(path) as file:
            json.dump({"format": FORMAT, **dataclasses.asdict(self)}, file, indent=1, allow_nan=False)
            file.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Calibrator:
        """Read what `save` wrote; ValueError names the file and the field that is wrong."""
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise ValueError(f"the field 'format' is not {FORMAT!r}")
            del content["format"]
            for name, kind in (("qualities", list), ("points", list), ("provenance", dict)):
                if not isinstance(content.get(name), kind):
                    raise ValueError(f"the field {name!r} is not there or not a {kind.__name__}")
            for name, entry in (("qualities", Quality), ("points", OperatingPoint)):
                content[name] = tuple(_build(entry, e, f"{name}[{i}]: ") for i, e in enumerate(content[name]))
            return _build(cls, content, "")
        except ValueError as error:
            raise ValueError(f"{path} is not a whole calibrator: {error}; write it again with save") from error


def finite_column(name: str, values: np.ndarray, count: int | None = None) -> np.ndarray:
    """`values` as float64 [N]; ValueError, with the first bad trial, unless there are `count` finite numbers."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or count not in (None, len(values)):
        raise ValueError(f"{name} must have one value for each of the {count or 'N'} trials, got shape {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(
            f"{name} of trial {bad[0]} is {values[bad[0]]} ({bad.size} of {len(values)} are not finite); find it for "
            "every trial, or leave it out"
        )
    return values


def _check(entry: object, numbers: tuple[str, ...]) -> None:
    """A ValueError unless the fields `numbers` are finite numbers and the name, if it has one, is a word or more."""
    if not isinstance(getattr(entry, "name", "-"), str) or not getattr(entry, "name", "-").strip():
        raise ValueError(f"the field 'name' must be a text, got {entry.name!r}")
    for name in numbers:
        value = getattr(entry, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"the field {name!r} must be a finite number, got {value!r}")


def _build(kind: type, content: object, where: str) -> object:
    known = {entry.name: entry.default is dataclasses.MISSING for entry in dataclasses.fields(kind)}
    given = set(content) if isinstance(content, dict) else set()
    if wrong := sorted({name for name, required in known.items() if required} - given | given - known.keys()):
        raise ValueError(f"{where}fields {', '.join(map(repr, wrong))} missing or unknown (known: {', '.join(known)})")
    try:
        return kind(**content)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None
