"""Many utterances through an embedder:
which of them go together, on how many threads, and in how much memory.

An utterance of up to `LONGEST` seconds is embedded whole, so its embedding is exactly that of the
network. The networks hold all frames at once, 0.2 to 0.8 GB a minute; an hour would need more
than most machines have. A longer utterance is therefore cut into the fewest equal parts of at
most `LONGEST` seconds. Its embedding is the mean of those of its parts, each weighted by its
length; parts without any sound are left out. Utterances share a batch of half a minute at most:
larger ones are no quicker.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from alpha_sv.embedding.features import fill, length_batches

if TYPE_CHECKING:
    from alpha_sv.embedding.waveform_embedder import WaveformEmbedder

logger = logging.getLogger(__name__)
LONGEST = 300  # s; VoxCeleb's longest utterance has 145 s, those of NIST's evaluations 300 s
BATCH = 30  # s; of such, several may be in memory at once


def embed_in_batches(
    embedder: WaveformEmbedder,
    lengths: Sequence[int],
    read: Callable[[int], np.ndarray],
    batch_size: int,
    workers: int = 2,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embeddings of waveforms that are read as they are needed:
    (numbers [n], embeddings [n, D]) by batch.

    Parameters
    ----------
    lengths : sequence of int
        What `embedder.length` says of each.
    read : callable
        The samples [T] of the waveform of a number; called on `workers` threads.
    batch_size : int
        How many of equal length go through the network at once, at most.

    Long ones come first. Batches of up to half a minute are computed `embedder.at_once` at a time.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    most, small = (embedder.length(seconds * embedder.sample_rate) for seconds in (LONGEST, BATCH))
    long = np.flatnonzero(lengths > most)
    if len(long):
        logger.warning(
            "%d of %d utterances are longer than %d min: the embedding of each is the mean of those of its parts",
            *(len(long), len(lengths), LONGEST // 60),
        )
    for row, waveform in zip(long, prefetch(read, long.tolist(), 1, 1), strict=True):
        yield np.array([row]), _embed_parts(embedder, waveform)

    rest = np.flatnonzero(lengths <= most)
    batches = [rest[some] for some in length_batches(lengths[rest], batch_size, small)]
    first = next((i for i, rows in enumerate(batches) if lengths[rows].sum() <= small), len(batches))
    for rows, batch in _batches(batches[:first], lengths, read, workers, workers):
        yield rows, embedder.embed_batch(batch)
    stacked = _batches(batches[first:], lengths, read, workers, 4 * batch_size)
    if embedder.at_once == 1:
        yield from ((rows, embedder.embed_batch(batch)) for rows, batch in stacked)
    else:
        run = lambda pair: (pair[0], embedder.embed_small_batch(pair[1]))  # noqa: E731
        yield from prefetch(run, stacked, embedder.at_once, embedder.at_once + 1)


def _batches(batches, lengths, read, workers: int, ahead: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    reads = prefetch(read, itertools.chain(*batches), workers, ahead)
    for rows in batches:
        yield rows, np.stack([fill(np.asarray(next(reads), np.float32), lengths[rows[0]]) for _ in rows])


def _embed_parts(embedder: WaveformEmbedder, waveform: np.ndarray) -> np.ndarray:
    """[1, D], the mean over equal parts, weighted by what they have of the utterance."""
    size = -(-len(waveform) // math.ceil(len(waveform) / (LONGEST * embedder.sample_rate)))
    total, weight = np.zeros(embedder.embedding_dim), 0
    for start in range(0, len(waveform), size):
        part = np.asarray(waveform[start : start + size], np.float32)
        if np.ptp(part):
            total += len(part) * embedder.embed_batch(fill(part, embedder.length(len(part)))[None])[0].astype(float)
            weight += len(part)
    return (total / weight).astype(np.float32)[None]


def prefetch(function, items: Iterable, workers: int, ahead: int) -> Iterator:
    """map(function, items) on threads, in order, at most `ahead` results waiting."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
