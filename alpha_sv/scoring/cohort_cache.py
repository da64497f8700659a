"""Cohort statistics of both sides of every trial:
found once for each utterance, kept on disk if asked.

This is the expensive part of a normalisation: utterances x cohort cosines, whatever the number of
trials. With a cache, each block of utterances leaves one small file behind, named by the hash of
everything its content depends on (the embeddings, the cohort, top_n). A run that was killed finds
the blocks it finished; another model, cohort or top_n has other names, so a stale block is never
read, and the folder may be deleted at any time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.files import InputError, atomic_write, input_key, read_npy
from alpha_sv.scoring.cohort import cohort_statistics
from alpha_sv.scoring.store_rows import Store, named_rows

_ROWS = 4096  # utterances in one block of the cache, gathered from the store at a time
_FORMAT = "alpha_sv.cohort_statistics/1"
Stats = tuple[np.ndarray, np.ndarray]


def trial_statistics(
    trials: Trials | ScoreTable,
    store: Store,
    cohort: np.ndarray,
    top_n: int | None,
    sides: Sequence[str] = ("enroll", "test"),
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> list[Stats]:
    """Mean and standard deviation of the cohort cosines of each side of N trials.

    Parameters
    ----------
    trials : Trials or ScoreTable
        N pairs of utterance identifiers.
    store : object with .ids, .matrix [num_utterances, D] and .rows(ids) -> int64 row numbers
        Embeddings of the utterances in the trials.
    cohort : array [C, D]
        Cohort embeddings, see `speaker_means`; a memory map is read in blocks.
    top_n : int or None
        As `cohort_statistics`.
    sides : sequence of "enroll", "test"
        The sides wanted.
    cache : path-like, optional
        Folder of finished blocks; made if need be.
        Give the same one to continue after an interruption.
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    list of (float64 [N], float64 [N])
        (mean, std) of each side, aligned with the trials.
        They do not depend on the order of the trials.

    Raises
    ------
    ValueError
        An utterance is not in the store, a file of the cache is damaged, or as `cohort_statistics`.

    Example
    -------
    >>> class Store:
    ...     ids, matrix = ["a", "b"], np.array([[1.0, 0.0], [0.6, 0.8]])
    ...
    ...     def rows(self, ids):
    ...         return np.array([self.ids.index(i) for i in ids])
    >>> cohort = np.array([[0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    >>> ((mean, std),) = trial_statistics(
    ...     Trials(["a"], ["b"]), Store(), cohort, 2, sides=["test"], progress=False
    ... )
    >>> mean.round(2).tolist(), std.round(2).tolist()
    ([0.88], [0.08])
    """
    named = dict(zip(("enroll", "test"), trials.sides, strict=True))
    # in the order of the store: it is read once through,
    # and trials in another order give the same blocks
    rows, position = np.unique(named_rows(store, *(named[side] for side in sides)), return_inverse=True)
    prefix = None if cache is None else input_key(itertools.chain([_FORMAT, str(top_n)], _parts(cohort)))
    mean, std = np.empty(len(rows)), np.empty(len(rows))
    with tqdm(total=len(rows), unit="utt", desc="cohort", disable=None if progress else True) as bar:
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            ids, embeddings = [store.ids[row] for row in part], store.matrix[part]
            path = None
            if prefix is not None:
                path = Path(cache) / f"{input_key(itertools.chain([prefix], _parts(embeddings)))}.npy"
            if path is not None and path.is_file():
                found = _load(path, len(part))
            else:
                found = cohort_statistics(embeddings, cohort, top_n, ids=ids)
                if path is not None:
                    with atomic_write(path, "wb") as file:
                        np.save(file, np.stack(found), allow_pickle=False)
            mean[start : start + _ROWS], std[start : start + _ROWS] = found
            bar.update(len(part))
    return [(mean[at], std[at]) for at in position.reshape(len(sides), len(trials))]


def _parts(array: np.ndarray) -> Iterator[object]:
    yield array.dtype.str, array.shape
    for start in range(0, len(array), _ROWS):
        yield np.ascontiguousarray(array[start : start + _ROWS]).data


def _load(path: Path, count: int) -> np.ndarray:
    try:
        found = np.array(read_npy(path))
        if found.shape != (2, count) or found.dtype != np.float64 or not np.isfinite(found).all():
            raise ValueError(f"{found.dtype} {found.shape} instead of finite float64 (2, {count})")
    except (ValueError, OSError) as error:
        raise InputError(f"the cached cohort statistics {path} are damaged ({error}); delete the file") from error
    return found
