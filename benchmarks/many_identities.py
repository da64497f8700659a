"""Millions of identities: one process with all prototypes,
and four with a part each; prints a Markdown section.

    python benchmarks/many_identities.py [--quick]

Whole steps, from embeddings to updated prototypes, on trained prototypes. Each process has
one thread. The traffic is what the collectives of one step deliver to a rank, counted, beside
the model of docs/heads.md.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import median

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import table, wants_quick
from hardware import describe, peak_mb
from torch import nn

from alpha_sv.functional.solver import COUNTS
from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead
from alpha_sv.losses import QMargin

DIM, BATCH, RANKS, WARM, STEPS, CHECKED = 192, 128, 4, 2, 6, 2


@dataclass(frozen=True)
class Size:
    alone: tuple[int, ...]  # prototypes of one process
    each: int  # and of each of several


FULL, QUICK = Size((1_000_000, 5_000_000), 1_000_000), Size((2_000,), 500)


@dataclass(frozen=True)
class Measured:
    """Of one process: seconds of its steps, and of the processor for them;
    peak; bytes it was sent; error, in nats."""

    name: str
    prototypes: str
    samples: int
    seconds: list[float]
    cpu: list[float]
    peak: float
    bytes: int
    model: int
    error: float


class Traffic:
    """Bytes that collectives deliver to this rank, and the Newton steps among them."""

    def __enter__(self):
        self.bytes, self.newton, self._own = 0, 0, (dist.all_gather, dist.all_reduce)

        def all_gather(parts, values, **options):
            self.bytes += sum(part.nbytes for part in parts)
            return self._own[0](parts, values, **options)

        def all_reduce(values, **options):
            self.bytes += values.nbytes
            self.newton += values.ndim == 2 and len(values) == 2
            return self._own[1](values, **options)

        dist.all_gather, dist.all_reduce = all_gather, all_reduce
        return self

    def __exit__(self, *exception):
        dist.all_gather, dist.all_reduce = self._own


def model_bytes(samples: int, newton: int) -> int:
    """Of docs/heads.md, for the samples of all ranks."""
    return samples * (4 * DIM + 8) + 12 * samples + 16 * samples * newton + 12 * samples + 4 * samples * DIM


def batch(weight: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As in common.world: embeddings at a cosine of 0.7
    to their prototypes, of this process's classes."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(weight), (BATCH,), generator=g)
    return F.normalize(torch.randn(BATCH, DIM, generator=g) / DIM**0.5 + F.normalize(weight[rows])), rows


def reference(head: nn.Module, embeddings: torch.Tensor) -> torch.Tensor:
    """Cosines in float64 of a few samples with this process's prototypes, a block at a time."""
    blocks = head.weight.detach().split(1 << 16)
    return torch.cat([F.normalize(embeddings.double()) @ F.normalize(block.double()).T for block in blocks], 1)


def train(head: nn.Module, first: int, seed: int) -> dict:
    """Times of steps, and how far the losses of a few
    samples are from the plain solver's in float64."""
    optimizer, seconds, cpu = PrototypeSGD(head.parameters(), lr=1e-4), [], []
    embeddings, rows = batch(head.weight.detach(), seed)
    labels = rows + first
    wanted = embeddings[:CHECKED].clone()
    if isinstance(head, ShardedHead):
        dist.broadcast(wanted, 0)
    with torch.no_grad():
        losses, cosines = head(embeddings, labels)[:CHECKED], reference(head, wanted)
    if isinstance(head, ShardedHead):
        parts = [torch.empty_like(cosines) for _ in range(head.ranks)]
        dist.all_gather(parts, cosines)
        cosines = torch.cat(parts, 1)
    plain = QMargin(1.5, "auto", 0.2, reduction="none", implementation="plain").double()
    error = (losses - plain(cosines, labels[:CHECKED])).abs().max().item()
    del cosines
    fallbacks = COUNTS["fallbacks"]
    for _ in range(WARM + STEPS):
        began, began_cpu = time.perf_counter(), time.process_time()
        head.zero_grad()
        leaf = embeddings.clone().requires_grad_()
        head(leaf, labels).mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    assert COUNTS["fallbacks"] == fallbacks
    return {
        "seconds": seconds[WARM:], "cpu": cpu[WARM:], "error": error,
        "step": lambda: head(leaf, labels).mean().backward(),
    }  # fmt: skip


def one(classes: int, queue) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = SparseHead(DIM, classes, QMargin(1.5, "auto", 0.2, reduction="none"))
    found = train(head, 0, 0)
    del found["step"]
    queue.put(Measured("SparseHead, 1 process", f"{classes:,}", BATCH, peak=peak_mb(), bytes=0, model=0, **found))


def rank_of(rank: int, classes: int, folder: str, queue) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    head = ShardedHead(DIM, classes * RANKS, QMargin(1.5, "auto", 0.2, reduction="none"))
    found = train(head, head.classes.start, rank)
    head.eval()
    with Traffic() as traffic:
        found.pop("step")()
    if rank == 0:
        model = model_bytes(BATCH * RANKS, traffic.newton)
        name = f"ShardedHead, {RANKS} gloo processes"
        size = (f"{RANKS} × {classes:,}", BATCH * RANKS)
        queue.put(Measured(name, *size, peak=peak_mb(), bytes=traffic.bytes, model=model, **found))
    dist.destroy_process_group()


def in_processes(target, number: int, *arguments) -> Measured:
    """`target` of each rank, its arguments and a queue; what is put there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alpha_sv.heads"])
    queue = context.SimpleQueue()
    started = [context.Process(target=target, args=(*rank, *arguments, queue)) for rank in _ranks(number)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process of many_identities ended with {process.exitcode}, see above")
    return queue.get()


def _ranks(number: int) -> list[tuple[int, ...]]:
    return [()] if number == 1 else [(rank,) for rank in range(number)]


def measure_all(size: Size) -> list[Measured]:
    found = []
    for classes in size.alone:
        found.append(in_processes(one, 1, classes))
        print(line(found[-1]), file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found.append(in_processes(rank_of, RANKS, size.each, folder))
    return found


def line(m: Measured) -> list[str]:
    kilobytes = [f"{x / 1000:,.0f}" if x else "" for x in (m.bytes, m.model)]
    times = [
        f"{1000 * median(found):,.0f} ({1000 * min(found):,.0f} to {1000 * max(found):,.0f})"
        for found in (m.seconds, m.cpu)
    ]
    return [m.name, m.prototypes, str(m.samples), *times, f"{m.peak:,.0f}", *kilobytes, f"{m.error:.0e}"]


def section(results: list[Measured], size: Size) -> str:
    names = ["", "prototypes", "samples", "ms a step", "CPU ms", "MB a process", "kB", "kB, model", "error"]
    return "\n\n".join([
        "## many_identities: one process, and four with a part of the prototypes each",
        f"Whole steps, D = {DIM}, {BATCH} samples a process, QMargin α = 1.5, float32, one thread a process; median "
        f"and range of {STEPS}; of several processes the first's. MB: the whole process at its peak, with the "
        "checking. kB: delivered to a rank in one step, counted, and by the model of docs/heads.md. Error: largest of "
        "the losses of a few samples, in nats, from the plain solver in float64 over all prototypes.",
        describe(),
        table(names, [line(found) for found in results]),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
