"""A calibrator: the affine map from scores and quality measures to log-likelihood ratios, as data.

    LLR = offset + weight * score + sum_q weight_q * (quality_q - mean_q) / scale_q

(natural logarithm), held within the bounds that the calibration trials support
(`alpha_sv.scoring.llr_bounds`). It is saved as JSON with the thresholds of named operating points
and a note of where it came from; reading one runs no code.
`alpha_sv.scoring.fit_calibration` makes it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from alpha_sv.data.trials.files import ScoreTable
from alpha_sv.files import InputError, atomic_write, read_json
from alpha_sv.scoring.calibrator_notes import check_notes, model_of
from alpha_sv.scoring.checks import finite_column
from alpha_sv.scoring.llr_bounds import Bounds, limit, margin_of
from alpha_sv.scoring.operating_point import MIN_FALSE_ACCEPTS, OperatingPoint, check_fields, is_number

FORMAT = "alpha_sv.calibration/2"
FORMATS = ("alpha_sv.calibration/1", FORMAT)  # 1 had neither bounds nor support nor kind


@dataclass(frozen=True)
class Quality:
    """One quality measure: `weight` is in nats for each `scale` that the measure is above `mean`.

    Beyond `low` and `high`, the ends of the measure in the fit,
    it counts as the nearer end: nothing is known there.
    """

    name: str
    mean: float
    scale: float
    weight: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [name for name in ("low", "high") if getattr(self, name) is not None]
        check_fields(self, ("mean", "scale", "weight", *ends))
        if self.scale <= 0:
            raise ValueError(f"the field 'scale' must be positive, got {self.scale}")

    @property
    def ends(self) -> tuple[float, float]:
        """`low` and `high`, infinite where there is none."""
        return -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high


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
    bounds : (float, float), optional
        LLRs are held between these, in nats; see `alpha_sv.scoring.llr_bounds`.
    kind : str, optional
        What the scores are that it was fitted to, such as "cosine" or "as-norm top 300".
    support : dict
        Numbers of trials and speakers behind it.
    warnings : tuple of str
        What speaks against it.

    Example
    -------
    >>> calibrator = Calibrator(
    ...     weight=10.0, offset=-3.0, points=(OperatingPoint("p_target 0.01", 4.595),)
    ... )
    >>> calibrator.llrs([0.5, 0.1]).tolist(), calibrator.threshold("p_target 0.01")
    ([2.0, -2.0], 4.595)
    """

    weight: float
    offset: float
    qualities: tuple[Quality, ...] = ()
    points: tuple[OperatingPoint, ...] = ()
    provenance: dict = field(default_factory=dict)
    bounds: Bounds | None = None
    kind: str | None = None
    support: dict = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, ("weight", "offset"))
        if self.bounds is not None and not (
            len(self.bounds) == 2 and all(map(is_number, self.bounds)) and self.bounds[0] < 0 < self.bounds[1]
        ):
            raise ValueError(f"the field 'bounds' must be a negative and a positive number, got {self.bounds}")
        texts = [*self.warnings] if isinstance(self.warnings, tuple) else [None]
        if not isinstance(self.kind, (str, type(None))) or not all(isinstance(text, str) for text in texts):
            raise ValueError("the fields 'kind' and 'warnings' must be texts")
        check_notes(self.support, self.provenance)
        for kind in ("qualities", "points"):
            names = [entry.name for entry in getattr(self, kind)]
            if len(set(names)) < len(names):
                raise ValueError(f"the field {kind!r} has a name twice ({', '.join(names)}); name each once")

    @property
    def fitted_model(self) -> str | None:
        """SHA-256 of the weights whose scores it was fitted to, if it is known."""
        return model_of(self.provenance.get("sources"))

    def llrs(
        self, scores: np.ndarray, qualities: Mapping[str, np.ndarray] | None = None, *, kind: str | None = None
    ) -> np.ndarray:
        """LLRs of N trials, float64 [N] in nats, within the bounds.

        Parameters
        ----------
        scores : array [N]
            Scores of the kind that the calibrator was fitted to (cosines, AS-normed, ...).
        qualities : mapping of name to array [N]
            The measures it was fitted with; more are ignored.
        kind : str, optional
            What the scores are, to be compared with the
            kind of the calibrator where both are known.

        Raises
        ------
        ValueError
            Another kind of scores, a measure is missing,
            or anything is not finite or of another length.
        """
        if kind is not None and self.kind is not None and kind != self.kind:
            raise ValueError(
                f"this calibrator was fitted to scores of the kind {self.kind!r}, these are {kind!r}: their LLRs would "
                f"be wrong; score the trials as {self.kind!r}, or fit a calibrator to {kind!r}"
            )
        scores = finite_column("scores", scores)
        given = qualities or {}
        if missing := [quality.name for quality in self.qualities if quality.name not in given]:
            raise ValueError(
                f"this calibrator needs the quality measures {', '.join(missing)}; give them, or fit without"
            )
        llrs = self.offset + _times(self.weight, scores)
        for quality in self.qualities:
            values = np.clip(finite_column(quality.name, given[quality.name], len(scores)), *quality.ends)
            llrs += _times(quality.weight / quality.scale, values - quality.mean)
        return llrs if self.bounds is None else limit(llrs, self.bounds)

    def llr(self, score: float, qualities: Mapping[str, float] | None = None, *, kind: str | None = None) -> float:
        """LLR (nats) of one trial; as `llrs`.

        >>> Calibrator(weight=10.0, offset=-3.0).llr(0.5)
        2.0
        """
        columns = {name: np.array([value]) for name, value in (qualities or {}).items()}
        return float(self.llrs(np.array([score]), columns, kind=kind)[0])

    def apply(
        self, table: ScoreTable, qualities: Mapping[str, np.ndarray] | None = None, *, kind: str | None = None
    ) -> ScoreTable:
        """The table with LLRs for scores; see `llrs`."""
        return ScoreTable(*table.sides, self.llrs(table.scores, qualities, kind=kind), table.labels)

    def reaches(self, llr: float) -> bool:
        """Whether an LLR of these nats is well inside the bounds, where LLRs are not squeezed."""
        if self.bounds is None:
            return True
        margin = margin_of(self.bounds)
        return bool(self.bounds[0] + margin < llr < self.bounds[1] - margin)

    def point(self, name: str) -> OperatingPoint:
        """A named operating point, such as "fpr 1e-3" (or "fpr 0.001");
        ValueError lists those there are.

        >>> points = (OperatingPoint("fpr 1e-3", 7.5, false_accepts=12, misses=30),)
        >>> Calibrator(1.0, 0.0, points=points).point("fpr 0.001").misses
        30
        """
        if (found := self._find(name)) is None:
            names = ", ".join(repr(point.name) for point in self.points) or "none"
            raise ValueError(f"no operating point {name!r}; this calibrator has {names}")
        return found

    def supports(self, name: str, false_accepts: int = MIN_FALSE_ACCEPTS) -> bool:
        """Whether the calibration trials can say how the point `name` does;
        False for a point that is not there.

        `false_accepts` must have been counted at it, see `OperatingPoint.supports`.
        """
        found = self._find(name)
        return found is not None and found.supports(false_accepts)

    def threshold(self, name: str) -> float:
        """LLR threshold (nats) of a named operating point.

        Raises
        ------
        ValueError
            There is no such point (those there are are listed), or it is a rate
            that the calibration trials cannot resolve; `point` has it all the same.
        """
        point = self.point(name)
        if not point.supported and point.name.startswith("fpr"):
            raise ValueError(
                f"the operating point {name!r} is not supported: it rests on {point.false_accepts} false accepts in "
                f"{point.nontargets} nontarget trials, with LLRs within {self.bounds}; calibrate on more trials and "
                f"speakers, or take one of {', '.join(repr(p.name) for p in self.points if p.supported)}"
            )
        return point.threshold

    def _find(self, name: str) -> OperatingPoint | None:
        return next((point for point in self.points if point.is_called(name)), None)

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, whole or not at all."""
        with atomic_write(path) as file:
            json.dump({"format": FORMAT, **dataclasses.asdict(self)}, file, indent=1, allow_nan=False)
            file.write("\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Calibrator:
        """Read what `save` wrote; ValueError names the file and the field that is wrong."""
        try:
            content = read_json(path, finite=False)  # the field that is not finite is named below
            if not isinstance(content, dict) or content.get("format") not in FORMATS:
                raise ValueError(f"the field 'format' is not {FORMAT!r}")
            del content["format"]
            if not isinstance(content.get("bounds"), (list, type(None))):
                raise ValueError("the field 'bounds' is not a list of two numbers")
            content |= {n: tuple(content[n]) for n in ("bounds", "warnings") if isinstance(content.get(n), list)}
            for name, kind in (("qualities", list), ("points", list), ("provenance", dict), ("support", dict)):
                if not isinstance(content.get(name, {} if name == "support" else None), kind):
                    raise ValueError(f"the field {name!r} is not there or not a {kind.__name__}")
            for name, entry in (("qualities", Quality), ("points", OperatingPoint)):
                content[name] = tuple(_build(entry, e, f"{name}[{i}]: ") for i, e in enumerate(content[name]))
            return _build(cls, content, "")
        except ValueError as error:
            raise InputError(f"{path} is not a whole calibrator: {error}; write it again with save") from error


def _times(weight: float, values: np.ndarray) -> np.ndarray:
    """Their product, finite for every finite value."""
    with np.errstate(over="ignore"):
        return np.clip(weight * values, -1e300, 1e300)


def _build(kind: type, content: object, where: str) -> object:
    nothing = dataclasses.MISSING
    known = {e.name: e.default is nothing and e.default_factory is nothing for e in dataclasses.fields(kind)}
    given = set(content) if isinstance(content, dict) else set()
    if wrong := sorted({name for name, required in known.items() if required} - given | given - known.keys()):
        raise ValueError(f"{where}fields {', '.join(map(repr, wrong))} missing or unknown (known: {', '.join(known)})")
    try:
        return kind(**content)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None
