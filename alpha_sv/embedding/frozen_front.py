"""The first stages of a network, computed once for every recording and kept on disk.

    <folder>/<model>/<recording>.npy     float16 [..., T], T frames

Where a network is frozen up to some stage, what comes out there is the same in every epoch and run.
<model> is the hash of the configuration, of the frozen weights and of the stage; <recording> that
of the bytes of the file. What was made from anything else has another name, so nothing stale is
ever read. A file is whole or absent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from alpha_sv.data.audio import check_signal, read_audio
from alpha_sv.data.audio.recordings import Recording
from alpha_sv.data.audio.tar_member import open_bytes
from alpha_sv.embedding.embedder import SpeakerEmbedder, hash_weights
from alpha_sv.embedding.features import fill, length_batches
from alpha_sv.embedding.stages import position, stages_of
from alpha_sv.files import atomic_write, clear_parts, read_npy

FORMAT = "alpha_sv.front/1"  # another one when the same weights would give other frames


class Front:
    """An embedder cut in two before a stage: what comes before it, and the rest.

    Parameters
    ----------
    embedder : SpeakerEmbedder
        Stays whole; used as it is at each call.
    train_from : str
        Name of the first stage of the rest, see `alpha_sv.embedding.stages`;
        "" is the first of all, so that the front is the features alone.

    Raises
    ------
    ValueError
        There is no such stage.

    Example
    -------
    >>> embedder = SpeakerEmbedder(
    ...     "campplus", 8, channels=2, init_channels=4, block_sizes=[1, 1], growth=2
    ... ).eval()
    >>> front, x = Front(embedder, "transit2"), torch.randn(1, 16000)
    >>> bool((front.rest(front.frames(x)) == embedder(x)).all())
    True
    """

    def __init__(self, embedder: SpeakerEmbedder, train_from: str = ""):
        self.embedder, stages = embedder, stages_of(embedder.backbone)
        self.cut = position(stages, train_from)
        self.train_from = stages[self.cut].name
        self.frozen = [module for stage in stages[: self.cut] for module in stage.modules]
        self._before, self._after = stages[: self.cut], stages[self.cut :]

    def frames(self, waveforms: Tensor) -> Tensor:
        """Waveforms [N, samples] → what the rest takes, [N, ..., T]."""
        x = self.embedder.features(waveforms)
        for stage in self._before:
            x = stage.run(x)
        return self._swapped(x)

    def rest(self, x: Tensor) -> Tensor:
        """[N, ..., T] → embeddings [N, D]."""
        x = self._swapped(x)
        for stage in self._after:
            x = stage.run(x)
        return x.reshape(len(x), self.embedder.embedding_dim)

    def _swapped(self, x: Tensor) -> Tensor:
        """Bands and frames of the features exchanged;
        a waveform [N, T] has its time last already."""
        return x if self._before or x.ndim == 2 else x.transpose(1, 2)

    def key(self) -> str:
        """SHA-256 of all that the frames depend on but the recording."""
        return hash_weights([FORMAT, self.embedder.config, self.train_from], self.frozen)


class FrontCache:
    """The frames of recordings, from disk, computed where they are not there yet.

    Parameters
    ----------
    folder : path-like
        Shared by any number of models and runs.
    front : Front
        Frozen; put into evaluation mode to compute.
    """

    def __init__(self, folder: str | os.PathLike, front: Front):
        self.front, self.key = front, front.key()
        self.folder = Path(folder).expanduser() / self.key[:24]

    def path(self, recording: Recording) -> Path:
        """Where the frames of a recording are, or would be; reads the recording."""
        digest = hashlib.sha256()
        with open_bytes(recording.path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digest.update(f"{recording.num_samples} {recording.sample_rate}".encode())
        return self.folder / f"{digest.hexdigest()[:40]}.npy"

    def fill(self, recordings: Iterable[Recording], batch_size: int = 16, progress: bool = False) -> list[Path]:
        """Compute what is missing, and say where the frames of each recording are.

        Raises
        ------
        AudioError
            For a file that cannot be read, or is silent or too short.
        ValueError
            For frames beyond the range of float16.
        """
        recordings = list(recordings)
        paths = [self.path(recording) for recording in recordings]
        todo = {path: recording for path, recording in zip(paths, recordings, strict=True) if not path.is_file()}
        if todo:
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_parts(self.folder, older_than=3600)
        places, needed = list(todo), list(todo.values())
        lengths = [self.front.embedder.length(recording.num_samples) for recording in needed]
        with evaluating(self.front.embedder), tqdm(total=len(todo), desc="frozen front", disable=not progress) as bar:
            for rows in length_batches(lengths, batch_size):
                self._compute([needed[i] for i in rows], [places[i] for i in rows], lengths[rows[0]])
                bar.update(len(rows))
        return paths

    def _compute(self, recordings: Sequence[Recording], places: Sequence[Path], length: int) -> None:
        waveforms = [read_audio(r.path, 0, r.num_samples, self.front.embedder.sample_rate) for r in recordings]
        for recording, waveform in zip(recordings, waveforms, strict=True):
            check_signal(waveform, recording.path)
        batch = torch.from_numpy(np.stack([fill(waveform.astype(np.float32), length) for waveform in waveforms]))
        device = next(self.front.embedder.parameters()).device
        with torch.inference_mode():
            found = self.front.frames(batch.to(device)).cpu().numpy()
        with np.errstate(over="ignore"):
            frames = found.astype(np.float16)
        for recording, place, one in zip(recordings, places, frames, strict=True):
            if not np.isfinite(one).all():
                raise ValueError(
                    f"{recording.path}: before stage {self.front.train_from} the network has values beyond 65,504, "
                    "which float16 cannot hold; train from another stage"
                )
            with atomic_write(place, "wb") as file:
                np.save(file, one)


def read_frames(path: Path, start: int = 0, count: int | None = None) -> np.ndarray:
    """Frames [..., count] of a file of `FrontCache` as float32;
    from `start` on, again from the first after the last.

    Example
    -------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "frames.npy"
    >>> np.save(file, np.array([[1, 2, 3]], dtype=np.float16))
    >>> read_frames(file, 1, 4)
    array([[2., 3., 1., 2.]], dtype=float32)
    """
    stored = read_npy(path)
    there = stored.shape[-1]
    if count is None:
        return np.array(stored, dtype=np.float32)
    if start + count <= there:
        return np.array(stored[..., start : start + count], dtype=np.float32)
    return np.array(stored[..., np.arange(start, start + count) % there], dtype=np.float32)


class evaluating:
    """A block in which a module, or several, are in evaluation mode;
    afterwards each part is in its mode of before."""

    def __init__(self, *modules: nn.Module):
        self.modules = modules

    def __enter__(self) -> None:
        self._modes = [(part, part.training) for module in self.modules for part in module.modules()]
        for part, _ in self._modes:
            part.training = False

    def __exit__(self, *error) -> None:
        for part, mode in self._modes:
            part.training = mode


def chunk_frames(front: Front, num_samples: int) -> int:
    """How many frames T a chunk of so many samples has."""
    with evaluating(front.embedder), torch.inference_mode():
        return front.frames(torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0))).shape[-1]
