"""Calibration judged on speakers it has not heard: speaker-disjoint folds of a trial list.

A trial has two speakers, so groups of speakers cut the list into cells (group, group). To judge only the trials
within a group would throw away most nontarget trials, and with them the low false-acceptance rates; here each cell
has a calibrator of its own, fitted to the trials that share no speaker with the cell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alpha_sv.scoring.calibrate import as_labels, fit_calibration
from alpha_sv.scoring.calibrator import finite_column


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

    The speakers, sorted by name, are dealt into `folds` groups at random. A trial between speakers of groups i
    and j gets its LLR from a calibrator fitted to the trials without any speaker of i or j. So all trials are
    scored, those that straddle two groups too, at the price of folds (folds + 1) / 2 fits. The calibrator to
    keep is `fit_calibration` on all trials; these LLRs say how well it does on speakers it has not heard.

    Parameters
    ----------
    scores, labels, qualities, p_target
        As `fit_calibration`.
    enroll_speakers, test_speakers : array of str [N]
        The speaker on each side.
    folds : int
        Groups of speakers, at least 3: a trial can touch two, and one must remain.
    seed : int
        Of the assignment. The order of the trials has no influence.

    Returns
    -------
    float64 [N]
        LLRs in nats.

    Raises
    ------
    ValueError
        A label contradicts the speakers, there are too few speakers, or as `fit_calibration`.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> enroll, test = rng.integers(30, size=(2, 5000))
    >>> scores = rng.normal(np.where(enroll == test, 1, -1))
    >>> llrs = cross_calibrate(scores, enroll == test, enroll.astype(str), test.astype(str), p_target=0.5)
    >>> bool(np.corrcoef(llrs, scores)[0, 1] > 0.99)
    True
    """
    labels = as_labels(labels)
    sides = [np.asarray(side, dtype=str) for side in (enroll_speakers, test_speakers)]
    for side in sides:
        if side.shape != labels.shape:
            raise ValueError(f"cross_calibrate: speakers of shape {side.shape} for {len(labels)} trials; one a trial")
    wrong = np.flatnonzero((sides[0] == sides[1]) != labels)
    if wrong.size:
        row = wrong[0]
        raise ValueError(
            f"cross_calibrate: trial {row} is labelled {int(labels[row])} but its speakers are '{sides[0][row]}' and "
            f"'{sides[1][row]}' ({wrong.size} such trials); use the speakers of this list"
        )
    names, speaker_of = np.unique(np.concatenate(sides), return_inverse=True)
    if isinstance(folds, bool) or not isinstance(folds, int) or not 3 <= folds <= len(names):
        raise ValueError(
            f"cross_calibrate: folds must be from 3 to the number of speakers ({len(names)}), got {folds!r}; a trial "
            "can touch two groups, and one must remain to fit to"
        )
    group = np.empty(len(names), dtype=np.int64)
    group[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % folds
    groups = group[speaker_of].reshape(2, -1)
    scores = finite_column("scores", scores, len(labels))
    columns = {name: finite_column(name, values, len(labels)) for name, values in (qualities or {}).items()}
    llrs = np.empty(len(labels))
    for i in range(folds):
        for j in range(i, folds):
            out = (groups.min(axis=0) == i) & (groups.max(axis=0) == j)
            if not out.any():
                continue
            fit = ~np.isin(groups, (i, j)).any(axis=0)
            try:
                calibrator = fit_calibration(
                    scores[fit], labels[fit], {n: v[fit] for n, v in columns.items()}, p_target=p_target
                )
            except ValueError as error:
                raise ValueError(
                    f"cross_calibrate: without the speakers of groups {i} and {j} of {folds}: {error} (give trials of "
                    "more speakers, or another number of folds)"
                ) from error
            llrs[out] = calibrator.llrs(scores[out], {n: v[out] for n, v in columns.items()})
    return llrs
