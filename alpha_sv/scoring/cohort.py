"""What an utterance scores against strangers:
the mean and spread of its cosines with a cohort of speakers.

The statistics belong to an utterance, not to a trial. They are matrix products over blocks of
utterances and blocks of the cohort: the whole utterance x cohort matrix never exists, so the cohort
may be anything from a few hundred speaker means to every training utterance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from alpha_sv.scoring.checks import as_names, as_numbers
from alpha_sv.scoring.cosine import unit_rows

# Utterances and cohort rows in one float64 GEMM. Nothing larger than one or two
# [_ROWS, _COLUMNS + top_n] blocks (34 MB each) is ever held, whatever the number of either. numpy's
# vectorised partition takes a third of the time of the product; float32 would halve the sum of both
# at errors of 1e-7, and scores would then depend on the blocks.
_ROWS, _COLUMNS = 1024, 4096
TOP_N = 300  # the usual choice for AS-norm with thousands of cohort speakers
logger = logging.getLogger(__name__)
_TINY_STD = 1e-7  # a float32 embedding does not define its cosines any better than this


def cohort_statistics(
    embeddings: np.ndarray, cohort: np.ndarray, top_n: int | None, *, ids: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the `top_n` highest cosines of each embedding with the cohort.

    Parameters
    ----------
    embeddings : array [N, D]
        One row per utterance; rows are normalised here.
    cohort : array [C, D]
        One row per cohort speaker (see `speaker_means`),
        none of whom should be in the trials; rows are normalised here.
    top_n : int or None
        Cohort entries used for each row, those most similar to it;
        None takes the whole cohort (Z-, T-, S-norm).
    ids : sequence of N str, optional
        Names of the rows, for error messages.

    Returns
    -------
    (float64 [N], float64 [N])
        Mean and population standard deviation (ddof = 0) over the top_n cosines.

    Raises
    ------
    ValueError
        The cohort has fewer than `top_n` rows, dimensions differ, a row is zero or not finite,
        or a standard deviation is zero (the row is named): a score cannot be divided by it.

    Example
    -------
    >>> cohort = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> mean, std = cohort_statistics(np.array([[2.0, 0.0]]), cohort, top_n=2)
    >>> mean.round(6).tolist(), std.round(6).tolist()
    ([0.8], [0.2])
    """
    embeddings, cohort = as_numbers("embeddings", embeddings), as_numbers("cohort", cohort)
    if embeddings.ndim != 2 or cohort.ndim != 2 or embeddings.shape[1] != cohort.shape[1]:
        raise ValueError(
            f"embeddings [N, D] and cohort [C, D] must share D, got {embeddings.shape} and {cohort.shape}; "
            "extract both with the same model"
        )
    if len(cohort) == 0:
        raise ValueError("the cohort is empty; build it from the training speakers with speaker_means")
    if top_n is not None:
        if isinstance(top_n, bool) or not isinstance(top_n, (int, np.integer)) or top_n < 1:
            raise ValueError(f"top_n must be a positive whole number, or None for the whole cohort, got {top_n!r}")
        if top_n > len(cohort):
            raise ValueError(
                f"top_n = {top_n} but the cohort has {len(cohort)} rows; add cohort speakers, or pass "
                f"top_n <= {len(cohort)} and report that number with the result"
            )
    mean, std = np.empty(len(embeddings)), np.empty(len(embeddings))
    for start in range(0, len(embeddings), _ROWS):
        part = slice(start, start + _ROWS)
        rows = unit_rows(embeddings[part], "embeddings", None if ids is None else ids[part], start)
        mean[part], std[part] = _whole_cohort(rows, cohort) if top_n is None else _top_cohort(rows, cohort, top_n)
    flat = np.flatnonzero(std < _TINY_STD)
    if flat.size:
        name = f"row {flat[0]}" if ids is None else repr(ids[flat[0]])
        raise ValueError(
            f"the cohort scores of {name} have zero variance over {top_n or len(cohort)} cohort rows "
            f"({flat.size} such embeddings); use distinct cohort speakers and top_n >= 2"
        )
    return mean, std


