"""Z-, T-, S- and AS-norm: a score in units of what the two utterances score against strangers.

Some utterances score high against everyone. Comparing each side with a cohort of speakers who are
neither of the two, and taking the score's distance from the mean in standard deviations, makes one
threshold fit all pairs:

    z = (s - mean_e) / std_e      against the cohort scores of the enrolment side       (Z-norm)
    t = (s - mean_t) / std_t      against those of the test side                        (T-norm)
    (z + t) / 2                   both                                                  (S-norm)

AS-norm is S-norm with the statistics of each side over its own `top_n` most similar cohort speakers
only. The statistics belong to an utterance, not to a trial: `normalize_table` gathers them
(`trial_statistics`), so the cost is utterances x cohort instead of trials x cohort.

References
----------
Auckenthaler, Carey, Lloyd-Thomas, "Score normalization for text-independent speaker verification
systems", DSP 2000 (Z, T).

Matejka et al., "Analysis of score normalization in multilingual speaker recognition", Interspeech
2017 (S, AS).
"""

from __future__ import annotations

import os

import numpy as np

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.scoring.checks import as_numbers, finite_column
from alpha_sv.scoring.cohort import default_top_n
from alpha_sv.scoring.cohort_cache import Stats, trial_statistics
from alpha_sv.scoring.cosine import score_trials
from alpha_sv.scoring.store_rows import Store

_CHECKED = 1000  # trials, evenly spaced: the scores of another model differ nearly everywhere
_ROUNDING = 0.01  # scores of other toolkits may come from half precision, or be written with few digits


def z_norm(scores: np.ndarray, enroll_stats: Stats) -> np.ndarray:
    """(scores - mean) / std with the cohort statistics of the enrolment side.

    Parameters
    ----------
    scores : array [N]
        Raw scores, one per trial.
    enroll_stats : (array [N], array [N])
        Mean and standard deviation of the enrolment
        utterance of each trial, in the unit of the scores.

    Returns
    -------
    float64 [N]
        Normalised scores, in standard deviations.

    Raises
    ------
    ValueError
        The arrays are not aligned with the scores,
        or a standard deviation is not positive and finite.

    Example
    -------
    >>> z_norm([0.5], ([0.1], [0.2])).tolist()
    [2.0]
    """
    return _standardise(scores, enroll_stats, "enroll_stats")


def t_norm(scores: np.ndarray, test_stats: Stats) -> np.ndarray:
    """(scores - mean) / std with the cohort statistics of the test side; otherwise as `z_norm`."""
    return _standardise(scores, test_stats, "test_stats")


def s_norm(scores: np.ndarray, enroll_stats: Stats, test_stats: Stats) -> np.ndarray:
    """Mean of `z_norm` and `t_norm`, with statistics over
    the whole cohort (`top_n=None`); arguments as there.

    >>> s_norm([0.5], ([0.1], [0.2]), ([0.1], [0.4])).tolist()
    [1.5]
    """
    return 0.5 * (z_norm(scores, enroll_stats) + t_norm(scores, test_stats))


def as_norm(scores: np.ndarray, enroll_stats: Stats, test_stats: Stats) -> np.ndarray:
    """Mean of `z_norm` and `t_norm`, with statistics
    of each side over its own top_n cohort speakers.

    The formula is that of `s_norm`;
    the adaptation is in the statistics (`cohort_statistics` with a `top_n`).

    >>> as_norm([0.5], ([0.1], [0.2]), ([0.1], [0.4])).tolist()
    [1.5]
    """
    return s_norm(scores, enroll_stats, test_stats)


