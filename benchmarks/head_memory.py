"""Heads for very many speakers: time, peak memory and error,
beside a dense CosFace head; prints a Markdown section.

    python benchmarks/head_memory.py [--quick]

Forward and backward from embeddings to the gradients of embeddings and prototypes, normalisation
included; and the whole training step of a head, with the update of the prototypes. The bare GEMM is
embeddings times prototypes, forward only, neither normalised: less than that no exact head can do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from common import (
    WORLDS,
    Cell,
    Target,
    Times,
    extra_mb,
    in_child,
    interleave,
    ratio_target,
    relative_error,
    table,
    wants_quick,
    world,
)
from hardware import describe
from solver_speed import ALPHAS, COSFACE, MARGIN, SCALE, cosface
from torch import Tensor, nn

from alpha_sv.device import keep_memory
from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead
from alpha_sv.losses import AMSoftmax, MarginLoss, QMargin

GEMM, DENSE, SPARSE = "bare GEMM", "CosineHead, QMargin α = 1.5", "SparseHead, QMargin α = 1.5"
STEP, SPARSE_STEP = "CosFace, whole step with SGD", "SparseHead, whole step with PrototypeSGD"
COMPARED = (COSFACE, DENSE, SPARSE)  # in memory and error too; the other α run the same code
_LEARNING_RATE = 1e-4  # so small that the prototypes stay what they are


@dataclass(frozen=True)
class Size:
    cells: tuple[Cell, ...]
    default_allocator: Cell
    seconds: float  # of one comparison


FULL = Size(
    (
        Cell(5_994, 128), Cell(100_000, 128), Cell(100_000, 512, 256),
        Cell(1_000_000, 128), Cell(1_000_000, 128, kind="random"),
    ),
    default_allocator=Cell(1_000_000, 128),
    seconds=15.0,
)  # fmt: skip
QUICK = Size((Cell(700, 8, 16),), default_allocator=Cell(700, 8, 16), seconds=0.0)


@dataclass(frozen=True)
class Measured:
    times: dict[str, Times]
    peaks: dict[str, float]
    errors: dict[str, float]


class CosFaceHead(nn.Module):
    """Dense prototypes and the fastest plain CosFace."""

    loss = AMSoftmax(SCALE, MARGIN)

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return cosface(F.linear(F.normalize(embeddings), F.normalize(self.weight)), labels)


def head(cls: type[CosineHead], weight: Tensor, loss: MarginLoss) -> CosineHead:
    """One of ours on prototypes that are already there, and shared."""
    made = cls(weight.shape[1], 1, loss)
    made.weight = nn.Parameter(weight)
    return made


def heads(weight: Tensor) -> dict[str, nn.Module]:
    """The heads by name. QMargin has scale auto and a margin of 0.2."""
    found = {COSFACE: CosFaceHead(weight), DENSE: head(CosineHead, weight, QMargin(1.5, "auto", MARGIN))}
    for alpha in ALPHAS:
        found[f"SparseHead, QMargin α = {alpha:g}"] = head(SparseHead, weight, QMargin(alpha, "auto", MARGIN))
    return found


def forward_backward(module: nn.Module, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, and gradients of the embeddings and of the prototypes."""
    embeddings, module.weight.grad = embeddings.detach().requires_grad_(), None
    loss = module(embeddings, labels)
    loss.backward()
    return loss.detach(), embeddings.grad, module.weight.grad


