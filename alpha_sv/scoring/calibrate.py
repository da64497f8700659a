"""Calibration: logistic regression from scores,
and quality measures, to natural-log likelihood ratios.

A log-likelihood ratio (LLR) l says how much more probable the score is between one speaker than
between two. With a prior p of a target trial the posterior log-odds are l + ln(p / (1 - p)), so an
affine l can be fitted by logistic regression with that offset held fixed. Each class is given its
share p, 1 - p of the weight, whatever its number of trials, so the result is an LLR and does not
carry the prior of the list:

    C(l) = p mean_target ln(1 + e^(-l - logit p)) + (1 - p) mean_nontarget ln(1 + e^(l + logit p))

divided by its value at l = 0 (the entropy of p; 1 = no better than not listening).
Three things keep a list from promising what it does not know:

* Trials far outside of all others are set aside (`alpha_sv.scoring.outliers`).
* Each mean is over the n trials of the class and 3 pseudo-trials, spread as a normal distribution
  with the mean and the covariance of the class, whose tails reach further than a short list. Where
  the classes overlap they move the slope by a few parts in a thousand; where they do not, the slope
  would otherwise be infinite.
* LLRs end where the errors counted in the list stop
  supporting them (`alpha_sv.scoring.llr_bounds`).

With the speakers given, n in the second and third point is the geometric mean of the numbers of
trials and speakers: ten trials of one speaker are less than ten speakers
(`alpha_sv.scoring.calibration_warnings`).

References
----------
Brümmer, du Preez, "Application-independent evaluation of speaker detection", Computer Speech &
Language 20, 2006.

Brümmer, Swart, van Leeuwen, "A comparison of linear and non-linear calibrations for speaker
recognition", Odyssey 2014.

Morrison, Poh, "Avoiding overstating the strength of forensic evidence: Shrunk likelihood ratios /
Bayes factors", Science and Justice 58, 2018 (pseudo-trials).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping

import numpy as np

from alpha_sv.scoring.calibration_warnings import count_trials, warnings_of
from alpha_sv.scoring.calibrator import Calibrator, OperatingPoint, Quality
from alpha_sv.scoring.checks import as_labels, finite_column
from alpha_sv.scoring.llr_bounds import llr_bounds
from alpha_sv.scoring.logistic import minimise
from alpha_sv.scoring.outliers import odd_qualities, odd_scores

BAYES_PRIORS = (0.01, 0.05)
Qualities = Mapping[str, np.ndarray]
logger = logging.getLogger(__name__)


def fit_calibration(
    scores: np.ndarray,
    labels: np.ndarray,
    qualities: Qualities | None = None,
    *,
    p_target: float = 0.01,
    speakers: tuple[np.ndarray, np.ndarray] | None = None,
    kind: str | None = None,
    allow_inverted: bool = False,
    provenance: Mapping[str, object] | None = None,
) -> Calibrator:
    """Fit a calibrator to labelled trials.

    Parameters
    ----------
    scores : array [N]
        Higher for "same speaker".
    labels : array of bool [N]
        True for a target trial.
    qualities : mapping of name to array [N], optional
        Quality measures, see `alpha_sv.scoring.qualities`.
    p_target : float
        The prior at which errors are weighed in the fit, in (0, 1):
        it says where the LLRs should be best, and is not part of them.
    speakers : (array of str [N], array of str [N]), optional
        Who speaks on each side. Without them each trial counts as an observation of its own, which
        overstates what is known wherever speakers have several trials.
    kind : str, optional
        What the scores are, such as "cosine";
        the calibrator then refuses scores declared to be another kind.
    allow_inverted : bool
        Fit scores that are lower for "same speaker", too.
    provenance : mapping, optional
        JSON values to keep beside the numbers of trials and the prior, such as hashes of the files.

    Returns
    -------
    Calibrator
        With the Bayes thresholds "p_target 0.01" and "p_target 0.05" (unit costs); `with_points`
        adds measured ones. ``support`` has the numbers of trials and speakers behind it,
        ``warnings`` what speaks against it; they are logged too.

    Raises
    ------
    ValueError
        No target or no nontarget trial; lengths differ; a value is not finite;
        a column is constant; the scores are lower for "same speaker"; p_target out of range.

    Example
    -------
    Two normal distributions of equal variance: the true LLR of the score s is 2 m s / variance.

    >>> rng = np.random.default_rng(0)
    >>> scores = np.concatenate([rng.normal(1, 1, 20000), rng.normal(-1, 1, 20000)])
    >>> calibrator = fit_calibration(scores, np.arange(40000) < 20000, p_target=0.5)
    >>> abs(calibrator.weight - 2) < 0.1, abs(calibrator.offset) < 0.1
    (True, True)
    """
    calibrator = fit_line(scores, labels, qualities, p_target=p_target, speakers=speakers)
    if calibrator.weight <= 0 and not allow_inverted:
        labels, scores = as_labels(labels), finite_column("scores", scores)
        strangers = np.sort(scores[~labels])
        below = [np.searchsorted(strangers, scores[labels], side).mean() for side in ("left", "right")]
        above = sum(below) / 2 / len(strangers)
        raise ValueError(
            f"fit_calibration: a higher score would mean different speakers (weight {calibrator.weight:.3g}; a target "
            f"trial outscores a nontarget trial in {100 * above:.0f} % of the pairs). If the scores are distances, "
            "negate them; if the labels are exchanged, correct them; if there are too few trials to tell, give more. "
            "allow_inverted=True (--allow-inverted) fits them as they are"
        )
    for warning in calibrator.warnings:
        logger.warning("calibration: %s", warning)
    known = {name: calibrator.support[name] for name in ("targets", "nontargets")}
    return dataclasses.replace(calibrator, kind=kind, provenance={**known, "p_target": p_target, **(provenance or {})})


def fit_line(
    scores: np.ndarray,
    labels: np.ndarray,
    qualities: Qualities | None,
    *,
    p_target: float,
    speakers: tuple[np.ndarray, np.ndarray] | None,
) -> Calibrator:
    """`fit_calibration` without its opinion:
    any sign of the weight, and warnings are not logged."""
    if not 1e-12 <= p_target <= 1 - 1e-12:
        raise ValueError(
            f"fit_calibration: p_target is a probability strictly between 0 and 1, by 1e-12 at least, got {p_target}"
        )
    labels = as_labels(labels)
    columns = {"scores": finite_column("scores", scores, len(labels))}
    for name, values in (qualities or {}).items():
        if name == "scores":
            raise ValueError("a quality measure cannot be called 'scores'; rename it")
        columns[name] = finite_column(name, values, len(labels))
    support = count_trials(labels, speakers)
    units = support["independent_targets"], support["independent_nontargets"]
    for name, values in columns.items():
        if values.max() / 2 - values.min() / 2 <= 5e-13 * np.abs(values).max():
            raise ValueError(f"{name} is {values[0]} in every trial, so nothing can be learnt from it; leave it out")
    odd = {n: odd_qualities(v) if n != "scores" else odd_scores(v, labels) for n, v in columns.items()}
    kept = ~np.logical_or.reduce(list(odd.values()))
    if labels[kept].all() or not labels[kept].any():
        raise ValueError(
            "fit_calibration: the values of all target or of all nontarget trials lie far outside of the others "
            f"(scores or measures: {', '.join(name for name in odd if odd[name].any())}); correct them"
        )
    for name, values in columns.items():
        if not 1e-300 < np.abs(values[kept]).max() < 1e300:
            raise ValueError(f"{name} are as large as {np.abs(values[kept]).max():.3g}; give them in another unit")
    # over the largest value first, so that squares stay in the range of numbers
    peaks = np.array([np.abs(values[kept]).max() for values in columns.values()])
    means, scales = (
        peaks * [getattr(values[kept] / peak, what)() for values, peak in zip(columns.values(), peaks, strict=True)]
        for what in ("mean", "std")
    )
    scales[scales == 0] = 1.0  # constant but for what was set aside
    design = np.ones((int(kept.sum()), len(columns) + 1))
    for index, values in enumerate(columns.values()):
        design[:, index] = (values[kept] - means[index]) / scales[index]
    *slopes, intercept = minimise(design, labels[kept], p_target, units).tolist()
    ends = [[float(values[kept].min()), float(values[kept].max())] for values in columns.values()]
    rows = zip(columns, means.tolist(), scales.tolist(), slopes, ends, strict=True)
    _, mean, scale, slope, support["scores"] = next(rows)
    line = Calibrator(
        weight=slope / scale,
        offset=intercept - slope * mean / scale,
        qualities=tuple(Quality(*row, low, high) for *row, (low, high) in rows),
    )
    llrs = line.llrs(columns["scores"], columns)
    support["set_aside"] = int((~kept).sum())
    support["separable"] = bool(llrs[kept & labels].min() > llrs[kept & ~labels].max())
    line = dataclasses.replace(line, bounds=llr_bounds(llrs[labels], llrs[~labels], *units), support=support)
    thresholds = {f"p_target {p:g}": math.log((1 - p) / p) for p in BAYES_PRIORS}
    points = [OperatingPoint(name, at, supported=line.reaches(at)) for name, at in thresholds.items()]
    warnings = warnings_of(line, columns, odd, p_target)
    return dataclasses.replace(line, points=tuple(points), warnings=tuple(warnings))


def with_points(calibrator: Calibrator, system: Mapping) -> Calibrator:
    """The calibrator with the thresholds measured on its calibration trials.

    Parameters
    ----------
    calibrator : Calibrator
    system : mapping
        What `alpha_sv.metrics.evaluate` says of the LLRs of these trials (those of
        `cross_calibrate`, to be honest): its ``trials``, ``eer`` and ``fnr_at_fpr`` are read.

    Returns
    -------
    Calibrator
        With "eer", and "fpr 1e-2" and so on, with the false accepts and misses counted there. A
        rate that rests on fewer than 10 false accepts, or whose LLR is beyond the bounds, is
        marked as not supported.
    """
    total = {"targets": system["trials"]["target"], "nontargets": system["trials"]["nontarget"]}
    total["speakers"] = calibrator.support.get("speakers")
    threshold = system["eer"]["threshold"]
    points = [OperatingPoint("eer", threshold, supported=calibrator.reaches(threshold), **total)]
    for entry in system["fnr_at_fpr"]:
        supported = bool(entry["supported"]) and calibrator.reaches(entry["threshold"])
        name = f"fpr {entry['fpr']:.0e}".replace("e-0", "e-")
        counts = entry["false_accepts"], entry["misses"]
        points.append(OperatingPoint(name, entry["threshold"], *counts, supported=supported, **total))
    return dataclasses.replace(calibrator, points=(*calibrator.points, *points))
