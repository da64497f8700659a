"""One task on many items by threads:
results in the order of the items, a progress bar, bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

SLAB = 1024  # items handed to the threads at a time: a million futures at once would take gigabytes
Item, Result = TypeVar("Item"), TypeVar("Result")


def on_threads(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    name: str = "",
    unit: str = "file",
    progress: bool = True,
) -> Iterator[Result]:
    """Yield `task(item)` in the order of `items`;
    for tasks that leave Python's lock (reading, decoding, waiting).

    Parameters
    ----------
    workers : int, optional
        Threads; one per available core if None.
    name, unit : str
        Title and unit of the progress bar, which shows items and items/s.

    Example
    -------
    >>> list(on_threads(len, ["a", "bcd", ""], progress=False))
    [1, 3, 0]
    """
    with (
        ThreadPoolExecutor(workers or available_cores()) as pool,
        tqdm(total=len(items), unit=unit, desc=name, disable=not progress) as bar,
    ):
        for first in range(0, len(items), SLAB):
            for result in pool.map(task, items[first : first + SLAB]):
                bar.update()
                yield result


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # absent on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
