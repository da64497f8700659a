"""Training examples: a random chunk of each utterance, with speed,
noise and reverberation, as a pure function of (seed, epoch, utterance).

Because nothing is drawn from a global generator, an example does not depend on
the number of workers, on the batch size or on whether the run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature

import numpy as np
import torch

from alpha_sv.data.audio.augment import Augmenter
from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.audio.recordings import Recordings
from alpha_sv.data.audio.speed import change_speed, check_speeds, source_length
from alpha_sv.data.corpus.manifest import Utterance


class RandomChunks:
    """Map-style dataset of (waveform float32 [T], label);
    its index is the pair (epoch, utterance number).

    Parameters
    ----------
    utterances : sequence of Utterance
        Training utterances.
    labels : dict
        Speaker name → class index.
    seconds : float
        Length of a chunk, T / sample_rate.
        Only the chunk is read from the file; a shorter utterance is repeated.
    augment : Augmenter, optional
        Applied to each chunk.
    speeds : sequence of float
        Each epoch draws one of them for an utterance; each makes classes of its own (see
        `alpha_sv.data.audio.speed`). Labels must then be 0 … C − 1. The first is 1.0; with
        that alone nothing is drawn.
    modules : sequence of nn.Module
        SpeechBrain's, such as DropFreq and DropChunk: waveforms [1, T] → [1, T], with relative
        lengths [1] too if `forward` has an argument `lengths`. Applied last; what they draw from
        torch's generator is a function of (seed, epoch, utterance) as all else, so neither a batch
        nor the number of processes changes it.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: dict[str, int],
        seconds: float,
        sample_rate: int = 16000,
        augment: Augmenter | None = None,
        seed: int = 1234,
        speeds: Sequence[float] = (1.0,),
        modules: Sequence[torch.nn.Module] = (),
    ):
        if not seconds > 0:
            raise ValueError(f"the chunk length must be positive, got {seconds} s")
        if unknown := sorted({u.speaker for u in utterances} - labels.keys()):
            raise ValueError(f"{len(unknown)} speakers have no label: {', '.join(unknown[:5])}")
        check_speeds(speeds)
        if len(speeds) > 1 and sorted(labels.values()) != list(range(len(labels))):
            raise ValueError(f"speeds make classes beside those of the {len(labels)} speakers: number them from 0 on")
        self.utterances, self.num_speakers = Recordings(utterances), len(labels)
        self.labels = np.fromiter((labels[u.speaker] for u in utterances), np.int32, len(utterances))
        self.num_samples, self.sample_rate = round(seconds * sample_rate), sample_rate
        self.augment, self.seed, self.speeds = augment, seed, tuple(speeds)
        self.modules = tuple(modules)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: tuple[int, int]) -> tuple[np.ndarray, int]:
        epoch, number = index
        recording = self.utterances[number]
        rng = np.random.default_rng((self.seed, epoch, number))
        which = int(rng.integers(len(self.speeds))) if len(self.speeds) > 1 else 0
        length = source_length(self.num_samples, self.speeds[which])
        start = int(rng.integers(max(recording.num_samples - length, 0) + 1))
        waveform = read_audio(recording.path, start, min(length, recording.num_samples), self.sample_rate)
        waveform = change_speed(np.resize(waveform, length), self.speeds[which], self.num_samples)
        if self.augment is not None:
            waveform = self.augment(waveform, rng)
        if self.modules:
            waveform = self._by_modules(waveform, int(rng.integers(2**63)))
        return waveform.astype(np.float32), int(self.labels[number]) + which * self.num_speakers

    @torch.no_grad()
    def _by_modules(self, waveform: np.ndarray, seed: int) -> np.ndarray:
        batch, whole = torch.from_numpy(waveform.astype(np.float32))[None], torch.ones(1)
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            for module in self.modules:
                takes_lengths = "lengths" in signature(module.forward).parameters
                result = module(batch, whole) if takes_lengths else module(batch)
                if result.shape != batch.shape:
                    raise ValueError(
                        f"wav_augment: {type(module).__name__} makes {list(result.shape)} of {list(batch.shape)}; a "
                        "chunk must keep its length (for other speeds there is the key speeds)"
                    )
                batch = result
        return batch[0].numpy()


class EpochSampler:
    """Every utterance once an epoch, in an order that
    depends on (seed, epoch) alone; yields (epoch, number)."""

    def __init__(self, size: int, seed: int = 1234):
        self.size, self.seed, self.epoch = size, seed, 1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        epoch = self.epoch
        return ((epoch, int(number)) for number in order)
