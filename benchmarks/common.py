"""What makes times and peaks of different candidates comparable,
and a target they are held against.

Times are compared only within one process and one run, the candidates taking turns
(A B C A B C …), so that whatever else the machine does meets all of them. Peaks are taken in a
process of the candidate's own.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hardware import peak_mb
from torch import Tensor

KINDS = ("trained", "random")
WORLDS = (
    "*Trained*: unit prototypes and embeddings that lie about their own at a cosine of 0.7. *Random*: prototypes as "
    "initialised, and embeddings that have nothing to do with them."
)
_WARM_UP, _FEW_FAULTS = 5, 10_000  # faults: 40 MB


@dataclass(frozen=True)
class Cell:
    """A size, and what the prototypes know of the embeddings: "trained" or "random"."""

    classes: int
    batch: int
    dim: int = 192
    kind: str = "trained"

    def __str__(self) -> str:
        return f"C = {self.classes:,}, B = {self.batch}, D = {self.dim}, {self.kind}"


def world(cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [B, D], unit; prototypes [C, D]; labels [B].

    A trained embedding is its prototype plus noise as long:
    its cosine to it is 1/√2 but for the chance of the noise.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(cell.classes, cell.dim, generator=generator)
    labels = torch.randint(cell.classes, (cell.batch,), generator=generator)
    embeddings = torch.randn(cell.batch, cell.dim, generator=generator)
    if cell.kind == "random":
        weight.div_(cell.dim**0.5)
    else:
        weight.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True))
        embeddings.div_(cell.dim**0.5).add_(weight[labels])
    return F.normalize(embeddings), weight, labels


@dataclass(frozen=True)
class Times:
    """Seconds over the rounds."""

    median: float
    least: float


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float,
    rounds: int = 30,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time the candidates in turns: rounds that do not count, then as many as fit, at least three.

    The former end when the process has stopped growing, or after `_WARM_UP` of them.
    """

    def turn() -> dict[str, float]:
        taken = {}
        for name, run in candidates.items():
            start = clock()
            run()
            taken[name] = clock() - start
        return taken

    for _ in range(_WARM_UP):
        before = _page_faults()
        turn()
        if _page_faults() - before < _FEW_FAULTS:
            break
    taken, begin = [], time.perf_counter()
    while len(taken) < 3 or (len(taken) < rounds and time.perf_counter() - begin < seconds):
        taken.append(turn())
    found = {name: [one[name] for one in taken] for name in candidates}
    return {name: Times(statistics.median(each), min(each)) for name, each in found.items()}


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def in_child(function: Callable, *arguments: object):
    """Call it in a fresh process, forked from a server that
    has imported the package: quicker than a new Python."""
    try:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["alpha_sv.heads"])
    except ValueError:  # Windows
        context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def extra_mb(run: Callable[[], object]) -> float:
    """MB (10^6 bytes) by which the process grows at most while `run` runs. Linux."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what was freed before must not be taken for new memory, nor hide it
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
    except OSError:  # not allowed in some containers: the peak so far is then part of `before`
        pass
    before = peak_mb()
    run()
    return peak_mb() - before


def relative_error(found: Sequence[Tensor], truth: Sequence[Tensor], floors: Sequence[float]) -> float:
    """Largest difference of each tensor over its largest true value,
    or its floor if that is more; the worst one."""
    return max(
        (a.double() - b).abs().max().item() / max(b.abs().max().item(), floor)
        for a, b, floor in zip(found, truth, floors, strict=True)
    )


@dataclass(frozen=True)
class Target:
    """`measured` under several circumstances, all of which must be at most (at least) `limit`."""

    what: str
    limit: float
    measured: Mapping[str, float]
    at_most: bool = True
    unit: str = "×"
    note: str = ""

    @property
    def reached(self) -> bool:
        return all(value <= self.limit if self.at_most else value >= self.limit for value in self.measured.values())

    def row(self) -> list[str]:
        values = ", ".join(f"{name} {value:.3g} {self.unit}".strip() for name, value in self.measured.items())
        values += f" ({self.note})" if self.note else ""
        verdict = ("reached" if self.reached else "**not reached**") if values else "not measured"
        return [self.what, f"{'≤' if self.at_most else '≥'} {self.limit:g} {self.unit}".strip(), values, verdict]


def ratio_target(
    what: str, limit: float, times: Mapping[str, Mapping[str, Times]], above: str, below: str, at_most: bool
) -> Target:
    """Of the median times of two candidates, by kind; the ratio of the least ones is a note."""
    pairs = {kind: (found[above], found[below]) for kind, found in times.items() if {above, below} <= found.keys()}
    least = ", ".join(f"{kind} {a.least / b.least:.3g} ×" for kind, (a, b) in pairs.items())
    medians = {kind: a.median / b.median for kind, (a, b) in pairs.items()}
    return Target(what, limit, medians, at_most, note=least and f"minima: {least}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wants_quick(doc: str) -> bool:
    """Parse the command line of a benchmark, described by its module's docstring."""
    parser = argparse.ArgumentParser(description=doc.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    return parser.parse_args().quick
