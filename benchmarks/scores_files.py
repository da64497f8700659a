"""Scores files of millions of lines: what each verb of the
command line takes, beside awk, which only reads the text.

`python benchmarks/scoring.py --files` prints the Markdown section.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
from hardware import describe, peak_mb

from alpha_sv.data.trials.files import ScoreTable, read_scores, write_scores
from alpha_sv.data.trials.layouts import SCORE_LAYOUTS
from alpha_sv.data.trials.line_reader import TextTable
from alpha_sv.data.trials.name_column import Names
from alpha_sv.embedding.store import StoreWriter

UTTERANCES, SPEAKERS, COHORT = 138_000, 1_190, 5_994  # of VoxCeleb1-H; speakers of VoxCeleb2 dev
ALL_VERBS = 4_000_000  # lines; of longer files the reading and evaluate only


def scores_file(path: str, lines: int, utterances: int = UTTERANCES, speakers: int = SPEAKERS, seed: int = 1) -> None:
    """A scores file of that many lines, 5 % of them target trials;
    a pair that comes twice has the same score."""
    rng = np.random.default_rng(0)
    speaker = rng.integers(speakers, size=utterances)
    names = Names.of(_names(speaker))
    enroll, test = rng.integers(utterances, size=(2, lines))
    order, count = np.argsort(speaker, kind="stable"), np.bincount(speaker)
    same = rng.random(lines) < 0.05
    own = speaker[enroll[same]]
    test[same] = order[np.searchsorted(speaker[order], own) + rng.integers(1 << 30, size=same.sum()) % count[own]]
    labels = speaker[enroll] == speaker[test]
    drawn = np.random.default_rng(seed).normal(size=(2, utterances))
    scores = np.where(labels, 0.6, 0.1) + 0.07 * (drawn[0][enroll] + drawn[1][test])
    write_scores(path, ScoreTable(names.take(enroll), names.take(test), scores, labels))


def _names(speaker: np.ndarray) -> list[str]:
    return [f"id{s:05d}/{n:011x}/{n % 400:05d}.wav" for n, s in enumerate(speaker.tolist())]


def store_of_them(path: str, utterances: int = UTTERANCES, speakers: int = SPEAKERS, cohort: int = COHORT) -> None:
    """An embedding store of the utterances of `scores_file`,
    and of one of each speaker of a cohort, D = 192."""
    rng = np.random.default_rng(0)
    speaker = rng.integers(speakers, size=utterances)
    ids = [*_names(speaker), *(f"cohort{n}/1.wav" for n in range(cohort))]
    splits = ["test"] * utterances + ["train"] * cohort
    writer = StoreWriter(path, ids, [name.partition("/")[0] for name in ids], splits, 192, "benchmark")
    writer.write(range(len(ids)), rng.standard_normal((len(ids), 192), dtype=np.float32))
    writer.finish()


def our_reading(path: str) -> tuple[float, float, float, float]:
    """Seconds, seconds of the processor, MB, and the sum of the scores."""
    start, cpu = time.perf_counter(), time.process_time()
    scores = read_scores(path).scores
    return time.perf_counter() - start, time.process_time() - cpu, peak_mb(), float(scores.sum())


def plain_reading(path: str, lines: int) -> tuple[float, float, float, float]:
    """As `our_reading`, by the readable reader that
    ours is tested against; some lines, extrapolated."""
    with open(path, "rb") as file:
        head = b"".join(itertools.islice(file, lines))
    start, cpu = time.perf_counter(), time.process_time()
    table = TextTable.read(path, [head])
    scores = table.arrays(table.roles(SCORE_LAYOUTS, None, ""))["scores"]
    return time.perf_counter() - start, time.process_time() - cpu, peak_mb(), float(scores.sum())


def program(*command: str) -> tuple[float, float, float, str]:
    """Seconds, seconds of the processor, MB of a program, and what it printed."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        printed = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, printed


def files_section(sizes: Sequence[int], alone: Callable) -> str:
    """A Markdown section; `alone` calls a function in a process of its own."""
    rows = []

    def row(lines: int, what: str, seconds: float, cpu: float, peak: float | None, note: str) -> None:
        rows.append(f"| {lines:,} | {what} | {seconds:.1f} | {cpu:.1f} | {f'{peak:,.0f}' if peak else ''} | {note} |")

    def verb(lines: int, what: str, note: str, *arguments: str) -> None:
        row(lines, f"`alpha-sv {what}`", *program(sys.executable, "-m", "alpha_sv.cli", *arguments)[:3], note)

    with tempfile.TemporaryDirectory() as folder:
        path, other, store = (os.path.join(folder, name) for name in ("scores.txt", "other.txt", "embeddings"))
        for lines in sizes:
            alone(scores_file, path, lines)
            awk = program("awk", '{ sum += $3 } END { printf "%.9g", sum }', path)
            ours, part = alone(our_reading, path), min(lines // 20, 200_000)
            plain = [number * lines / part for number in alone(plain_reading, path, part)[:2]]
            agree = "the same sum" if abs(ours[3] - float(awk[3])) <= 1e-6 * abs(ours[3]) else "ANOTHER SUM"
            row(lines, "awk, the sum of the scores", *awk[:2], None, "the limit: only to read the text")
            row(lines, "`read_scores`", *ours[:3], f"{agree}; layout, numbers, repeats checked")
            row(lines, "the readable reader", *plain, None, f"≈, from {part:,} lines")
            nothing_else = ("evaluate", path, "--replicates", "0")
            verb(lines, "evaluate --replicates 0", "start, reading, all metrics", *nothing_else)
            if lines > ALL_VERBS:
                continue
            few, out = ("--replicates", "200"), ("-o", os.path.join(folder, "out"))
            verb(lines, "evaluate --replicates 200", "with intervals over speakers", "evaluate", path, *few)
            alone(scores_file, other, lines, UTTERANCES, SPEAKERS, 2)
            verb(lines, "compare --replicates 200", "two files", "compare", path, other, *few)
            verb(lines, "calibrate", "fit, and 15 fits for speakers unheard", "calibrate", path, *out)
            calibrator = ("--calibrator", out[1], "-o", other)
            verb(lines, "calibrate --calibrator", "to log-likelihood ratios", "calibrate", path, *calibrator)
            trials = os.path.join(folder, "trials.txt")
            program("awk", "-v", f"out={trials}", '{ print ($4 == "target"), $1, $2 > out }', path)
            alone(store_of_them, store)
            verb(lines, "score", f"{UTTERANCES:,} embeddings, D = 192", "score", store, trials, "-o", other)
            normed = ("normalize", other, "--embeddings", store, *out)
            verb(lines, "normalize", f"AS-norm, {COHORT:,} speakers, top 300", *normed)
    return "\n".join([
        "## Files", "",
        f"Scores files of `enroll test score target\\|nontarget`, {UTTERANCES:,} utterances. Seconds, seconds of the "
        "processor, MB of the whole process.", "", describe(), "",
        "| lines | what | s | CPU s | MB | |",
        "|--:|---|--:|--:|--:|---|",
        *rows,
    ])  # fmt: skip