def default_top_n(cohort_size: int) -> int:
    """300, or the whole cohort if it is smaller, which is logged:
    it is another system, to be reported as such.

    >>> default_top_n(5994)
    300
    """
    if cohort_size < TOP_N:
        logger.warning("the cohort has %d rows, so top_n is %d instead of %d", cohort_size, cohort_size, TOP_N)
    return min(TOP_N, cohort_size)


def speaker_means(matrix: np.ndarray, speakers: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """One cohort row a speaker: the mean of the speaker's normalised embeddings, normalised again.

    Parameters
    ----------
    matrix : array [N, D]
        Embeddings, one row per utterance (memory-mapped is fine: read once, in blocks).
    speakers : sequence of N str
        Speaker of each row.

    Returns
    -------
    (float64 [S, D], list of S str)
        Rows of length one, and the speakers they belong to, sorted.

    Raises
    ------
    ValueError
        Lengths differ or are zero, an embedding is zero or not finite,
        or a speaker's embeddings cancel out.

    Example
    -------
    >>> means, names = speaker_means(
    ...     np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), ["b", "a", "b"]
    ... )
    >>> names, means.round(4).tolist()
    (['a', 'b'], [[0.0, 1.0], [0.7071, 0.7071]])
    """
    matrix = as_numbers("speaker_means", matrix)
    if len(speakers) != len(matrix) or len(matrix) == 0:
        raise ValueError(
            f"speaker_means: {len(matrix)} embeddings and {len(speakers)} speakers; give one speaker a row"
        )
    names, speaker_of = np.unique(as_names("speaker_means", speakers).astype(str), return_inverse=True)
    sums = np.zeros((len(names), np.shape(matrix)[1]))
    for start in range(0, len(matrix), _COLUMNS):
        rows = unit_rows(matrix[start : start + _COLUMNS], "speaker_means", first=start)
        # equal speakers side by side, so that each run is summed at once
        owners = speaker_of[start : start + _COLUMNS]
        order = np.argsort(owners, kind="stable")
        present, runs = np.unique(owners[order], return_index=True)
        sums[present] += np.add.reduceat(rows[order], runs)
    return unit_rows(sums, "speaker_means: sum of a speaker's embeddings", ids=names.tolist()), names.tolist()


def _blocks(cohort: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(cohort), _COLUMNS):
        yield unit_rows(cohort[start : start + _COLUMNS], "cohort", first=start)


def _top_cohort(rows: np.ndarray, cohort: np.ndarray, top_n: int) -> tuple[np.ndarray, np.ndarray]:
    # The top_n of everything seen are among the top_n so far and the new ones. They live in the
    # last top_n columns, each block lands to the left of them, and partitioning in place brings
    # the new top_n to the right.
    table = np.full((len(rows), min(_COLUMNS, len(cohort)) + top_n), -np.inf)
    for block in _blocks(cohort):
        window = table[:, -len(block) - top_n :]
        np.matmul(rows, block.T, out=window[:, : len(block)])
        window.partition(len(block), axis=1)
    best = table[:, -top_n:]
    return best.mean(axis=1), best.std(axis=1)


def _whole_cohort(rows: np.ndarray, cohort: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Merging block means and squared deviations (Chan, Golub, LeVeque 1983) keeps full
    # accuracy where the mean of the squares minus the square of the mean would cancel.
    seen, mean, deviation = 0, np.zeros(len(rows)), np.zeros(len(rows))
    for block in _blocks(cohort):
        cosines = rows @ block.T
        count, block_mean = cosines.shape[1], cosines.mean(axis=1)
        shift = block_mean - mean
        deviation += ((cosines - block_mean[:, None]) ** 2).sum(axis=1) + shift**2 * (seen * count / (seen + count))
        mean += shift * (count / (seen + count))
        seen += count
    return mean, np.sqrt(deviation / seen)
