"""Every number of the report for one scored trial list, as a whole and for each condition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from alpha_sv.metrics.checks import as_array, checked_labels, checked_scores, checked_sides, numbered
from alpha_sv.metrics.cllr import calibration_of, cllr_of
from alpha_sv.metrics.dcf import P_TARGETS, act_dcf_of, c_primary_of, min_dcf_of
from alpha_sv.metrics.det import DetCurve, rank_trials
from alpha_sv.metrics.errors import FPRS, MIN_FALSE_ACCEPTS, eer_of, fpr_vertex
from alpha_sv.metrics.hull import convex_hull, min_cllr_of

DET_POINTS = 400
HISTOGRAM_BINS = 60


def evaluate(target_scores: np.ndarray, nontarget_scores: np.ndarray, llr: bool = False) -> dict:
    """Every number of the report for one system, as plain Python numbers ready for JSON.

    Parameters
    ----------
    target_scores, nontarget_scores : array [n_target], [n_nontarget]
        Scores of same-speaker and different-speaker trials, higher for "same speaker".
    llr : bool
        The scores are natural-log likelihood ratios (nats). Without that promise, cllr, actDCF and
        the calibration curves mean nothing and are None.

    Returns
    -------
    dict
        ``trials`` {target, nontarget}; ``eer`` {value, threshold, rocch}; ``min_dcf``, one
        {p_target, c_miss, c_fa, value, threshold} for each prior .01 and .05; ``c_primary`` {min,
        act}; ``fnr_at_fpr``, one {fpr, fnr, threshold, false_accepts, misses, supported} for each
        rate 1e-2, 1e-3, 1e-4, where supported says that it rests on at least 10 counted false
        accepts; ``min_cllr`` and ``cllr`` in bits; ``act_dcf``, entries as min_dcf; ``det`` {p_fa,
        p_miss}, at most 400 vertices from accept-all to reject-all; ``histogram`` {edges [61],
        target [60], nontarget [60]} with counts; ``calibration``, as `calibration_of`.

    Raises
    ------
    ValueError
        As `det_curve`.

    Example
    -------
    >>> result = evaluate([0.9, 0.8, 0.4], [0.5, 0.2, 0.1])
    >>> result["trials"], result["fnr_at_fpr"][0]["supported"]
    ({'target': 3, 'nontarget': 3}, False)
    """
    target, nontarget = checked_sides(target_scores, nontarget_scores)
    curve = rank_trials(target, nontarget).curve()
    hull = convex_hull(curve)
    return {
        **_summary(curve, hull, llr),
        "c_primary": dict(zip(("min", "act"), c_primary_of(curve, llr), strict=True)),
        "act_dcf": [_dcf_entry(p, act_dcf_of(curve, p)) for p in P_TARGETS] if llr else None,
        "det": _thinned(curve, DET_POINTS),
        "histogram": _histogram(target, nontarget, HISTOGRAM_BINS),
        "calibration": calibration_of(curve, hull) if llr else None,
    }


def evaluate_conditions(
    scores: np.ndarray, labels: np.ndarray, conditions: Mapping[str, np.ndarray], llr: bool = False
) -> list[dict]:
    """The main numbers for each value of each condition (gender, channel, duration class, ...).

    Parameters
    ----------
    scores : array [N]
        Higher for "same speaker".
    labels : array [N]
        True for a target trial, or as `alpha_sv.metrics.checks.checked_labels`.
    conditions : mapping of column name to array of str [N]
        The condition of each trial, such as `alpha_sv.data.trials.files.Trials.conditions`.
    llr : bool
        As `evaluate`.

    Returns
    -------
    list of dict
        One entry for each column, in the order given, and each of its values, sorted: ``column``,
        ``value``, ``trials``, ``eer``, ``min_dcf``, ``fnr_at_fpr``, ``min_cllr``, ``cllr`` as
        `evaluate`. A group that lacks one kind of trial has ``trials``, ``eer`` None, and no more.

    Raises
    ------
    ValueError
        A column without one value for each trial, values that are no labels, or as `det_curve`.

    Example
    -------
    >>> groups = evaluate_conditions(
    ...     [3, 1, 2, 0, 5], [1, 0, 1, 0, 1], {"sex": ["f", "f", "m", "m", "?"]}
    ... )
    >>> [
    ...     (g["value"], g["trials"], g["eer"] and g["eer"]["value"]) for g in groups
    ... ]  # doctest: +NORMALIZE_WHITESPACE
    [('?', {'target': 1, 'nontarget': 0}, None),
     ('f', {'target': 1, 'nontarget': 1}, 0.0),
     ('m', {'target': 1, 'nontarget': 1}, 0.0)]
    """
    scores, labels, entries = checked_scores("scores", scores), checked_labels(labels), []
    for column, values in {"labels": labels, **conditions}.items():
        if np.shape(values) != scores.shape:
            raise ValueError(
                f"{column!r} needs one value for each of the {scores.shape} scores, got shape {np.shape(values)}; "
                "take both from the same list"
            )
    for column, values in conditions.items():
        names, (group_of,) = numbered([as_array(column, values)])
        groups = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
        for name, rows in zip(names.tolist(), groups, strict=True):
            target, nontarget = scores[rows[labels[rows]]], scores[rows[~labels[rows]]]
            if target.size and nontarget.size:
                curve = rank_trials(target, nontarget).curve()
                numbers = _summary(curve, convex_hull(curve), llr)
            else:
                numbers = {"trials": {"target": target.size, "nontarget": nontarget.size}, "eer": None}
            entries.append({"column": column, "value": name, **numbers})
    return entries


def _summary(curve: DetCurve, hull: DetCurve, llr: bool) -> dict:
    value, threshold = eer_of(curve)
    return {
        "trials": {"target": curve.num_target, "nontarget": curve.num_nontarget},
        "eer": {"value": value, "threshold": threshold, "rocch": eer_of(hull)[0]},
        "min_dcf": [_dcf_entry(p, min_dcf_of(curve, p)) for p in P_TARGETS],
        "fnr_at_fpr": [_fnr_entry(curve, fpr) for fpr in FPRS],
        "min_cllr": min_cllr_of(hull),
        "cllr": cllr_of(curve) if llr else None,
    }


def _dcf_entry(p_target: float, point: tuple[float, float]) -> dict:
    return {"p_target": p_target, "c_miss": 1.0, "c_fa": 1.0, "value": point[0], "threshold": point[1]}


def _fnr_entry(curve: DetCurve, fpr: float) -> dict:
    vertex = fpr_vertex(curve, fpr)
    false_accepts = int(curve.false_accepts[vertex])
    return {
        "fpr": fpr,
        "fnr": float(curve.p_miss[vertex]),
        "threshold": float(curve.thresholds[vertex]),
        "false_accepts": false_accepts,
        "misses": int(curve.misses[vertex]),
        "supported": false_accepts >= MIN_FALSE_ACCEPTS,
    }


def _thinned(curve: DetCurve, points: int) -> dict[str, list[float]]:
    """At most `points` vertices, evenly along the
    curve on the normal-deviate axes of a DET plot."""
    p_miss, p_fa = curve.p_miss, curve.p_fa
    if p_miss.size > points:
        # The curve only goes up and left, so ndtri(p_miss) - ndtri(p_fa) is its city-block length
        # up to a constant; rates of 0 and 1, infinitely far away, count as half an error.
        half_miss, half_fa = 0.5 / curve.num_target, 0.5 / curve.num_nontarget
        length = ndtri(np.clip(p_miss, half_miss, 1 - half_miss)) - ndtri(np.clip(p_fa, half_fa, 1 - half_fa))
        inner = np.searchsorted(length, np.linspace(length[0], length[-1], points)[1:-1])
        keep = np.unique(np.concatenate([[0], inner, [p_miss.size - 1]]))
        p_miss, p_fa = p_miss[keep], p_fa[keep]
    return {"p_fa": p_fa.tolist(), "p_miss": p_miss.tolist()}


def _histogram(target: np.ndarray, nontarget: np.ndarray, bins: int) -> dict[str, list]:
    low, high = min(target.min(), nontarget.min()), max(target.max(), nontarget.max())
    size = max(abs(low), abs(high)) or 1.0
    if high - low <= 1e-9 * size:  # all (nearly) equal: bins of positive width around them
        low, high = low - size / 2, high + size / 2
    edges = np.linspace(low, high, bins + 1)
    return {
        "edges": edges.tolist(),
        "target": np.histogram(target, edges)[0].tolist(),
        "nontarget": np.histogram(nontarget, edges)[0].tolist(),
    }