def normalize_table(
    table: ScoreTable,
    store: Store,
    cohort: np.ndarray,
    method: str = "as-norm",
    top_n: int | None = None,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> ScoreTable:
    """Normalise a table of cosine scores against a cohort.

    Parameters
    ----------
    table : ScoreTable
        Raw cosines of N trials.
    store : object with .ids, .matrix [num_utterances, D] and .rows(ids) -> int64 row numbers
        Embeddings of the utterances in the table.
    cohort : array [C, D]
        Cohort embeddings, see `speaker_means`.
    method : {"as-norm", "s-norm", "z-norm", "t-norm"}
        Only AS-norm uses `top_n`; the others use the whole cohort.
    top_n : int, optional
        Cohort entries for each utterance; by default 300,
        or the whole cohort if it is smaller (`default_top_n`).
    cache, progress
        As `trial_statistics`: with a cache folder, a run that was killed continues.

    Returns
    -------
    ScoreTable
        The same trials with normalised scores.

    Raises
    ------
    ValueError
        Unknown method, scores that are not cosines of these embeddings, or as `trial_statistics`.

    Example
    -------
    >>> class Store:
    ...     ids, matrix = ["a", "b"], np.array([[1.0, 0.0], [0.6, 0.8]])
    ...
    ...     def rows(self, ids):
    ...         return np.array([self.ids.index(i) for i in ids])
    >>> raw = ScoreTable(["a"], ["b"], [0.6], [True])
    >>> cohort = np.array([[0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    >>> normalize_table(raw, Store(), cohort, top_n=2, progress=False).scores.round(4).tolist()
    [-1.5]
    """
    if method not in ("as-norm", "s-norm", "z-norm", "t-norm"):
        raise ValueError(f"normalize_table: unknown method {method!r}; choose as-norm, s-norm, z-norm or t-norm")
    _check_cosines(table, store)
    sides = {"z-norm": ["enroll"], "t-norm": ["test"]}.get(method, ["enroll", "test"])
    top = None
    if method == "as-norm":
        top = default_top_n(len(cohort)) if top_n is None else top_n
    stats = trial_statistics(table, store, cohort, top, sides, cache, progress)
    normalise = {"z-norm": z_norm, "t-norm": t_norm, "s-norm": s_norm, "as-norm": as_norm}[method]
    return ScoreTable(*table.sides, normalise(table.scores, *stats), table.labels)


def _check_cosines(table: ScoreTable, store: Store) -> None:
    """Statistics of other embeddings than those scored,
    or of other scores, would make numbers without a meaning."""
    some = np.linspace(0, len(table) - 1, min(len(table), _CHECKED)).astype(np.int64)
    cosines = score_trials(Trials(*(side.take(some) for side in table.sides)), store, progress=False).scores
    if (wrong := np.flatnonzero(~(np.abs(cosines - table.scores[some]) < _ROUNDING))).size:
        row = some[wrong[0]]
        raise ValueError(
            f"normalize_table: {table.enroll[row]} {table.test[row]} scored {table.scores[row]:.6g}, but their cosine "
            f"is {cosines[wrong[0]]:.6g} ({wrong.size} of {some.size} trials looked at differ); give the raw cosines "
            "(these may be normalised already) and the embeddings they are of"
        )


def _standardise(scores: np.ndarray, stats: Stats, what: str) -> np.ndarray:
    scores = finite_column("scores", scores)
    if len(stats) != 2:
        raise ValueError(f"{what} must be (mean, std), got {len(stats)} values; they come from trial_statistics")
    mean, std = (as_numbers(what, values).astype(np.float64) for values in stats)
    if not scores.shape == mean.shape == std.shape:
        raise ValueError(
            f"{what} must be (mean, std) with one value a trial, got shapes {mean.shape} and {std.shape} for "
            f"scores {scores.shape}; gather the statistics of the utterance of each trial first"
        )
    if not np.isfinite(mean).all():
        raise ValueError(
            f"{what}: the mean of trial {np.flatnonzero(~np.isfinite(mean))[0]} is not finite; find it again"
        )
    if not ((std > 0) & (std < np.inf)).all():
        raise ValueError(f"{what}: standard deviations must be positive and finite; use a cohort of distinct speakers")
    return (scores - mean) / std
