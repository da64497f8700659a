"""Where recordings lie and how long they are, in a few arrays:
what a worker of a data loader holds of a corpus.

A forked worker shares memory with its parent until one of them writes to it, and Python writes to
an object whenever it looks at one, for it counts references. A list of a million utterances would
so be copied, page by page, into every worker. An array is one object, whatever its length.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Recording(NamedTuple):
    """What reading a file takes."""

    path: str
    num_samples: int
    sample_rate: int


class Recordings:
    """Sequence of `Recording`, of what has these attributes (utterances, say), in its order.

    Example
    -------
    >>> Recordings(
    ...     [Recording("/data/a.wav", 24000, 16000), Recording("/data/b.wav", 8000, 16000)]
    ... )[1]
    Recording(path='/data/b.wav', num_samples=8000, sample_rate=16000)
    """

    def __init__(self, files: Iterable = ()):
        paths, ends, lengths, rates = bytearray(), array("q", [0]), array("q"), array("i")
        for file in files:
            paths += os.fsencode(file.path)
            ends.append(len(paths))
            lengths.append(file.num_samples)
            rates.append(file.sample_rate)
        self._paths, self._ends, self._lengths, self._rates = bytes(paths), *map(np.array, (ends, lengths, rates))

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, number: int) -> Recording:
        if not -len(self) <= number < len(self):
            raise IndexError(f"no file {number} of {len(self)}")
        number %= len(self)
        path = self._paths[self._ends[number] : self._ends[number + 1]]
        return Recording(os.fsdecode(path), int(self._lengths[number]), int(self._rates[number]))
