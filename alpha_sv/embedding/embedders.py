"""From waveforms to embeddings: features and a SpeechBrain backbone in one module, saved as weights plus JSON.

A saved model is two files, `embedder.safetensors` and `config.json`. Neither can run code: the architecture is looked
up by name in `ARCHITECTURES` and its arguments must be numbers or lists of numbers.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from torch import Tensor, nn

from alpha_sv.data.files import atomic_write
from alpha_sv.embedding.features import Features, fit_length, whole_length

FORMAT = "alpha_sv.embedder/1"
# a configuration from elsewhere must not fill the memory: no number in it is larger, and no network
_LARGEST = {"sample_rate": 768_000, "n_mels": 1024, "res2net_scale": 256, "block_sizes": 256}
_LARGEST_SIZE, _LONGEST_LIST, _MOST_WEIGHTS = 16_384, 64, 200_000_000


class MeanFbank(nn.Module):
    """Baseline without parameters: the mean log spectrum of the utterance, minus its mean over bands."""

    def __init__(self, input_size: int, lin_neurons: int):
        super().__init__()
        if input_size != lin_neurons:
            raise ValueError(f"mean_fbank embeds to n_mels dimensions, got embedding_dim {lin_neurons} != {input_size}")

    def forward(self, features: Tensor) -> Tensor:
        spectrum = features.mean(dim=1)
        return spectrum - spectrum.mean(dim=1, keepdim=True)


ARCHITECTURES = {"ecapa_tdnn": ECAPA_TDNN, "resnet": ResNet, "mean_fbank": MeanFbank}


class SpeakerEmbedder(nn.Module):
    """Waveforms [N, T] → embeddings [N, D].

    Parameters
    ----------
    architecture : {"ecapa_tdnn", "resnet", "mean_fbank"}
        SpeechBrain's ECAPA-TDNN (arXiv 2005.07143) or ResNet, or a baseline without parameters.
    embedding_dim : int
        D.
    n_mels, sample_rate : int
        Of the features.
    **sizes
        Further arguments of the SpeechBrain class, e.g. channels=[512, 512, 512, 512, 1536].

    Raises
    ------
    ValueError
        For an unknown architecture or argument, or a size beyond those of any network for speakers (2 · 10^8 weights).

    Example
    -------
    >>> embedder = SpeakerEmbedder("ecapa_tdnn", 16, n_mels=24, channels=[8, 8, 8, 8, 24], attention_channels=8)
    >>> embedder.embed([np.random.randn(16000).astype("float32")]).shape
    (1, 16)
    """

    def __init__(self, architecture: str, embedding_dim: int, n_mels: int = 80, sample_rate: int = 16000, **sizes):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {sorted(ARCHITECTURES)}, got {architecture!r}")
        backbone = ARCHITECTURES[architecture]
        known = set(inspect.signature(backbone).parameters) - {
            "input_size",
            "lin_neurons",
            "device",
            "activation",
        }
        if unknown := set(sizes) - known:
            raise ValueError(f"{architecture} has no argument {sorted(unknown)}; it takes {sorted(known)}")
        _check_sizes({"embedding_dim": embedding_dim, "n_mels": n_mels, "sample_rate": sample_rate, **sizes})
        self.config = {
            "architecture": architecture,
            "embedding_dim": int(embedding_dim),
            "n_mels": int(n_mels),
            "sample_rate": int(sample_rate),
            **{name: list(value) if isinstance(value, Sequence) else value for name, value in sizes.items()},
        }
        self.features = Features(sample_rate, n_mels, mean_norm=architecture != "mean_fbank")
        arguments = {"input_size": n_mels, "lin_neurons": embedding_dim, **sizes}
        with torch.device("meta"):  # shapes without memory
            weights = sum(tensor.numel() for tensor in backbone(**arguments).state_dict().values())
        if weights > _MOST_WEIGHTS:
            raise ValueError(
                f"{weights:.2g} weights, more than {_MOST_WEIGHTS:.0e}: make embedding_dim or sizes smaller"
            )
        self.backbone = backbone(**arguments)

    @property
    def embedding_dim(self) -> int:
        return self.config["embedding_dim"]

    @property
    def sample_rate(self) -> int:
        return self.config["sample_rate"]

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms [N, T], all of the same length, in [−1, 1] → embeddings [N, D], not normalised."""
        return self.backbone(self.features(waveforms)).reshape(len(waveforms), self.embedding_dim)

    @torch.no_grad()
    def embed(self, waveforms: Sequence[np.ndarray], batch_size: int = 32) -> np.ndarray:
        """Embed waveforms of any lengths; the result for one does not depend on the others.

        Parameters
        ----------
        waveforms : sequence of float arrays [T_i]
            At the model's sample rate.
        batch_size : int
            How many of equal (whole) length go through the network at once.

        Returns
        -------
        array [N, D], float32
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        for i, waveform in enumerate(waveforms):
            if np.ndim(waveform) != 1 or not np.isfinite(waveform).all() or not np.any(waveform):
                raise ValueError(
                    f"waveform {i} must be a one-dimensional array of finite samples, not all zero; got shape "
                    f"{np.shape(waveform)}"
                )
        lengths = [whole_length(len(waveform), self.sample_rate) for waveform in waveforms]
        result = np.empty((len(lengths), self.embedding_dim), dtype=np.float32)
        device = next(itertools.chain(self.parameters(), self.buffers()), torch.empty(0)).device
        was_training = self.training
        self.eval()
        try:
            for rows in length_batches(lengths, batch_size):
                batch = np.stack([fit_length(np.asarray(waveforms[i], np.float32), lengths[i]) for i in rows])
                result[rows] = self(torch.from_numpy(batch).to(device)).float().cpu().numpy()
        finally:
            self.train(was_training)
        return result

    def save(self, folder: str | os.PathLike) -> None:
        """Write `embedder.safetensors` and `config.json`, each whole or not at all; the configuration last."""
        folder = Path(folder)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_write(folder / "embedder.safetensors", "wb") as file:
            file.write(save(weights))
        with atomic_write(folder / "config.json") as file:
            json.dump({"format": FORMAT, **self.config}, file, indent=1)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> SpeakerEmbedder:
        """Read a saved model; runs no code from the folder. Returned in evaluation mode, on the CPU."""
        folder = Path(folder)
        config_file, weights_file = folder / "config.json", folder / "embedder.safetensors"
        for file in (config_file, weights_file):
            if not file.is_file():
                raise ValueError(
                    f"{folder} is not a saved embedder: {file.name} is missing; `alpha-sv train` leaves one in "
                    "<output_folder>/model"
                )
        try:
            config = json.loads(config_file.read_text(encoding="utf-8"))
            if config.pop("format", None) != FORMAT:
                raise ValueError(f"no format {FORMAT!r}")
            _check_plain(config)
            embedder = cls(**config)
        except Exception as error:  # each network complains in its own way of sizes that do not fit
            raise ValueError(f"{config_file} does not describe an embedder: {error!r}") from error
        if weights_file.stat().st_size > 1e6 + 2 * sum(
            t.numel() * t.element_size() for t in embedder.state_dict().values()
        ):
            raise ValueError(f"{weights_file} does not fit {config_file.name}: it is far larger than its weights")
        try:
            weights = load(weights_file.read_bytes())
            embedder.load_state_dict(weights)
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{weights_file} is damaged or does not fit {config_file.name}: {error}") from error
        if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{weights_file}: NaN or infinite weights in {', '.join(bad[:3])}; the training diverged")
        return embedder.eval()


def length_batches(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Indices grouped into batches of equal length, longest first: out of memory shows in the first batch.

    Example
    -------
    >>> [rows.tolist() for rows in length_batches([5, 9, 5, 5], batch_size=2)]
    [[1], [0, 2], [3]]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches = []
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return batches


def _check_plain(config: dict) -> None:
    for name, value in config.items():
        values = value if isinstance(value, list) else [value]
        if not all(
            isinstance(v, (int, float, bool)) or (name == "architecture" and isinstance(v, str)) for v in values
        ):
            raise ValueError(f"{name} must be a number or a list of numbers, got {value!r}")


def _check_sizes(sizes: dict) -> None:
    for name, value in sizes.items():
        values, largest = value if isinstance(value, Sequence) else [value], _LARGEST.get(name, _LARGEST_SIZE)
        if len(values) > _LONGEST_LIST or not all(isinstance(v, (int, float)) and 0 <= v <= largest for v in values):
            raise ValueError(
                f"{name} must be numbers from 0 to {largest}, at most {_LONGEST_LIST} of them, got {str(value)[:60]}"
            )
