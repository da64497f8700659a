"""Scoring at the size of VoxCeleb1-H beside the ways it is usually done: prints a Markdown section.

    python benchmarks/scoring.py [--quick] [--files]

Random embeddings with speaker structure; the counts are those of the list, and nothing else about
it matters to the time. Each of our measurements has a process of its own, so that its peak memory
is its own. The other ways are timed on a few trials and extrapolated: linearly where they loop over
trials, quadratically where they compare every trial with every threshold.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from hardware import describe, peak_mb
from scores_files import files_section

from alpha_sv.data.trials.files import Trials
from alpha_sv.metrics import eer, min_dcf
from alpha_sv.scoring import normalize_table, score_trials, speaker_means, trial_statistics
from alpha_sv.scoring.models import ArrayStore


@dataclass(frozen=True)
class Size:
    trials: int
    utterances: int
    speakers: int
    cohort: int
    long_cohort: int  # utterances in a cohort that is not averaged
    top_n: int = 300
    dim: int = 192
    sample: int = 300  # trials or utterances of the samples
    eer_sample: int = 20_000
    dcf_sample: int = 5_000


FULL = Size(trials=551_480, utterances=138_000, speakers=1_190, cohort=5_994, long_cohort=1_000_000)
LINES = (4_000_000, 10_000_000, 15_700_000)  # of scores files; the last is IJB-C
QUICK = Size(5_000, 2_000, 100, 600, 20_000, sample=20, eer_sample=500, dcf_sample=500)


def world(size: Size) -> tuple[Trials, ArrayStore, np.ndarray]:
    """Trials, their embeddings [utterances, dim] and a
    cohort [cohort, dim] of other speakers, all float32."""
    rng = np.random.default_rng(0)

    def speech(of: np.ndarray, speakers: int) -> np.ndarray:
        centres = rng.standard_normal((speakers, size.dim), dtype=np.float32)
        return centres[of] + rng.standard_normal((len(of), size.dim), dtype=np.float32)

    speaker = rng.integers(size.speakers, size=size.utterances)
    ids = [f"id{s:05d}/video/{n:06d}.wav" for n, s in enumerate(speaker.tolist())]
    enroll, test = rng.integers(size.utterances, size=(2, size.trials))
    same = np.flatnonzero(rng.random(size.trials) < 0.5)  # half of the list are target trials
    order = np.argsort(speaker, kind="stable")
    first, count = np.searchsorted(speaker[order], np.arange(size.speakers)), np.bincount(speaker)
    own = speaker[enroll[same]]
    test[same] = order[first[own] + rng.integers(1 << 30, size=len(same)) % count[own]]
    names = np.array(ids)
    trials = Trials(names[enroll], names[test], speaker[enroll] == speaker[test])
    store = ArrayStore(ids, speech(speaker, size.speakers))
    strangers = np.repeat(np.arange(size.cohort), 2)
    cohort, _ = speaker_means(speech(strangers, size.cohort), [f"{s:05d}" for s in strangers.tolist()])
    return trials, store, cohort.astype(np.float32)


def our_cosine(size: Size) -> tuple[float, float, np.ndarray]:
    trials, store, _ = world(size)
    start = time.perf_counter()
    scores = score_trials(trials, store, progress=False).scores
    return time.perf_counter() - start, peak_mb(), scores


def our_as_norm(size: Size) -> tuple[float, float, np.ndarray]:
    trials, store, cohort = world(size)
    start = time.perf_counter()
    table = score_trials(trials, store, progress=False)
    scores = normalize_table(table, store, cohort, top_n=size.top_n, progress=False).scores
    return time.perf_counter() - start, peak_mb(), scores


def our_long_cohort(size: Size) -> tuple[float, float, float]:
    """The third number is the largest error of the
    statistics of one utterance, against a plain sort."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((size.sample, size.dim), dtype=np.float32)
    names = [f"u{n}" for n in range(size.sample)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cohort.npy")
        cohort = np.lib.format.open_memmap(path, "w+", np.float32, (size.long_cohort, size.dim))
        for start in range(0, size.long_cohort, 10_000):
            part = cohort[start : start + 10_000]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        start = time.perf_counter()
        trials = Trials(names, names[::-1])
        [(mean, std)] = trial_statistics(
            trials, ArrayStore(names, rows), cohort, size.top_n, sides=["enroll"], progress=False
        )
        seconds, peak = time.perf_counter() - start, peak_mb()
        row = rows[0].astype(np.float64)
        cosines = np.concatenate([_cosines(cohort[s : s + 10_000], row) for s in range(0, size.long_cohort, 10_000)])
    top = np.sort(cosines)[-size.top_n :]
    return seconds, peak, max(abs(top.mean() - mean[0]), abs(top.std() - std[0]))


def _cosines(block: np.ndarray, row: np.ndarray) -> np.ndarray:
    block = block.astype(np.float64)
    return block @ row / np.linalg.norm(block, axis=1) / np.linalg.norm(row)


def our_rates(size: Size, scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, None]:
    start = time.perf_counter()
    eer(scores[labels], scores[~labels])
    min_dcf(scores[labels], scores[~labels])
    return time.perf_counter() - start, peak_mb(), None


def cosine_loop(size: Size) -> tuple[float, np.ndarray]:
    """The per-trial way: scikit-learn's cosine_similarity of two single rows."""
    from sklearn.metrics.pairwise import cosine_similarity

    _, store, _, pairs = sample(size)
    return timed(lambda: [cosine_similarity(store.matrix[[e]], store.matrix[[t]])[0, 0] for e, t in pairs])


def as_norm_loop(size: Size) -> tuple[float, np.ndarray]:
    """The algorithm and the shapes of SpeechBrain's verification recipe:
    both sides meet the cohort in every trial.

    The standard deviation is that of the population, as ours; the recipe's has ddof = 1.
    """
    import torch

    _, store, cohort, pairs = sample(size)
    similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
    matrix, cohort = torch.from_numpy(store.matrix)[:, None, None], torch.from_numpy(cohort)[:, None]

    def score(*sides: int) -> float:
        raw, normalised = similarity(*matrix[list(sides)])[0], []
        for side in sides:
            found = similarity(matrix[side].repeat(len(cohort), 1, 1), cohort)
            nearest = torch.topk(found, k=size.top_n, dim=0)[0]
            normalised.append((raw - nearest.mean(dim=0)) / nearest.std(dim=0, correction=0))
        return float(0.5 * (normalised[0] + normalised[1]))

    return timed(lambda: [score(*pair) for pair in pairs])


def lean_as_norm_loop(size: Size) -> tuple[float, np.ndarray]:
    """A per-trial loop that leaves nothing but the repetition to save:
    a normalised cohort, one product a side."""
    _, store, cohort, pairs = sample(size)
    matrix, cohort = store.matrix.astype(np.float64), cohort.astype(np.float64)
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)

    def score(*sides: int) -> float:
        units = [matrix[side] / np.linalg.norm(matrix[side]) for side in sides]
        tops = [np.sort(cohort @ unit)[-size.top_n :] for unit in units]
        return sum((units[0] @ units[1] - top.mean()) / top.std() for top in tops) / 2

    return timed(lambda: [score(*pair) for pair in pairs])


