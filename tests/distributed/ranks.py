"""What each rank of the distributed tests does; it saves what it saw, and the test compares it with one machine."""

import copy
import datetime
from pathlib import Path

import torch
import torch.distributed as dist

from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead, load_shards, save_shards, scan, sharded
from alpha_sv.losses import A3M, Entmax, QMargin
from tests.batteries.solvers import speech

CLASSES, DIM, EACH = 500, 8, 4  # 500 = 167 + 167 + 166: uneven
CASES = [
    (name, alpha, dtype)
    for name in ("QMargin", "A3M", "Entmax")
    for alpha in (1.25, 1.5, 2.0)
    for dtype in ((torch.float64, torch.float32) if name == "QMargin" else (torch.float64,))
]


def make_loss(name, alpha):
    if name == "Entmax":
        return Entmax(alpha)
    return {"QMargin": QMargin, "A3M": A3M}[name](alpha, "auto", 0.2)


def one_machine(ranks, seed=0, loss=None, dtype=torch.float64, noise=1.0):
    """A SparseHead with all prototypes, and the batch of all ranks; labels at both ends of every shard."""
    head = SparseHead(DIM, CLASSES, QMargin() if loss is None else loss)
    g = torch.Generator().manual_seed(seed)
    head.weight.data = (torch.randn(CLASSES, DIM, generator=g) * 3 * torch.rand(CLASSES, 1, generator=g)).to(dtype)
    embeddings, labels = speech(EACH * ranks, head, seed, noise)
    labels[2:6] = torch.tensor([166, 167, 333, 334])
    return head, embeddings, labels


def start(rank, ranks, folder, work):
    """Entry of a process: `work(rank, ranks, folder)` → result, saved as <rank>.pt."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=ranks, timeout=datetime.timedelta(seconds=20)
    )
    try:
        torch.save(work(rank, ranks, Path(folder)), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def split(rank, ranks, embeddings, labels):
    mine = slice(rank * EACH, (rank + 1) * EACH)
    return embeddings[mine].clone().requires_grad_(), labels[mine]


def sharded_head(full):
    head = ShardedHead(DIM, CLASSES, copy.deepcopy(full.loss))
    head.weight.data = full.weight.data[head.classes.start : head.classes.stop].clone()
    return head


def step(head, embeddings, labels):
    """(loss, ∂embeddings, ∂weight), dense."""
    head.zero_grad()
    loss = head(embeddings, labels)
    loss.backward()
    return loss.detach(), embeddings.grad, head.weight.grad.to_dense()


class Reductions:
    """Shapes of what is summed over ranks inside the block, and the Newton steps taken."""

    def __enter__(self):
        self.shapes, self.steps = [], 0
        self._all_reduce, self._newton = dist.all_reduce, sharded.newton_step

        def all_reduce(values, *rest, **more):
            self.shapes.append(tuple(values.shape))
            return self._all_reduce(values, *rest, **more)

        def newton(*arguments):
            self.steps += 1
            return self._newton(*arguments)

        dist.all_reduce, sharded.newton_step = all_reduce, newton
        return self

    def __exit__(self, *exception):
        dist.all_reduce, sharded.newton_step = self._all_reduce, self._newton


def refusals(rank, ranks):
    """The message of every rank for each kind of bad batch."""
    full, embeddings, labels = one_machine(ranks)
    head, (x, y) = sharded_head(full), split(rank, ranks, embeddings, labels)
    off = torch.where(torch.arange(EACH) == 1, CLASSES if rank == 1 else y, y)
    messages = {}
    for name, alpha, rows, targets in (
        ("unequal", 1.5, x[: EACH - (rank == 1)], y[: EACH - (rank == 1)]),
        ("empty", 1.5, x[:0], y[:0]),
        ("label", 1.5, x, off),
        ("shape", 1.5, x, y[: EACH - (rank == 1)]),
        ("alpha 1", 1.0, x, y),
        ("alpha 3", 3.0, x, y),
    ):
        head.loss.alpha = alpha
        try:
            head(rows, targets)
        except ValueError as error:
            messages[name] = str(error)
    return messages


def first_run(rank, ranks, folder):
    """Everything that a group of ranks can show but for reading what others wrote."""
    scan._CPU_CELLS, scan.has_fast_bfloat16 = 1, lambda device: True  # many chunks, on whatever processor
    seen = {"cases": []}
    for name, alpha, dtype in CASES:
        full, embeddings, labels = one_machine(ranks, loss=make_loss(name, alpha), dtype=dtype)
        head = sharded_head(full)
        with Reductions() as reductions:
            result = step(head, *split(rank, ranks, embeddings, labels))
        seen["cases"].append((*result, reductions.shapes, reductions.steps))
    seen["refusals"] = refusals(rank, ranks)

    full, embeddings, labels = one_machine(ranks)
    embeddings[EACH + 1, 2] = torch.nan  # of rank 1
    seen["nan"] = step(sharded_head(full), *split(rank, ranks, embeddings, labels))
    full, embeddings, labels = one_machine(ranks)
    full.weight.data[200, 2] = torch.nan  # of rank 1
    seen["nan prototype"] = step(sharded_head(full), *split(rank, ranks, embeddings, labels))

    full, _, _ = one_machine(ranks)
    seen["trained"] = train(rank, ranks, sharded_head(full), folder / "shards", first=0)
    return seen


def second_run(rank, ranks, folder):
    """Other ranks go on where those of `first_run` stopped."""
    torch.manual_seed(9)
    head = ShardedHead(DIM, CLASSES).double()
    return train(rank, ranks, head, folder / "shards", first=3)


def train(rank, ranks, head, folder, first):
    """Three steps from the `first`; saves after them. Batches of twelve in all, whatever the number of ranks."""
    optimizer = PrototypeSGD(head.parameters(), 0.1)
    if first:
        load_shards(folder, head, optimizer)
    for seed in range(first, first + 3):
        _, embeddings, labels = one_machine(3, seed)
        mine = slice(rank * 12 // ranks, (rank + 1) * 12 // ranks)
        optimizer.catch_up()  # so that it does not matter which rows had a gradient of exactly zero
        optimizer.zero_grad()
        head(embeddings[mine], labels[mine]).backward()
        optimizer.step()
    save_shards(folder, head, optimizer)
    optimizer.catch_up()
    return head.weight.detach().clone()
