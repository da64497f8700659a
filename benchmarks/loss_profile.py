"""Where the time of the losses goes at few classes,
by the profiler, and what it is of a step; prints Markdown.

python benchmarks/loss_profile.py [--quick]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from common import Cell, Times, in_child, interleave, table, wants_quick, world
from hardware import describe
from solver_speed import COSFACE, losses, plain, value_and_gradient
from torch.profiler import ProfilerActivity, profile

from alpha_sv.device import keep_memory

PROFILED, SHOWN = "QMargin α = 1.5", 10


@dataclass(frozen=True)
class Size:
    classes: int
    batch: int
    seconds: float  # of the comparison
    repeats: int  # under the profiler
    channels: tuple[int, ...]
    chunks: int  # of 2 s, in the network's step; the time is taken in proportion


FULL = Size(5_994, 128, seconds=20.0, repeats=12, channels=(512, 512, 512, 512, 1536), chunks=16)
QUICK = Size(600, 8, seconds=0.0, repeats=5, channels=(8, 8, 8, 8, 24), chunks=2)


@dataclass(frozen=True)
class Measured:
    """Of one loss: its times, calls and µs of its operations,
    those on all cosines, its error, its operations."""

    times: Times
    calls: float
    total: float
    wide_calls: float
    wide: float
    error: float
    operations: list[list[str]]


@dataclass(frozen=True)
class Results:
    losses: dict[str, Measured]
    step: float  # seconds of the network's, for the same batch


def profiled(run: Callable[[], object], cosines: torch.Tensor, repeats: int) -> dict:
    """Of the step that took least: what else the machine did is in the others."""
    best = None
    for _ in range(repeats + 1):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            run()
        events = [one for one in found.key_averages(group_by_input_shape=True) if one.key.startswith("aten::")]
        total = sum(one.self_cpu_time_total for one in events)
        if best is None or total < best[0]:
            best = total, events, found.key_averages()
    total, events, by_name = best
    wide = [one for one in events if any(_elements(shape) >= cosines.numel() // 2 for shape in one.input_shapes)]
    rows = sorted((one for one in by_name if one.key.startswith("aten::")), key=lambda one: -one.self_cpu_time_total)
    return {
        "calls": sum(one.count for one in events),
        "total": total,
        "wide_calls": sum(one.count for one in wide),
        "wide": sum(one.self_cpu_time_total for one in wide),
        "operations": [[one.key, f"{one.count}", f"{one.self_cpu_time_total:.0f}"] for one in rows[:SHOWN]],
    }


def _elements(shape: list) -> int:
    """Of an input; 0 if it is no tensor."""
    return math.prod(shape) if shape and all(isinstance(length, int) for length in shape) else 0


def measure(size: Size) -> Results:
    keep_memory()
    torch.set_num_threads(1)
    embeddings, weight, labels = world(Cell(size.classes, size.batch))
    cosines, group = embeddings @ F.normalize(weight).T, losses()
    group = {name: one for name, one in group.items() if name == COSFACE or "α" in name}
    runs = {name: lambda one=one: value_and_gradient(one, cosines, labels) for name, one in group.items()}
    times, found = interleave(runs, size.seconds, rounds=200, clock=time.process_time), {}
    for name, one in group.items():
        truth = value_and_gradient(plain(one.same_as), cosines.double(), labels)[0].item()
        error = abs(runs[name]()[0].item() - truth) / max(truth, 1.0)
        found[name] = Measured(times[name], error=error, **profiled(runs[name], cosines, size.repeats))
    return Results(found, network_step(size) * size.batch / size.chunks)


def network_step(size: Size) -> float:
    """Seconds of the processor for forward, backward and Adam of an ECAPA-TDNN."""
    from alpha_sv.embedding import SpeakerEmbedder

    embedder = SpeakerEmbedder("ecapa_tdnn", 192, channels=list(size.channels)).train()
    adam, chunks = torch.optim.Adam(embedder.parameters(), lr=1e-8), 0.1 * torch.randn(size.chunks, 32_000)
    taken = []
    for _ in range(4):
        begun = time.process_time()
        adam.zero_grad()
        embedder(chunks).square().mean().backward()
        adam.step()
        taken.append(time.process_time() - begun)
    return median(taken[1:])


def measure_all(size: Size) -> Results:
    return in_child(measure, size)


def section(results: Results, size: Size) -> str:
    unit = results.losses[COSFACE].times
    rows = [
        [
            name,
            f"{m.calls:.0f}",
            f"{m.wide_calls:.0f}",
            f"{m.total:.0f}",
            f"{m.wide:.0f}",
            f"{1e3 * m.times.median:.2f} / {1e3 * m.times.least:.2f}",
            f"{m.times.median / unit.median:.2f} / {m.times.least / unit.least:.2f} ×",
            f"{100 * m.times.median / results.step:.3f} %",
            f"{m.error:.0e}",
        ]
        for name, m in results.losses.items()
    ]
    head = ["", "calls", "on all cosines", "µs, profiled", "on all cosines", "ms", "of CosFace's", "of a step", "error"]
    return "\n\n".join([
        "## loss_profile: where the time goes at few classes",
        f"Forward and backward on given cosines, C = {size.classes:,}, B = {size.batch}, trained, memory kept, one "
        "thread. Calls of PyTorch's operations in one step, and how many of them touch a tensor of all cosines; µs by "
        "their own time under the profiler, which adds its own to each call; ms of the processor without it, median / "
        f"minimum. Of a step: of forward, backward and Adam of an ECAPA-TDNN of {list(size.channels)} channels on as "
        f"many chunks of 2 s, which take {results.step:.1f} s (measured on {size.chunks}, in proportion). Error: of "
        "the value, from the plain solver in float64.",
        describe(),
        table(head, rows),
        f"The operations of {PROFILED} that take most:",
        table(["", "calls", "µs"], results.losses[PROFILED].operations),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