def sample(size: Size) -> tuple[Trials, ArrayStore, np.ndarray, list[tuple[int, int]]]:
    """The world, and the rows of its first trials."""
    trials, store, cohort = world(size)
    sides = (store.rows(side[: size.sample].tolist()).tolist() for side in (trials.enroll, trials.test))
    return trials, store, cohort, list(zip(*sides, strict=True))


def timed(function: Callable[[], object]) -> tuple[float, np.ndarray]:
    """Seconds of the second call, and its result."""
    function()
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, np.array(result)


def alone(function: Callable, *arguments: object) -> tuple:
    """Call it in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def section(size: Size) -> str:
    import torch
    from speechbrain.utils.metric_stats import EER, minDCF

    cosine, as_norm, long_cohort = (alone(f, size) for f in (our_cosine, our_as_norm, our_long_cohort))
    labels = world(size)[0].labels
    rates = alone(our_rates, size, cosine[2], labels)
    rows = []

    def row(what: str, ours: tuple, error: float, seconds: float | None, peak: float | None, other: str) -> None:
        theirs, ratio = (f"≈ {seconds:,.0f}", f"{seconds / ours[0]:,.0f}") if seconds else ("", "")
        memory = f"≈ {peak:,.0f}" if peak else ""
        rows.append(
            f"| {what} | {ours[0]:.2f} | {ours[1]:,.0f} | {error:.0e} | {theirs} | {memory} | {other} | {ratio} |"
        )

    for what, ours, loop, other in (
        ("cosine", cosine, cosine_loop, "scikit-learn"),
        (f"cosine + AS-norm, {size.cohort:,} speakers, top {size.top_n}", as_norm, as_norm_loop, "SpeechBrain's loop"),
        ("the same", as_norm, lean_as_norm_loop, "a lean numpy loop"),
    ):
        seconds, plain = alone(loop, size)
        error = np.abs(plain - ours[2][: size.sample]).max()
        row(what, ours, error, seconds * size.trials / size.sample, None, f"{other}, {size.sample} trials")
    what = f"statistics of {size.sample} utterances, cohort of {size.long_cohort:,} utterances on disk"
    whole = size.utterances * size.long_cohort * 4 / 1e6
    row(what, long_cohort, long_cohort[2], None, whole, "the whole matrix of the list, float32")
    for name, theirs, ours, count, unit in (
        ("EER (ours: with minDCF)", EER, eer, size.eer_sample, 1.0),
        ("minDCF (ours: with EER)", minDCF, min_dcf, size.dcf_sample, 0.01),  # theirs is not normalised
    ):
        sides = [cosine[2][:count][labels[:count]], cosine[2][:count][~labels[:count]]]
        tensors = [torch.from_numpy(side) for side in sides]
        seconds, (value, _) = timed(lambda f=theirs, x=tensors: f(*x))
        matrix = 2 * size.trials * int((~labels).sum()) * 4 / 1e6 if theirs is minDCF else None
        other = f"SpeechBrain, {count:,} trials, quadratic"
        row(name, rates, abs(ours(*sides)[0] - value / unit), seconds * (size.trials / count) ** 2, matrix, other)
    return "\n".join([
        "## Scoring", "",
        f"{size.trials:,} trials of {size.utterances:,} utterances, D = {size.dim} (the size of VoxCeleb1-H; random "
        "embeddings). Seconds, MB of the whole process, largest difference of the values on the sample. `≈`: "
        "extrapolated from the sample named.", "", describe(), "",
        "| what | ours s | ours MB | difference | other s | other MB | other, measured on | ratio |",
        "|---|--:|--:|--:|--:|--:|---|--:|",
        *rows,
    ])  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument("--files", action="store_true", help="only the section about scores files")
    given = parser.parse_args()
    if not given.files:
        print(section(QUICK if given.quick else FULL), end="\n\n")
    print(files_section((20_000,) if given.quick else LINES, alone))
