"""A pre-trained network in training: what of it moves,
and the training examples as frames of its frozen front."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alpha_sv.data.audio.recordings import Recordings
from alpha_sv.data.training_data import TrainingData
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.features import length_batches
from alpha_sv.embedding.frozen_front import Front, FrontCache, chunk_frames, read_frames
from alpha_sv.exchange.load import load_embedder
from alpha_sv.sb.distributed import main_first

logger = logging.getLogger(__name__)
BATCH_NORM = ("frozen", "trained")


class Adapted(nn.Module):
    """A pre-trained embedder of which the stages from `train_from` on are trained.

    Parameters
    ----------
    model : path-like
        What `alpha_sv.exchange.load.load_embedder` takes:
        a name, a folder of ours or of SpeechBrain.
    train_from : str
        The first stage that is trained; "" trains them all.
        A wrong name is answered with the right ones.
    batch_norm : {"frozen", "trained"}
        Whether batch norms keep the statistics they were pre-trained with, or take each
        batch's and follow them; those of the frozen stages always keep them. Their
        weights are trained either way.

    Attributes
    ----------
    takes_frames : bool
        Whether `forward` is given frames of the front,
        as `FrontCache` has them, instead of waveforms.

    Raises
    ------
    ValueError
        No such model or stage, or a network in ONNX, whose weights cannot be trained.
    """

    def __init__(self, model: str | os.PathLike, train_from: str = "", batch_norm: str = "frozen"):
        super().__init__()
        if batch_norm not in BATCH_NORM:
            raise ValueError(f"batch_norm must be {' or '.join(BATCH_NORM)}, got {batch_norm!r}")
        loaded = load_embedder(model).embedder
        if not isinstance(loaded, SpeakerEmbedder):
            raise ValueError(f"{model} is a network in ONNX, which cannot be trained; import its checkpoint instead")
        self.embedder, self.batch_norm, self.takes_frames = loaded, batch_norm, False
        self.front = Front(loaded, train_from or "")
        for module in self.front.frozen:
            module.requires_grad_(False)
        self.train()

    @property
    def config(self) -> dict:
        return self.embedder.config

    @property
    def backbone(self) -> nn.Module:
        return self.embedder.backbone

    @property
    def embedding_dim(self) -> int:
        return self.embedder.embedding_dim

    def length(self, num_samples: int) -> int:
        return self.embedder.length(num_samples)

    def train(self, mode: bool = True) -> Adapted:
        super().train(mode)
        for module in self.front.frozen:
            module.eval()
        if self.batch_norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        if self.takes_frames:
            return self.front.rest(inputs)
        with torch.no_grad():
            frames = self.front.frames(inputs)
        return self.front.rest(frames)

    def save(self, folder: str | os.PathLike) -> None:
        """The whole embedder, as any other."""
        self.embedder.save(folder)


class FrameChunks:
    """As `RandomChunks`, of frames: (frames float32 [..., T], label), at index (epoch, number)."""

    def __init__(self, paths: list, labels: np.ndarray, frames: int, seed: int):
        self.paths, self.labels, self.frames, self.seed = list(map(str, paths)), labels, frames, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: tuple[int, int]) -> tuple[np.ndarray, int]:
        epoch, number = index
        rng = np.random.default_rng((self.seed, epoch, number))
        there = _length(self.paths[number])
        start = int(rng.integers(max(there - self.frames, 0) + 1))
        return read_frames(self.paths[number], start, self.frames), int(self.labels[number])


class WholeFrames(torch.utils.data.Dataset):
    """As `WholeUtterances`, of frames: (frames float32 [..., T], number)."""

    def __init__(self, paths: Iterable[os.PathLike]):
        self.paths = list(map(str, paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return read_frames(self.paths[number]), number

    def batches(self, batch_size: int) -> list[list[int]]:
        return [rows.tolist() for rows in length_batches([_length(path) for path in self.paths], batch_size)]


@functools.lru_cache(maxsize=1 << 20)
def _length(path: str) -> int:
    """Frames in a file, whose name stands for its content."""
    return np.load(path, mmap_mode="r").shape[-1]


def with_front(data: TrainingData, hparams: Mapping, marks: os.PathLike) -> TrainingData:
    """The examples as frames of the frozen front,
    which is computed now where the folder `front_cache` lacks it.

    Raises
    ------
    ValueError
        The embedder has no frozen front, or the recipe would
        augment the waveforms, which the cache has as they are.
    """
    embedder: Adapted = hparams["embedder"]
    cache = FrontCache(hparams["front_cache"], embedder.front)
    train: Recordings = data.train_set.utterances

    paths: list[Path] = []
    main_first(lambda: paths.extend(cache.fill(train, progress=True)), marks)
    paths = paths or cache.fill(train)  # of the other processes, for which it is there now
    embedder.takes_frames = True
    frames = chunk_frames(embedder.front, data.train_set.num_samples)
    chunks = FrameChunks(paths, data.train_set.labels, frames, hparams["seed"])
    valid = data.valid and (*data.valid[:2], lambda recordings: WholeFrames(cache.fill(recordings)))
    digest = hashlib.sha256(f"{data.digest} {cache.key}".encode()).hexdigest()
    return dataclasses.replace(data, train_set=chunks, whole=WholeFrames(paths), valid=valid, digest=digest)


def check_front(hparams: Mapping) -> None:
    """Refuse another sample rate than the model's,
    and a cache of the front beside what it cannot hold."""
    embedder = hparams.get("embedder")
    if isinstance(embedder, Adapted) and (rate := embedder.embedder.sample_rate) != hparams["sample_rate"]:
        raise ValueError(
            f"sample_rate is {hparams['sample_rate']}, but the model was trained at {rate} Hz: set it to that"
        )
    if not hparams.get("front_cache"):
        return
    if not (isinstance(embedder, Adapted) and embedder.front.frozen):
        raise ValueError(
            "front_cache keeps what frozen stages give: set train_from to a later stage, or leave it empty"
        )
    if hparams.get("noise_folder") or hparams.get("rir_folder") or hparams.get("wav_augment"):
        raise ValueError(
            "front_cache holds the frames of the recordings as they are: leave noise_folder, rir_folder and "
            "wav_augment empty with it, or leave front_cache empty: then each augmented chunk goes through the front"
        )
    if list(hparams.get("speeds") or [1.0]) != [1.0]:
        raise ValueError(f"front_cache holds recordings at their own speed only, got speeds: {hparams['speeds']}")
