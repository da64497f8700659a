"""Training examples a second against number of workers,
from loose files and tar shards: prints a Markdown section.

    python benchmarks/loader.py [--quick]
    TMPDIR=/scratch python benchmarks/loader.py    # the file system that your corpus will lie on

The files are made in a temporary folder, 20 GB of them without --quick. What a reader finds
in the page cache depends on the machine's memory: where the 20 GB do not fit, the disk is
part of the measurement.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from common import in_child, table, wants_quick
from hardware import describe, peak_mb

from alpha_sv.data.audio.augment import Augmenter
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.corpus.tar_shards import write_shards
from alpha_sv.sb.chunks import EpochSampler, RandomChunks

RATE, SECONDS, SPEAKERS = 16000, 2.0, 100
BATCH = 64
SOURCES = ("loose wav", "loose flac", "tar shards of wav")
SPEEDS = (1.0, 0.9, 1.1)
Corpus = dict[str, list[Utterance]]


@dataclass(frozen=True)
class Size:
    files: int
    workers: tuple[int, ...]
    seconds: float  # of a measurement, unless the epoch ends before


FULL = Size(files=100_000, workers=(0, 1, 2, 4), seconds=10.0)
QUICK = Size(files=200, workers=(0, 1), seconds=0.1)


@dataclass(frozen=True)
class Measured:
    rates: dict[int, float]  # workers → examples a second
    peak: float  # MB, of the largest worker
    error: float | None


def signal(number: int) -> np.ndarray:
    """16-bit counts [T]: noise whose spectrum falls as
    that of speech, so that FLAC has something to do."""
    white = np.random.default_rng(number % 997).standard_normal(round(RATE * SECONDS))
    pink = np.convolve(white, 0.9 ** np.arange(40), mode="same")
    return (3000 / np.std(pink) * pink).clip(-32768, 32767).astype(np.int16)


def make(folder: Path, size: Size) -> tuple[Corpus, float]:
    """The corpus in each form, and files a second of the writing of the shards."""

    def write(number: int) -> list[Utterance]:
        counts, speaker, rows = signal(number), f"s{number % SPEAKERS:03d}", []
        for kind in ("wav", "flac"):
            name = f"{speaker}/v/{number:06d}.{kind}"
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, counts, RATE)
            rows.append(Utterance(name, str(path), speaker, "v", len(counts), RATE, 1, "train"))
        return rows

    with ThreadPoolExecutor() as pool:
        wav, flac = map(list, zip(*pool.map(write, range(size.files)), strict=True))
    start = time.perf_counter()
    shards = write_shards(wav, folder / "shards", progress=False)
    seconds = time.perf_counter() - start
    for name, length in (("noise", 20 * RATE), ("rir", RATE // 4)):
        decay = np.exp(-np.arange(length) / 800) if name == "rir" else 1
        (folder / name).mkdir()
        for number in range(10):
            noise = decay * np.random.default_rng(number).uniform(-0.5, 0.5, length)
            soundfile.write(folder / name / f"{number}.wav", noise, RATE)
    return dict(zip(SOURCES, (wav, flac, shards), strict=True)), size.files / seconds


def dataset(rows: list[Utterance], folder: Path, augmented: bool) -> RandomChunks:
    labels = {f"s{number:03d}": number for number in range(SPEAKERS)}
    augment = Augmenter(folder / "noise", folder / "rir") if augmented else None
    return RandomChunks(rows, labels, SECONDS, RATE, augment, speeds=SPEEDS if augmented else (1.0,))


def collate(examples: list[tuple[np.ndarray, int]]) -> tuple:
    """The batch as the trainer gets it, and the peak memory of the process that made it."""
    import torch

    return *torch.utils.data.default_collate(examples), peak_mb()


def measure_each(corpus: Corpus, folder: Path, size: Size) -> dict[tuple[str, bool], Measured]:
    """In a process of its own, so that the workers are forked from a small one."""
    import torch

    torch.set_num_threads(1)  # as in a worker of the loader
    cells = itertools.product((False, True), SOURCES)
    return {(source, augmented): measure(corpus, source, folder, augmented, size) for augmented, source in cells}


def measure(corpus: Corpus, source: str, folder: Path, augmented: bool, size: Size) -> Measured:
    import torch

    chunks = dataset(corpus[source], folder, augmented)
    rates, peak = {}, 0.0
    for epoch, workers in enumerate(size.workers, start=1):
        sampler = EpochSampler(len(chunks))
        sampler.set_epoch(epoch)
        loader = torch.utils.data.DataLoader(
            chunks, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate, drop_last=True
        )
        batches = iter(loader)
        for _ in itertools.islice(batches, 2 * workers):  # the workers start, and fill the queue
            pass
        rates[workers], batch_peak = _rate(batches, size.seconds)
        peak = max(peak, batch_peak if workers else 0.0)
        del batches  # ends the workers
    return Measured(rates, peak, _error(chunks, corpus, source, folder, augmented))


def _rate(batches: Iterator[tuple], seconds: float) -> tuple[float, float]:
    count, peak, start = 0, 0.0, time.perf_counter()
    for _, labels, now in batches:
        count, peak, taken = count + len(labels), max(peak, now), time.perf_counter() - start
        if taken > seconds:
            break
    return count / taken, peak


def _error(chunks: RandomChunks, corpus: Corpus, source: str, folder: Path, augmented: bool) -> float | None:
    """Largest difference of examples from those of the loose wav files;
    theirs from what was written there."""
    numbers = range(0, len(chunks), max(len(chunks) // 20, 1))
    if source != SOURCES[0]:
        oracle = dataset(corpus[SOURCES[0]], folder, augmented)
        return max(float(np.abs(chunks[1, n][0] - oracle[1, n][0]).max()) for n in numbers)
    if augmented:
        return None
    return max(float(np.abs(chunks[1, n][0] - signal(n) / 32768).max()) for n in numbers)


@dataclass(frozen=True)
class Results:
    cells: dict[tuple[str, bool], Measured]
    shard_rate: float


def measure_all(size: Size) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        corpus, shard_rate = make(Path(folder), size)
        return Results(in_child(measure_each, corpus, Path(folder), size), shard_rate)


def section(results: Results, size: Size) -> str:
    rows = [
        [f"{source}, augmented" if augmented else source]
        + [f"{rate:,.0f}" for rate in found.rates.values()]
        + [f"{found.peak:,.0f}", "" if found.error is None else f"{found.error:.0e}"]
        for (source, augmented), found in results.cells.items()
    ]
    speeds = ", ".join(map(str, SPEEDS))
    return "\n\n".join([
        "## loader: training examples a second",
        f"{size.files:,} files of {SECONDS:g} s at {RATE / 1000:g} kHz, 16 bits, in random order; examples of "
        f"{SECONDS:g} s a second by number of workers of the loader (0: in the process of the training), batches of "
        f"{BATCH}, nothing else running. *Augmented*: speeds {speeds}; noise with probability 0.6, reverberation 0.3. "
        "MB: the largest worker, PyTorch included. Error: of the examples, from those of the loose wav files, and "
        f"theirs from what was written. The shards were written at {results.shard_rate:,.0f} files a second.",
        describe(),
        table(["", *(f"workers: {n}" for n in size.workers), "MB", "error"], rows),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
