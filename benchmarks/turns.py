"""Loops that have a mind of their own, such as a training,
take one step at a time, in turns, and are timed.

Each runs in a process of its own, so that each has its own allocator and its own threads.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hardware import peak_mb

WARM_UP, FEWEST = 2, 3  # rounds


@dataclass(frozen=True)
class Step:
    """Of one step: seconds, seconds of the processor,
    chunks through the network, page faults, the loss."""

    wall: float
    cpu: float
    chunks: int
    faults: int
    loss: float


class Ended(Exception):
    """There are no more turns."""


class Turns:
    """Called between the steps of a loop: reports the last one, and waits for the next turn."""

    def __init__(self, pipe):
        self.pipe, self.begun = pipe, None

    def __call__(self, chunks: int, loss: float) -> None:
        now = self._now()
        taken = [b - a for a, b in zip(self.begun or now, now, strict=True)]
        self.pipe.send(Step(taken[0], taken[1], chunks, taken[2], loss))
        if not self.pipe.recv():
            raise Ended(peak_mb())
        self.begun = self._now()

    @staticmethod
    def _now() -> tuple[float, float, int]:
        return time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def between_steps_of(self, brain, chunks: Callable[[], int]) -> None:
        """From the end of one `fit_batch` to the end of the next:
        with the loader, the logging and all else."""
        own = brain.fit_batch

        def fit_batch(batch):
            loss = own(batch)
            self(chunks(), float(loss))
            return loss

        brain.fit_batch = fit_batch


def _child(pipe, contender: Callable, *arguments: object) -> None:
    try:
        contender(Turns(pipe), *arguments)
    except Ended as end:
        pipe.send(end.args[0])


def in_turns(contenders: Mapping[str, tuple], rounds: int, limit: float) -> dict[str, tuple[list[Step], float]]:
    """Steps of each contender, a function of `Turns` and its arguments,
    after those that do not count; its peak, MB.

    There are fewer rounds, but `FEWEST` at least, when `limit` seconds are over.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alpha_sv.sb.experiment"])
    pipes, processes = {}, []
    for name, call in contenders.items():  # each has its first step behind it when the next one starts
        pipes[name], child = context.Pipe()
        processes.append(context.Process(target=_child, args=(child, *call)))
        processes[-1].start()
        child.close()
        pipes[name].recv()
    steps, begun = {name: [] for name in pipes}, time.perf_counter()
    for turn in range(WARM_UP + rounds):
        if turn >= WARM_UP + FEWEST and time.perf_counter() - begun > limit:
            break
        for name, pipe in pipes.items():
            pipe.send(True)
            steps[name].append(pipe.recv())
        print(f"round {turn + 1} of {WARM_UP + rounds}: {', '.join(pipes)}", file=sys.stderr, flush=True)
    peaks = {}
    for name, pipe in pipes.items():
        pipe.send(False)
        peaks[name] = pipe.recv()
    for process in processes:
        process.join()
    return {name: (found[WARM_UP:], peaks[name]) for name, found in steps.items()}
