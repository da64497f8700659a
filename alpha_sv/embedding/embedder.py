"""From waveforms to embeddings: features and a backbone in one module, saved as weights plus JSON.

A saved model is two files, `embedder.safetensors` and `config.json`. Neither can run
code: the architecture is looked up by name in `ARCHITECTURES` and its arguments must be
numbers or lists of numbers.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from torch import Tensor, nn

from alpha_sv.embedding.campplus import CAMPPlus
from alpha_sv.embedding.features import KINDS, Features
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.embedding.wavlm import WavLMMHFA
from alpha_sv.embedding.wespeaker import WeSpeakerECAPA, WeSpeakerResNet
from alpha_sv.files import atomic_write, read_json

FORMAT = "alpha_sv.embedder/1"
# a configuration from elsewhere must not fill the memory: no number in it is larger, and no network
LARGEST = {"sample_rate": 768_000, "n_mels": 1024, "res2net_scale": 256, "block_sizes": 256}
_LARGEST_SIZE, _LONGEST_LIST, _MOST_WEIGHTS = 16_384, 64, 400_000_000


class MeanFbank(nn.Module):
    """Baseline without parameters:
    the mean log spectrum of the utterance, minus its mean over bands."""

    def __init__(self, input_size: int, lin_neurons: int):
        super().__init__()
        if input_size != lin_neurons:
            raise ValueError(f"mean_fbank embeds to n_mels dimensions, got embedding_dim {lin_neurons} != {input_size}")

    def forward(self, features: Tensor) -> Tensor:
        spectrum = features.mean(dim=1)
        return spectrum - spectrum.mean(dim=1, keepdim=True)


ARCHITECTURES = {
    "ecapa_tdnn": ECAPA_TDNN,
    "resnet": ResNet,
    "campplus": CAMPPlus,
    "wespeaker_resnet": WeSpeakerResNet,
    "wespeaker_ecapa": WeSpeakerECAPA,
    "wavlm_mhfa": WavLMMHFA,
    "mean_fbank": MeanFbank,
}
_FEATURES = {  # by default
    "campplus": "kaldi",
    "wespeaker_resnet": "wespeaker",
    "wespeaker_ecapa": "wespeaker",
    "wavlm_mhfa": "waveform",
}
_WORDS = {"architecture": ARCHITECTURES, "features": KINDS}  # the entries of a configuration that are not numbers


class SpeakerEmbedder(nn.Module, WaveformEmbedder):
    """Waveforms [N, T] → embeddings [N, D].

    Parameters
    ----------
    architecture : str
        One of `ARCHITECTURES`: ecapa_tdnn, resnet, campplus, wespeaker_resnet, wespeaker_ecapa,
        wavlm_mhfa, mean_fbank. SpeechBrain's ECAPA-TDNN (arXiv 2005.07143) or ResNet, CAM++ (arXiv
        2303.00332), WeSpeaker's ResNet or ECAPA-TDNN, WavLM with MHFA (arXiv 2210.01273), or a
        baseline without parameters.
    embedding_dim : int
        D.
    n_mels, sample_rate : int
        Bands and sampling rate (Hz) of the features.
    features : {"speechbrain", "kaldi", "wespeaker", "waveform"}, optional
        Their kind, see `alpha_sv.embedding.features`; by default Kaldi's for CAM++,
        WeSpeaker's for its networks, the waveform for WavLM, SpeechBrain's for the others.
    **sizes
        Further arguments of the backbone's class, e.g. channels=[512, 512, 512, 512, 1536].

    Raises
    ------
    ValueError
        For an unknown architecture or argument,
        or a size beyond those of any network for speakers (4 · 10^8 weights).

    Example
    -------
    >>> embedder = SpeakerEmbedder(
    ...     "ecapa_tdnn", 16, n_mels=24, channels=[8, 8, 8, 8, 24], attention_channels=8
    ... )
    >>> embedder.embed([np.random.randn(16000).astype("float32")]).shape
    (1, 16)
    """

    def __init__(
        self,
        architecture: str,
        embedding_dim: int,
        n_mels: int = 80,
        sample_rate: int = 16000,
        features: str | None = None,
        **sizes,
    ):
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
        features = features or _FEATURES.get(architecture, "speechbrain")
        if (features == "waveform") != (architecture == "wavlm_mhfa"):
            raise ValueError(f"{architecture} does not take features {features!r}: only wavlm_mhfa takes the waveform")
        _check_sizes({"embedding_dim": embedding_dim, "n_mels": n_mels, "sample_rate": sample_rate, **sizes})
        self.config = {
            "architecture": architecture,
            "embedding_dim": int(embedding_dim),
            "n_mels": int(n_mels),
            "sample_rate": int(sample_rate),
            **({"features": features} if features != "speechbrain" else {}),  # as in models from before there were two
            **{name: list(value) if isinstance(value, Sequence) else value for name, value in sizes.items()},
        }
        self.features = Features(sample_rate, n_mels, mean_norm=architecture != "mean_fbank", kind=features)
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
        """Waveforms [N, T], all of the same length,
        in [−1, 1] → embeddings [N, D], not normalised."""
        return self.backbone(self.features(waveforms)).reshape(len(waveforms), self.embedding_dim)

    def embed_batch(self, waveforms: np.ndarray) -> np.ndarray:
        device = next(itertools.chain(self.parameters(), self.buffers()), torch.empty(0)).device
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                return self(torch.from_numpy(waveforms).to(device)).float().cpu().numpy()
        finally:
            self.train(was_training)

    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights."""
        return hash_weights(self.config, [self])

    def save(self, folder: str | os.PathLike) -> None:
        """Write `embedder.safetensors` and `config.json`,
        each whole or not at all; the configuration last."""
        folder = Path(folder)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_write(folder / "embedder.safetensors", "wb") as file:
            file.write(save(weights))
        with atomic_write(folder / "config.json") as file:
            json.dump({"format": FORMAT, **self.config}, file, indent=1)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> SpeakerEmbedder:
        """Read a saved model; runs no code from the folder.
        Returned in evaluation mode, on the CPU."""
        folder = Path(folder)
        config_file, weights_file = folder / "config.json", folder / "embedder.safetensors"
        for file in (config_file, weights_file):
            if not file.is_file():
                raise ValueError(
                    f"{folder} is not a saved embedder: {file.name} is missing; `alpha-sv train` leaves one in "
                    "<output_folder>/model"
                )
        try:
            config = read_json(config_file, like=dict)
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
            embedder.load_state_dict(load(weights_file.read_bytes()))
        except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, OverflowError) as error:
            raise ValueError(f"{weights_file} is damaged or does not fit {config_file.name}: {error}") from error
        if bad := [name for name, tensor in embedder.state_dict().items() if not tensor.isfinite().all()]:
            raise ValueError(f"{weights_file}: NaN or infinite weights in {', '.join(bad[:3])}; the training diverged")
        return embedder.eval()


def hash_weights(facts: object, modules: Iterable[nn.Module]) -> str:
    """SHA-256 of plain data and of all that modules would save."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_plain(config: dict) -> None:
    for name, value in config.items():
        if name in _WORDS:
            if value not in list(_WORDS[name]):
                raise ValueError(f"{name} must be one of {', '.join(sorted(_WORDS[name]))}, got {value!r}")
        elif not all(isinstance(v, (int, float, bool)) for v in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{name} must be a number or a list of numbers, got {value!r}")


def _check_sizes(sizes: dict) -> None:
    for name, value in sizes.items():
        least = 1 if name in ("n_mels", "sample_rate", "embedding_dim") else 0
        values, most = value if isinstance(value, Sequence) else [value], LARGEST.get(name, _LARGEST_SIZE)
        if len(values) > _LONGEST_LIST or not all(isinstance(v, (int, float)) and least <= v <= most for v in values):
            raise ValueError(
                f"{name} must be numbers from {least} to {most}, at most {_LONGEST_LIST} of them, got {str(value)[:60]}"
            )
