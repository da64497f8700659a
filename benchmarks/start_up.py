"""A training's first batch at a million files,
at the beginning and in mid-epoch; prints a Markdown section.

    python benchmarks/start_up.py [--quick]

A million different paths lead to a thousand files (by links of folders):
what counts here is how many there are, not how fast a disk is.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from common import in_child, table, wants_quick
from hardware import describe, peak_mb

from alpha_sv.data.corpus.manifest import Utterance, read_manifest, write_manifest
from alpha_sv.sb.chunks import EpochSampler, RandomChunks

RATE, BATCH = 16000, 64


@dataclass(frozen=True)
class Size:
    files: int
    links: int  # as often


FULL, QUICK = Size(1_000, 1_000), Size(20, 60)  # so that each of 8 processes has two batches


@dataclass(frozen=True)
class Measured:
    seconds: dict[str, float]
    peaks: dict[str, float]  # MB


@contextlib.contextmanager
def timed(found: dict[str, float], name: str):
    start = time.perf_counter()
    yield
    found[name] = time.perf_counter() - start


def make(folder: Path, files: int, links: int) -> Path:
    """The manifest of files × links utterances."""
    (folder / "0000").mkdir()
    for number in range(files):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, RATE * 2)
        soundfile.write(folder / "0000" / f"{number:04d}.wav", noise, RATE)
    for link in range(1, links):
        (folder / f"{link:04d}").symlink_to(folder / "0000")
    rows = [
        Utterance(f"{at}/v/{n:04d}.wav", f"{folder}/{at}/{n:04d}.wav", at, "v", 2 * RATE, RATE, 1, "train")
        for at in (f"{link:04d}" for link in range(links))
        for n in range(files)
    ]  # fmt: skip
    write_manifest(folder / "manifest.csv", rows)
    return folder / "manifest.csv"


def collate(examples: list) -> tuple:
    import torch

    return *torch.utils.data.default_collate(examples), peak_mb()


def first_batch(chunks, epoch: int, done: int, processes: int) -> tuple[float, float]:
    """Seconds until the batch after `done` is there, and the peak of the worker that made it."""
    from speechbrain.dataio.dataloader import SaveableDataLoader
    from speechbrain.dataio.sampler import DistributedSamplerWrapper

    sampler = EpochSampler(len(chunks))
    if processes > 1:
        sampler = DistributedSamplerWrapper(sampler, num_replicas=processes, rank=0, shuffle=False, drop_last=True)
    sampler.set_epoch(epoch)
    loader = SaveableDataLoader(
        chunks, BATCH, sampler=sampler, num_workers=2, collate_fn=collate, drop_last=True, prefetch_factor=4
    )
    loader._speechbrain_recovery_skip_to = done or None
    start = time.perf_counter()
    *_, peak = next(iter(loader))
    return time.perf_counter() - start, peak


def measure(manifest: Path) -> Measured:
    seconds: dict[str, float] = {}
    with timed(seconds, "read the manifest"):
        utterances = read_manifest(manifest)
    with timed(seconds, "labels and the table of recordings"):
        speakers = sorted({u.speaker for u in utterances})
        chunks = RandomChunks(utterances, {name: i for i, name in enumerate(speakers)}, 2.0, RATE)
    size, peaks = len(utterances), {"the process that read the manifest": peak_mb()}
    del utterances
    half = size // BATCH // 2
    for name, done, processes in (
        ("first batch of an epoch", 0, 1), ("first batch after half an epoch", half, 1),
        ("the same, one of 8 processes", half // 8, 8),
    ):  # fmt: skip
        seconds[name], peaks["a worker of the loader (pages shared with its parent counted)"] = first_batch(
            chunks, 1, done, processes
        )
    return Measured(seconds, peaks)


def measure_all(size: Size) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return in_child(measure, make(Path(folder), size.files, size.links))


def section(results: Measured, size: Size) -> str:
    rows = [[name, f"{value:.2f} s"] for name, value in results.seconds.items()]
    rows += [[f"memory of {name}", f"{value:,.0f} MB"] for name, value in results.peaks.items()]
    return "\n\n".join([
        f"## start_up: {size.files * size.links:,} files",
        f"Batches of {BATCH} chunks of 2 s, two workers; a training's first batch, from the manifest on.",
        describe(),
        table(["", ""], rows),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
