"""What share of a real training step the head takes: prints a Markdown section.

    python benchmarks/train_step.py [--quick]

An ECAPA-TDNN on chunks of two seconds, forward and backward, with the optimiser's step. The graph
is cut at the embeddings, which changes nothing but tells apart what belongs to the head: its
forward, its backward down to the gradient of the embeddings, and the update of its prototypes.
Dense heads are trained with Adam like the embedder, as recipes do, SparseHead with PrototypeSGD.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from common import Cell, in_child, table, wants_quick, world
from hardware import describe
from head_memory import COSFACE, SPARSE, errors, forward_backward, heads

from alpha_sv.device import keep_memory
from alpha_sv.heads import PrototypeSGD

SAMPLE_RATE = 16_000
_LEARNING_RATE = 1e-8  # the batch repeats: at 1e-4 it would be learned within these few steps


@dataclass(frozen=True)
class Size:
    classes: tuple[int, ...]
    batch: int
    dim: int
    channels: tuple[int, ...]
    seconds: float  # of speech
    rounds: int  # after one that does not count


FULL = Size((5_994, 1_000_000), batch=32, dim=192, channels=(512, 512, 512, 512, 1536), seconds=2.0, rounds=4)
QUICK = Size((500,), batch=4, dim=16, channels=(8, 8, 8, 8, 24), seconds=0.5, rounds=1)


@dataclass(frozen=True)
class Measured:
    """Median seconds of the parts of a step, and the error
    of the head's value and gradients on these embeddings."""

    embedder: float
    head: float
    update: float
    error: float


def measure(classes: int, size: Size) -> dict[str, Measured]:
    """The heads take turns, each with a whole step, on one embedder and one set of prototypes."""
    from alpha_sv.embedding import SpeakerEmbedder

    keep_memory()
    torch.manual_seed(0)
    _, weight, labels = world(Cell(classes, size.batch, size.dim, "random"))
    embedder = SpeakerEmbedder("ecapa_tdnn", size.dim, channels=size.channels).train()
    adam = torch.optim.Adam(embedder.parameters(), lr=_LEARNING_RATE)
    chunks = 0.1 * torch.randn(size.batch, int(size.seconds * SAMPLE_RATE))
    made = {name: module for name, module in heads(weight).items() if name in (COSFACE, SPARSE)}
    optimizers = {
        name: (PrototypeSGD if name == SPARSE else torch.optim.Adam)([module.weight], lr=_LEARNING_RATE)
        for name, module in made.items()
    }

    def step(name: str) -> tuple[float, float, float]:
        adam.zero_grad()
        forward, embeddings = timed(lambda: embedder(chunks))
        head, (_, gradient, _) = timed(lambda: forward_backward(made[name], embeddings, labels))
        backward, _ = timed(lambda: (embeddings.backward(gradient), adam.step()))
        update, _ = timed(optimizers[name].step)
        return forward + backward, head, update

    taken = {name: [] for name in made}
    for _ in range(size.rounds + 1):
        for name in made:
            taken[name].append(step(name))
    with torch.no_grad():
        embeddings = embedder(chunks)
    made.clear(), optimizers.clear()  # the reference in float64 needs the room
    error = errors(embeddings, weight, labels)
    return {name: Measured(*map(median, zip(*t[1:], strict=True)), error[name]) for name, t in taken.items()}


def timed(function: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


Results = dict[int, dict[str, Measured]]


def measure_all(size: Size) -> Results:
    return {classes: in_child(measure, classes, size) for classes in size.classes}


def section(results: Results, size: Size) -> str:
    rows = [
        [
            f"C = {classes:,}, {name}",
            *(f"{1e3 * part:,.1f}" for part in (m.embedder, m.head, m.update)),
            f"{100 * (m.head + m.update) / (m.embedder + m.head + m.update):.1f} %",
            f"{m.error:.0e}",
        ]
        for classes, found in results.items()
        for name, m in found.items()
    ]
    return "\n\n".join([
        "## train_step: the head's share of a training step",
        f"ECAPA-TDNN (SpeechBrain) of {size.channels} channels, {size.batch} chunks of {size.seconds:g} s of noise, "
        f"D = {size.dim}, float32. Medians in ms: the embedder's forward, backward and Adam; the head's forward and "
        "backward; the update of the prototypes, with Adam where they are dense. Neither embedder nor prototypes have "
        "learned anything, so this is the beginning of a training, where SparseHead has most active speakers. Error: "
        "as in head_memory, on these embeddings.",
        describe(),
        table(["", "embedder", "head", "update", "share of the head", "error"], rows),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
