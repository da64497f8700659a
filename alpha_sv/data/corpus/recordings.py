"""Where utterances lie and how long they are, in a few arrays: what a worker of a data loader holds of a corpus.

A forked worker shares memory with its parent until one of them writes to it, and Python writes to an object whenever it
looks at one, for it counts references. A list of a million utterances would so be copied, page by page, into every
worker. An array is one object, whatever its length.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from alpha_sv.data.corpus.manifest import Utterance


class Recording(NamedTuple):
    """What reading an utterance takes."""

    path: str
    num_samples: int


class Recordings:
    """Sequence of `Recording`, in the order of the utterances.

    Example
    -------
    >>> row = Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")
    >>> Recordings([row, row])[1]
    Recording(path='/data/s1/a.wav', num_samples=24000)
    """

    def __init__(self, utterances: Iterable[Utterance]):
        paths, ends, lengths = bytearray(), array("q", [0]), array("q")
        for utterance in utterances:
            paths += os.fsencode(utterance.path)
            ends.append(len(paths))
            lengths.append(utterance.num_samples)
        self._paths, self._ends = bytes(paths), np.array(ends)
        self.num_samples = np.array(lengths)  # [N]

    def __len__(self) -> int:
        return len(self.num_samples)

    def __getitem__(self, number: int) -> Recording:
        if not -len(self) <= number < len(self):
            raise IndexError(f"no utterance {number} of {len(self)}")
        number %= len(self)
        path = self._paths[self._ends[number] : self._ends[number + 1]]
        return Recording(os.fsdecode(path), int(self.num_samples[number]))
