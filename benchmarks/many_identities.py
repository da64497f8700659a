"""Millions of identities: one process with all prototypes, and four with a part each; prints a Markdown section.

    python benchmarks/many_identities.py [--quick]

Whole steps, from embeddings to updated prototypes, on trained prototypes. Each process has one thread. The traffic is
what the collectives of one step deliver to a rank, counted, beside the model of docs/heads.md.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import table, wants_quick
from hardware import describe, peak_mb
from torch import nn

from alpha_sv.functional.solver import COUNTS
from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead
from alpha_sv.losses import QMargin

DIM, BATCH, RANKS, STEPS, CHECKED = 192, 128, 4, 5, 2


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
    """As in common.world: embeddings at a cosine of 0.7 to their prototypes, of this process's classes."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(weight), (BATCH,), generator=g)
    return F.normalize(torch.randn(BATCH, DIM, generator=g) / DIM**0.5 + F.normalize(weight[rows])), rows


def reference(head: nn.Module, embeddings: torch.Tensor) -> torch.Tensor:
    """Cosines in float64 of a few samples with this process's prototypes, a block at a time."""
    blocks = head.weight.detach().split(1 << 16)
    return torch.cat([F.normalize(embeddings.double()) @ F.normalize(block.double()).T for block in blocks], 1)


def train(head: nn.Module, first: int, seed: int) -> dict[str, float]:
    """Times of steps, and how far the losses of a few samples are from the plain solver's in float64."""
    optimizer, times = PrototypeSGD(head.parameters(), lr=1e-4), []
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
    for _ in range(STEPS):
        began = time.perf_counter()
        head.zero_grad()
        leaf = embeddings.clone().requires_grad_()
        head(leaf, labels).mean().backward()
        optimizer.step()
        times.append(1000 * (time.perf_counter() - began))
    assert COUNTS["fallbacks"] == fallbacks
    return {"ms": statistics.median(times[2:]), "error": error, "step": lambda: head(leaf, labels).mean().backward()}


def one(classes: int) -> tuple:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = SparseHead(DIM, classes, QMargin(1.5, "auto", 0.2, reduction="none"))
    found = train(head, 0, 0)
    return ("SparseHead, 1 process", f"{classes:,}", BATCH, found["ms"], peak_mb(), "", "", found["error"])


def rank_of(rank: int, classes: int, folder: str, queue) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    head = ShardedHead(DIM, classes * RANKS, QMargin(1.5, "auto", 0.2, reduction="none"))
    found = train(head, head.classes.start, rank)
    head.eval()
    with Traffic() as traffic:
        found["step"]()
    if rank == 0:
        model = model_bytes(BATCH * RANKS, traffic.newton)
        name = f"ShardedHead, {RANKS} gloo processes"
        size = (f"{RANKS} × {classes:,}", BATCH * RANKS)
        queue.put((name, *size, found["ms"], peak_mb(), traffic.bytes / 1000, model / 1000, found["error"]))
    dist.destroy_process_group()


def in_process(target, *arguments) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def ranks(classes: int) -> tuple:
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        started = [in_process(rank_of, rank, classes, folder, queue) for rank in range(RANKS)]
        for process in started:
            process.join()
    return queue.get()


def _one_in_queue(classes: int, queue) -> None:
    queue.put(one(classes))


def main() -> None:
    quick = wants_quick(__doc__)
    print("## many_identities: one process, and four with a part of the prototypes each\n")
    print(
        f"Whole steps, D = {DIM}, {BATCH} samples a process, QMargin α = 1.5, float32, one thread a process; median of "
        f"{STEPS - 2}. MB: the whole process at its peak, with the checking. kB: delivered to a rank in one step. "
        "Error: largest of the losses of a few samples, in nats, from the plain solver in float64 over all "
        "prototypes.\n"
    )
    print(describe() + "\n")
    names = ["", "prototypes", "samples", "ms a step", "MB a process", "kB", "kB, model", "error"]
    print(table(names, []), flush=True)  # each row as it comes
    for classes in (2_000,) if quick else (1_000_000, 5_000_000):
        queue = multiprocessing.get_context("spawn").SimpleQueue()
        in_process(_one_in_queue, classes, queue).join()
        print(line(queue.get()), flush=True)
    print(line(ranks(500 if quick else 1_000_000)))


def line(row: tuple) -> str:
    kilobytes = (f"{x:,.0f}" if x else "" for x in row[5:7])
    figures = [str(row[2]), f"{row[3]:,.0f}", f"{row[4]:,.0f}", *kilobytes, f"{row[7]:.0e}"]
    return f"| {' | '.join([*row[:2], *figures])} |"


if __name__ == "__main__":
    main()
