"""Scores → calibrator → log-likelihood ratios,
with the numbers that speakers unheard by the calibrator give."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.files import spelled
from alpha_sv.metrics import evaluate
from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.report.terminal import aligned, wrapped
from alpha_sv.scoring import Calibrator, duration_qualities, fit_calibration, with_points
from alpha_sv.scoring.calibrator_notes import model_of
from alpha_sv.scoring.llr_bounds import LEAST, limit
from alpha_sv.scoring.operating_point import OperatingPoint
from alpha_sv.scoring.speaker_folds import fold_llrs

logger = logging.getLogger(__name__)

_POINTS_HEAD = ("accept at", "LLR threshold (nats)", "false accepts", "misses")


def fit_calibrator(
    table: ScoreTable,
    speakers: tuple[np.ndarray, np.ndarray],
    qualities: Mapping[str, np.ndarray] | None = None,
    *,
    p_target: float = 0.01,
    folds: int = 5,
    kind: str | None = None,
    allow_inverted: bool = False,
    provenance: Mapping[str, object] | None = None,
) -> tuple[Calibrator, dict]:
    """Fit a calibrator to labelled scores, and judge it on speakers it has not heard.

    Parameters
    ----------
    table : ScoreTable
        N labelled trials.
    speakers : (array [N], array [N])
        Names or numbers, see `alpha_sv.pipeline.speakers`.
    qualities, p_target, kind, allow_inverted, provenance
        As `alpha_sv.scoring.fit_calibration`.
    folds : int
        As `alpha_sv.scoring.cross_calibrate`.

    Returns
    -------
    (Calibrator, dict)
        The calibrator, fitted to all trials, with thresholds and errors measured on the
        cross-calibrated LLRs; and what `alpha_sv.metrics.evaluate` says of these. Its main numbers
        are in the provenance too, and so is a `score_histogram`. If those LLRs are worth less than
        none (Cllr of 1 bit or more), the calibrator holds all LLRs near 0 and warns.

    Raises
    ------
    ValueError
        As `cross_calibrate`.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> enroll, test = rng.integers(30, size=(2, 4000)).astype(str)
    >>> table = ScoreTable(
    ...     enroll, test, rng.normal(np.where(enroll == test, 2.0, 0.0), 1.0), enroll == test
    ... )
    >>> calibrator, unheard = fit_calibrator(table, (enroll, test), p_target=0.5)
    >>> abs(calibrator.weight - 2) < 0.3, 0 < unheard["cllr"] - unheard["min_cllr"] < 0.05
    (True, True)
    """
    fit = {"qualities": qualities, "p_target": p_target}
    calibrator = fit_calibration(
        table.scores,
        table.labels,
        **fit,
        speakers=speakers,
        kind=kind,
        allow_inverted=allow_inverted,
        provenance=provenance,
    )
    raw, *bounds = fold_llrs(table.scores, table.labels, *speakers, **fit, folds=folds)
    llrs, labels = limit(raw, bounds), table.labels
    unheard = evaluate(llrs[labels], llrs[~labels], llr=True)
    numbers = {"folds": folds, "cllr": unheard["cllr"], "min_cllr": unheard["min_cllr"]}
    for key in ("act_dcf", "min_dcf"):
        numbers |= {f"{key} {entry['p_target']:g}": entry["value"] for entry in unheard[key]}
    found = {"cross_calibrated": numbers, "histogram": score_histogram(calibrator, table.scores, labels)}
    calibrator = dataclasses.replace(calibrator, provenance={**calibrator.provenance, **found})
    if unheard["cllr"] >= 1:
        text = (
            f"on speakers it has not heard its LLRs are worth nothing (Cllr {unheard['cllr']:.2f} bits, 1 for not "
            "listening), so all are held near 0; calibrate on more speakers"
        )
        logger.warning("calibration: %s", text)
        calibrator = dataclasses.replace(calibrator, bounds=(-LEAST, LEAST), warnings=(*calibrator.warnings, text))
    # Thresholds come from the LLRs before the bounds, which differ between the folds.
    calibrator = with_points(calibrator, evaluate(raw[labels], raw[~labels]))
    return dataclasses.replace(calibrator, points=tuple(_counted(calibrator, raw, labels))), unheard


def score_histogram(calibrator: Calibrator, scores: np.ndarray, labels: np.ndarray) -> dict:
    """Counts of target and of nontarget trials in 60 bins
    from "low" to "high", for the page of `alpha-sv serve`.

    The ends are those of the scores that the fit made use of,
    and cosines go on to 1; what is beyond counts in the outermost bin.

    Example
    -------
    >>> calibrator = Calibrator(10.0, 0.0, kind="cosine", support={"scores": [-0.3, 0.7]})
    >>> found = score_histogram(
    ...     calibrator, np.array([-999.0, -0.3, 0.7]), np.array([False, False, True])
    ... )
    >>> found["low"], found["high"], found["nontargets"][0], found["targets"][46]
    (-0.3, 1.0, 2, 1)
    """
    low, high = calibrator.support["scores"]
    if calibrator.kind == "cosine":
        low, high = float(np.floor(10 * max(low, -1.0)) / 10), 1.0
    inside = np.clip(scores, low, high)
    targets, nontargets = (np.histogram(inside[side], 60, (low, high))[0].tolist() for side in (labels, ~labels))
    return {"low": low, "high": high, "targets": targets, "nontargets": nontargets}


def refuse_other_scores(calibrator: Calibrator, sources: Mapping, kind: str | None) -> None:
    """A ValueError if scores are known to be of another kind
    or model than those that the calibrator was fitted to.

    Parameters
    ----------
    calibrator : Calibrator
    sources, kind
        Where the scores come from, see `alpha_sv.pipeline.provenance`.
        What is not known is not compared.

    Example
    -------
    >>> cosines = Calibrator(1.0, 0.0, kind="cosine")
    >>> refuse_other_scores(cosines, {}, "as-norm top 300")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: the calibrator was fitted to scores of the kind 'cosine', and these are ...
    """
    models = ("model", calibrator.fitted_model, model_of(sources))
    for what, fitted, given in (("kind", calibrator.kind, kind), models):
        if fitted is not None and given is not None and fitted != given:
            raise ValueError(
                f"the calibrator was fitted to scores of the {what} {fitted[:40]!r}, and these are {given[:40]!r}, so "
                f"their log-likelihood ratios would be wrong; fit a calibrator to scores of this {what}, or apply it "
                "all the same with --any-scores"
            )


def warn_of_other_range(calibrator: Calibrator, scores: np.ndarray) -> None:
    """A warning if many scores are far from those that the
    calibrator was fitted to, whatever they are called."""
    ends = calibrator.support.get("scores")
    if ends is not None and len(scores):
        room = (ends[1] - ends[0]) / 2
        if (far := float(((scores < ends[0] - room) | (scores > ends[1] + room)).mean())) > 0.05:
            logger.warning(
                "%.0f %% of the scores are far from those that the calibrator was fitted to (%.4g to %.4g); are they "
                "of the same kind and model?",
                100 * far,
                *ends,
            )


def manifest_durations(table: ScoreTable, manifests: Sequence[str | os.PathLike]) -> dict[str, np.ndarray]:
    """`duration_qualities` of the trials; ValueError names utterances that no manifest has."""
    seconds = {u.utt_id: u.duration for manifest in manifests for u in read_manifest(manifest)}
    both = Names.of(*table.sides)
    names = spelled(both.table.to_pylist(), seconds)
    if missing := sorted({names[place] for place in np.unique(both.codes)} - seconds.keys()):
        raise ValueError(
            f"{', '.join(map(str, manifests))}: no duration of {len(missing)} utterances of the trials (such as "
            f"{', '.join(map(repr, missing[:3]))}); give the manifest of these trials"
        )
    found = np.array([seconds.get(name, np.nan) for name in names])[both.codes]
    return duration_qualities(*np.split(found, 2))


def calibration_text(calibrator: Calibrator, unheard: Mapping) -> str:
    """The cross-calibrated numbers and the thresholds of a calibrator, on a terminal.

    >>> calibrator = Calibrator(
    ...     weight=1.0, offset=0.0, points=(OperatingPoint("eer", 0.5, 3, 2),)
    ... )
    >>> dcf = [{"p_target": 0.01, "value": 0.25}]
    >>> print(
    ...     calibration_text(
    ...         calibrator, {"cllr": 0.2, "min_cllr": 0.19, "act_dcf": dcf, "min_dcf": dcf}
    ...     )
    ... )
    Of speakers that the calibrator did not hear (cross-calibrated), Cllr in bits:
    <BLANKLINE>
      Cllr  minCllr  actDCF 0.01  minDCF 0.01
    0.2000   0.1900       0.2500       0.2500
    <BLANKLINE>
    accept at  LLR threshold (nats)  false accepts  misses
    eer                      0.5000              3       2
    """
    columns = {"Cllr": unheard["cllr"], "minCllr": unheard["min_cllr"]}
    for act, least in zip(unheard["act_dcf"], unheard["min_dcf"], strict=True):
        columns |= {f"actDCF {act['p_target']:g}": act["value"], f"minDCF {act['p_target']:g}": least["value"]}
    head = [name.rjust(6) for name in columns]
    rows = []
    for point in calibrator.points:
        counts = ["" if count is None else f"{count:,}" for count in (point.false_accepts, point.misses)]
        rows.append([point.name, f"{point.threshold:.4f}", *counts, "" if point.supported else "not supported"])
    parts = [
        "Of speakers that the calibrator did not hear (cross-calibrated), Cllr in bits:",
        aligned(head, [[f"{value:.4f}" for value in columns.values()]]),
        aligned([*_POINTS_HEAD, ""], rows),
    ]
    if calibrator.bounds is not None:
        low, high = calibrator.bounds
        parts.append(f"These trials support LLRs from {low:.2f} to {high:.2f} nats; LLRs are held there.")
    return "\n\n".join([*parts, *(wrapped(f"Warning: {text}.") for text in calibrator.warnings)])


def _counted(calibrator: Calibrator, llrs: np.ndarray, labels: np.ndarray) -> Iterator[OperatingPoint]:
    for point in calibrator.points:
        yield dataclasses.replace(
            point,
            false_accepts=int((llrs[~labels] >= point.threshold).sum()),
            misses=int((llrs[labels] < point.threshold).sum()),
            nontargets=int((~labels).sum()),
            targets=int(labels.sum()),
            speakers=calibrator.support["speakers"],
        )


def errors_at_points(calibrator: Calibrator, table: ScoreTable) -> list[dict]:
    """What the saved thresholds do on a labelled list of LLRs:
    both errors of each operating point, counted.

    Example
    -------
    >>> from alpha_sv.scoring import OperatingPoint
    >>> point = OperatingPoint("p_target 0.5", threshold=0.0)
    >>> llrs = ScoreTable(
    ...     ["a", "a", "b"], ["c", "d", "d"], [2.0, -1.0, -3.0], [True, True, False]
    ... )
    >>> (found,) = errors_at_points(Calibrator(weight=1.0, offset=0.0, points=(point,)), llrs)
    >>> found["misses"], found["target"], found["false_accepts"], found["nontarget"]
    (1, 2, 0, 1)
    """
    counts = {"target": len(table.target_scores), "nontarget": len(table.nontarget_scores)}
    return [
        {
            "name": point.name,
            "threshold": point.threshold,
            "misses": int((table.target_scores < point.threshold).sum()),
            "false_accepts": int((table.nontarget_scores >= point.threshold).sum()),
            **counts,
        }
        for point in calibrator.points
    ]


def points_text(points: Sequence[Mapping]) -> str:
    """`errors_at_points` on a terminal;
    a rate that rests on fewer than 10 errors is not stated, only counted."""

    def rate(count: int, total: int) -> str:
        return f"{100 * count / total:.2f} % ({count:,})" if count >= MIN_FALSE_ACCEPTS else f"n/a ({count})"

    def row(point: Mapping) -> list[str]:
        errors = rate(point["false_accepts"], point["nontarget"]), rate(point["misses"], point["target"])
        return [point["name"], f"{point['threshold']:.4f}", *errors]

    first = f"{points[0]['target']:,} target and {points[0]['nontarget']:,} nontarget trials."
    return f"{first}\n\n{aligned(_POINTS_HEAD, list(map(row, points)))}"