def runs(embeddings: Tensor, weight: Tensor, labels: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed: the GEMM, forward and backward of each head, and two whole steps."""
    made = heads(weight)
    found = {GEMM: lambda: weight @ embeddings.T}  # the quicker of the two orders
    for name, module in made.items():
        found[name] = lambda module=module: forward_backward(module, embeddings, labels)
    steps = {
        STEP: (made[COSFACE], torch.optim.SGD([made[COSFACE].weight], lr=_LEARNING_RATE, momentum=0.9)),
        SPARSE_STEP: (made[SPARSE], PrototypeSGD([made[SPARSE].weight], lr=_LEARNING_RATE, momentum=0.9)),
    }
    for name, (module, optimizer) in steps.items():
        found[name] = lambda m=module, o=optimizer: (forward_backward(m, embeddings, labels), o.step())
    return found


def time_of(cell: Cell, seconds: float) -> dict[str, Times]:
    found = runs(*world(cell))
    keep_memory()
    return interleave(found, seconds, rounds=12)


@lru_cache
def with_default_allocator(cell: Cell, seconds: float) -> dict[str, Times]:
    return in_child(_time_with_default_allocator, cell, seconds)


def _time_with_default_allocator(cell: Cell, seconds: float) -> dict[str, Times]:
    found = runs(*world(cell))
    return interleave({name: found[name] for name in (COSFACE, SPARSE, STEP, SPARSE_STEP)}, seconds, rounds=12)


def peak_of(cell: Cell, name: str) -> float:
    """MB beyond the prototypes and the embeddings;
    the default allocator, which gives back what is freed."""
    tiny = world(Cell(100, 2, cell.dim))
    runs(*tiny)[name]()  # libraries are loaded, threads started
    run = runs(*world(cell))[name]
    return extra_mb(run)


def errors_of(cell: Cell) -> dict[str, float]:
    return errors(*world(cell))


def errors(embeddings: Tensor, weight: Tensor, labels: Tensor) -> dict[str, float]:
    """Of value and both gradients, each relative to its largest, against CosineHead in float64."""
    truths: dict[str, tuple[Tensor, ...]] = {}
    largest = {}
    for name, module in heads(weight).items():
        if name not in COMPARED:
            continue
        kind = repr(module.loss)
        if kind not in truths:
            truths.clear()  # one of them fills GB
            dense = head(CosineHead, weight.double(), module.loss)
            truths[kind] = forward_backward(dense, embeddings.double(), labels)
        value, *gradients = forward_backward(module, embeddings, labels)
        found = [value, *(g.to_dense() for g in gradients)]
        largest[name] = relative_error(found, truths[kind], [sys.float_info.min] * 3)
    return largest


@lru_cache
def measure(cell: Cell, seconds: float) -> Measured:
    """Each part in a process of its own."""
    peaks = {name: in_child(peak_of, cell, name) for name in (GEMM, *COMPARED)}
    return Measured(in_child(time_of, cell, seconds), peaks, in_child(errors_of, cell))


Results = dict[Cell, Measured]


def measure_all(size: Size) -> Results:
    return {cell: measure(cell, size.seconds) for cell in size.cells}


def targets(results: Results) -> list[Target]:
    """At C = 1,000,000, B = 128, D = 192, α = 1.5."""
    found = {cell.kind: results[cell] for cell in results if cell == Cell(1_000_000, 128, 192, cell.kind)}
    where = ", C = 1,000,000, B = 128, D = 192"

    def ratio(what: str, limit: float, kind: str, above: str, below: str, at_most: bool) -> Target:
        times = {k: m.times for k, m in found.items() if k == kind}
        return ratio_target(what + where, limit, times, above, below, at_most)

    default = {}
    if FULL.default_allocator in results:
        default = {"trained, default allocator": with_default_allocator(FULL.default_allocator, FULL.seconds)}

    def with_default(what: str, limit: float, above: str, below: str) -> Target:
        """Among the kinds, the memory as most users have it."""
        return ratio_target(what + where, limit, default, above, below, False)

    return [
        with_default("time of CosFace / SparseHead", 9, COSFACE, SPARSE),
        with_default("time of the whole step, CosFace / SparseHead", 9, STEP, SPARSE_STEP),
        ratio("time of CosFace / SparseHead", 9, "trained", COSFACE, SPARSE, False),
        ratio("time of SparseHead / bare GEMM", 1.05, "trained", SPARSE, GEMM, True),
        ratio("time of SparseHead / bare GEMM", 1.4, "random", SPARSE, GEMM, True),
        ratio("time of the whole step, CosFace / SparseHead", 9, "trained", STEP, SPARSE_STEP, False),
        Target(
            "extra peak memory of SparseHead" + where, 100, {k: m.peaks[SPARSE] for k, m in found.items()}, unit="MB"
        ),
        Target("error of SparseHead" + where, 1e-5, {k: m.errors[SPARSE] for k, m in found.items()}, unit=""),
    ]


def section(results: Results, size: Size) -> str:
    def block(cell: Cell, found: Measured) -> str:
        rows = []
        for name, times in found.times.items():
            dense = found.times[STEP if name in (STEP, SPARSE_STEP) else COSFACE].median
            rows.append([
                name, f"{1e3 * times.median:,.1f}", f"{1e3 * times.least:,.1f}",
                f"{times.median / found.times[GEMM].median:.2f}", f"{times.median / dense:.3f}",
                f"{found.peaks[name]:,.1f}" if name in found.peaks else "",
                f"{found.errors[name]:.0e}" if name in found.errors else "",
            ])  # fmt: skip
        return table([str(cell), "median ms", "min ms", "× GEMM", "× CosFace", "extra MB", "error"], rows)

    default = with_default_allocator(size.default_allocator, size.seconds)
    return "\n\n".join([
        "## head_memory: heads, from embeddings to gradients",
        "Forward + backward, normalisation included; the whole steps also update the prototypes, with momentum 0.9, "
        "and are compared with each other. Extra MB: peak beyond prototypes and embeddings, 10^6 bytes. Error: of "
        "value and both gradients, each relative to its largest value, against CosineHead in float64 (a loss near 0 "
        f"has few digits in float32, with dense cross-entropy above all). {WORLDS}",
        describe(),
        *(block(cell, found) for cell, found in results.items()),
        f"With the default allocator, {size.default_allocator}, median / minimum in ms: "
        + "; ".join(f"{name} {1e3 * t.median:,.1f} / {1e3 * t.least:,.1f}" for name, t in default.items())
        + ".",
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
