"""Calibration judged on speakers it has not heard: speaker-disjoint folds of a trial list.

A trial has two speakers, so groups of speakers cut the list into cells (group, group). To judge
only the trials within a group would throw away most nontarget trials, and with them the low
false-acceptance rates; here each cell has a calibrator of its own, fitted to the trials that share
no speaker with the cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from alpha_sv.scoring.calibrate import fit_line
from alpha_sv.scoring.checks import as_labels, finite_column, speaker_codes
from alpha_sv.scoring.llr_bounds import limit


def cross_calibrate(
    scores: np.ndarray,
    labels: np.ndarray,
    enroll_speakers: np.ndarray,
    test_speakers: np.ndarray,
    qualities: Mapping[str, np.ndarray] | None = None,
    *,
    p_target: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """LLRs of every trial from a calibrator that heard neither of its two speakers.

    The speakers, sorted by name, are dealt into `folds` groups at random. A trial between speakers
    of groups i and j gets its LLR from a calibrator fitted to the trials without any speaker of i
    or j. So all trials are scored, those that straddle two groups too, at the price of folds
    (folds + 1) / 2 fits. The calibrator to keep is `fit_calibration` on all trials; these LLRs say
    how well it does on speakers it has not heard.

    Parameters
    ----------
    scores, labels, qualities, p_target
        As `fit_calibration`.
    enroll_speakers, test_speakers : array of str [N]
        The speaker on each side.
    folds : int
        Groups of speakers, at least 3: a trial can touch two, and one must remain.
    seed : int
        Seed of the assignment to folds. The order of the trials has no influence.

    Returns
    -------
    float64 [N]
        LLRs in nats, each within the bounds of its own calibrator.

    Raises
    ------
    ValueError
        A label contradicts the speakers, there are too few speakers, or as `fit_calibration`.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> enroll, test = rng.integers(30, size=(2, 5000))
    >>> scores = rng.normal(np.where(enroll == test, 1, -1))
    >>> llrs = cross_calibrate(
    ...     scores, enroll == test, enroll.astype(str), test.astype(str), p_target=0.5
    ... )
    >>> bool(np.corrcoef(llrs, scores)[0, 1] > 0.8), bool(abs(llrs).max() < 6)
    (True, True)
    """
    raw, lower, upper = fold_llrs(
        scores, labels, enroll_speakers, test_speakers, qualities, p_target=p_target, folds=folds, seed=seed
    )
    return limit(raw, (lower, upper))


def fold_llrs(
    scores: np.ndarray,
    labels: np.ndarray,
    enroll_speakers: np.ndarray,
    test_speakers: np.ndarray,
    qualities: Mapping[str, np.ndarray] | None = None,
    *,
    p_target: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `cross_calibrate`, before the bounds:
    LLRs, and the lower and upper bound of each, float64 [N] all."""
    labels = as_labels(labels)
    codes, count = speaker_codes((enroll_speakers, test_speakers), labels, "cross_calibrate")
    if isinstance(folds, bool) or not isinstance(folds, int) or not 3 <= folds <= count:
        raise ValueError(
            f"cross_calibrate: folds must be from 3 to the number of speakers ({count}), got {folds!r}; a trial "
            "can touch two groups, and one must remain to fit to"
        )
    group = np.empty(count, dtype=np.int64)
    group[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    groups = group[codes]
    scores = finite_column("scores", scores, len(labels))
    columns = {name: finite_column(name, values, len(labels)) for name, values in (qualities or {}).items()}
    llrs, lower, upper = np.empty((3, len(labels)))
    for i in range(folds):
        for j in range(i, folds):
            out = (groups.min(axis=0) == i) & (groups.max(axis=0) == j)
            if not out.any():
                continue
            fit = ~np.isin(groups, (i, j)).any(axis=0)
            try:
                calibrator = fit_line(
                    scores[fit],
                    labels[fit],
                    {name: values[fit] for name, values in columns.items()},
                    p_target=p_target,
                    speakers=(codes[0][fit], codes[1][fit]),
                )
            except ValueError as error:
                raise ValueError(
                    f"cross_calibrate: without the speakers of groups {i} and {j} of {folds}: {error} (give trials of "
                    "more speakers, or another number of folds)"
                ) from error
            lower[out], upper[out] = calibrator.bounds
            line = dataclasses.replace(calibrator, bounds=None)
            llrs[out] = line.llrs(scores[out], {name: values[out] for name, values in columns.items()})
    return llrs, lower, upper
