"""Calibration: logistic regression from scores, and quality measures, to natural-log likelihood ratios.

A log-likelihood ratio (LLR) l says how much more probable the score is between one speaker than between two. With
a prior p of a target trial the posterior log-odds are l + ln(p / (1 - p)), so an affine l can be fitted by
logistic regression with that offset held fixed. Each class is given its share p, 1 - p of the weight, whatever its
number of trials, so the result is an LLR and does not carry the prior of the list:

    C(l) = p mean_target ln(1 + e^(-l - logit p)) + (1 - p) mean_nontarget ln(1 + e^(l + logit p))

divided by its value at l = 0 (the entropy of p; 1 = no better than not listening), plus a ridge on the slopes. The
ridge is on standardised columns, so the unit of the scores does not matter; it moves the
slope by a few 1e-5 of itself, unless the classes are separable: then it is what keeps the slope finite.

References
----------
Brümmer, du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 20, 2006.
Brümmer, Swart, van Leeuwen, "A comparison of linear and non-linear calibrations for speaker recognition",
Odyssey 2014.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from alpha_sv.scoring.calibrator import Calibrator, OperatingPoint, Quality, finite_column

BAYES_PRIORS = (0.01, 0.05)
_RIDGE = 1e-8
Qualities = Mapping[str, np.ndarray]


def fit_calibration(
    scores: np.ndarray,
    labels: np.ndarray,
    qualities: Qualities | None = None,
    *,
    p_target: float = 0.01,
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
        The prior at which errors are weighed in the fit, in (0, 1): it says where the LLRs should be best, and
        is not part of them.
    provenance : mapping, optional
        JSON values to keep beside the numbers of trials and the prior, such as hashes of the files.

    Returns
    -------
    Calibrator
        With the Bayes thresholds "p_target 0.01" and "p_target 0.05" (unit costs); `with_points` adds measured
        ones.

    Raises
    ------
    ValueError
        No target or no nontarget trial; lengths differ; a value is not finite; a column is constant; p_target out
        of range.

    Example
    -------
    Two normal distributions of equal variance: the true LLR of the score s is 2 m s / variance.

    >>> rng = np.random.default_rng(0)
    >>> scores = np.concatenate([rng.normal(1, 1, 20000), rng.normal(-1, 1, 20000)])
    >>> calibrator = fit_calibration(scores, np.arange(40000) < 20000, p_target=0.5)
    >>> abs(calibrator.weight - 2) < 0.1, abs(calibrator.offset) < 0.1
    (True, True)
    """
    if not 0 < p_target < 1:
        raise ValueError(f"fit_calibration: p_target is a probability strictly between 0 and 1, got {p_target}")
    labels = as_labels(labels)
    columns = {"scores": finite_column("scores", scores, len(labels))}
    for name, values in (qualities or {}).items():
        if name == "scores":
            raise ValueError("a quality measure cannot be called 'scores'; rename it")
        columns[name] = finite_column(name, values, len(labels))
    counts = {"targets": int(labels.sum()), "nontargets": int((~labels).sum())}
    if not all(counts.values()):
        raise ValueError(
            f"fit_calibration: {counts['targets']} target and {counts['nontargets']} nontarget trials; both are needed"
        )
    means = np.array([values.mean() for values in columns.values()])
    scales = np.array([values.std() for values in columns.values()])
    for name, mean, scale in zip(columns, means, scales, strict=True):
        if scale <= 1e-12 * max(abs(mean), 1e-300):
            raise ValueError(f"{name} is {mean} in every trial, so nothing can be learnt from it; leave it out")
    design = np.ones((len(labels), len(columns) + 1))
    for index, values in enumerate(columns.values()):
        design[:, index] = (values - means[index]) / scales[index]
    *slopes, intercept = _minimise(design, labels, p_target).tolist()
    entries = zip(columns, means.tolist(), scales.tolist(), slopes, strict=True)
    _, mean, scale, slope = next(entries)
    return Calibrator(
        weight=slope / scale,
        offset=intercept - slope * mean / scale,
        qualities=tuple(Quality(*entry) for entry in entries),
        points=tuple(OperatingPoint(f"p_target {p:g}", math.log((1 - p) / p)) for p in BAYES_PRIORS),
        provenance={**counts, "p_target": p_target, **(provenance or {})},
    )


def with_points(calibrator: Calibrator, system: Mapping) -> Calibrator:
    """The calibrator with the thresholds measured on its calibration trials.

    Parameters
    ----------
    calibrator : Calibrator
    system : mapping
        What `alpha_sv.metrics.evaluate` says of the LLRs of these trials (those of `cross_calibrate`, to be
        honest): its ``eer`` and ``fnr_at_fpr`` are read.

    Returns
    -------
    Calibrator
        With "eer", and "fpr 1e-2" and so on for each rate that the trials support, with the false accepts and
        misses counted there.
    """
    points = [OperatingPoint("eer", system["eer"]["threshold"])]
    for entry in system["fnr_at_fpr"]:
        if entry["supported"]:
            name = f"fpr {entry['fpr']:.0e}".replace("e-0", "e-")
            points.append(OperatingPoint(name, entry["threshold"], entry["false_accepts"], entry["misses"]))
    return dataclasses.replace(calibrator, points=(*calibrator.points, *points))


def as_labels(labels: np.ndarray) -> np.ndarray:
    """`labels` as bool [N]; ValueError if they are anything but truth values."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be booleans or 0 / 1 [N] (1 = target), got {labels.dtype} {labels.shape}")
    return labels.astype(bool)


def _minimise(design: np.ndarray, labels: np.ndarray, p_target: float) -> np.ndarray:
    """Slopes and intercept, the last column of `design` being ones, that minimise the objective of the module."""
    logit = math.log(p_target / (1 - p_target))
    entropy = -p_target * math.log(p_target) - (1 - p_target) * math.log1p(-p_target)
    share = np.where(labels, p_target / labels.sum(), (1 - p_target) / (~labels).sum()) / entropy
    sign = np.where(labels, 1.0, -1.0)
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[-1] = 0.0

    def margin(theta: np.ndarray) -> np.ndarray:
        return sign * (design @ theta + logit)

    def value(theta: np.ndarray) -> float:
        return float(share @ np.logaddexp(0.0, -margin(theta)) + 0.5 * ridge @ theta**2)

    def gradient(theta: np.ndarray) -> np.ndarray:
        return design.T @ (-share * sign * expit(-margin(theta))) + ridge * theta

    def hessian(theta: np.ndarray) -> np.ndarray:
        error = expit(-margin(theta))
        return (design.T * (share * error * (1 - error))) @ design + np.diag(ridge)

    start = np.zeros(design.shape[1])
    found = minimize(value, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-11})
    if not np.abs(found.jac).max() < 1e-8:
        raise ValueError(f"the calibration did not converge ({found.message}); check the scores for gross outliers")
    return found.x
