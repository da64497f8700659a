"""A network in ONNX as an embedder: of ours,
of WeSpeaker or sherpa-onnx, or anybody's who says what it takes.

What a network expects is not written in its graph, so it stands in a JSON file beside
it (`model.onnx`, `model.json`), or in the metadata that our export and sherpa-onnx
write into the file itself.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from alpha_sv.embedding.embedder import LARGEST
from alpha_sv.embedding.features import KINDS, Features
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.files import InputError, parse_json, read_text, sha256_file

FORMAT = "alpha_sv.onnx/1"
_MOST_AT_ONCE = 8  # batches of half a minute, up to 0.4 GB each


@dataclass(frozen=True)
class OnnxInput:
    """What a network in ONNX takes.

    Parameters
    ----------
    input : {"features", "waveform"}
        Features [B, F, n_mels], or waveforms [B, T] in [−1, 1].
    features : {"speechbrain", "kaldi", "wespeaker"}
        The kind of features, see `alpha_sv.embedding.features`; of no meaning for waveforms.
    sample_rate, n_mels : int
        Hz; bands.
    mean_norm : bool
        Whether each band's mean over the utterance is removed before.

    Raises
    ------
    ValueError
        For a value of another kind.
    """

    input: str = "features"
    features: str = "kaldi"
    sample_rate: int = 16000
    n_mels: int = 80
    mean_norm: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("input", ("features", "waveform")), ("features", KINDS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name!r} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("sample_rate", "n_mels"):
            if type(getattr(self, name)) is not int or not 1 <= getattr(self, name) <= LARGEST[name]:
                raise ValueError(
                    f"{name!r} must be a positive whole number up to {LARGEST[name]}, got {getattr(self, name)!r}"
                )
        if type(self.mean_norm) is not bool:
            raise ValueError(f"'mean_norm' must be true or false, got {self.mean_norm!r}")

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str | os.PathLike) -> OnnxInput:
        """ValueError names `where` and the field."""
        try:
            content = parse_json(text, where)
            if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
                raise ValueError(f"the field 'format' is not {FORMAT!r}")
            if unknown := sorted(content.keys() - {field.name for field in dataclasses.fields(cls)}):
                raise ValueError(f"unknown fields {', '.join(unknown)}")
            return cls(**content)
        except ValueError as error:
            raise InputError(f"{where} does not say what the network takes: {error}") from error


class OnnxEmbedder(WaveformEmbedder):
    """Waveforms → embeddings by onnxruntime.

    Parameters
    ----------
    path : path-like
        The .onnx file.
    spec : OnnxInput, optional
        What it takes; by default what `read_spec` finds.
    threads : int
        Of onnxruntime; 0: as many as there are cores for this process,
        and small batches are computed one on each.

    Raises
    ------
    ValueError
        The file is missing, damaged, or its inputs and outputs are not those of a speaker embedder.
    ImportError
        onnxruntime is not installed: pip install 'alpha_sv[onnx]'.
    """

    def __init__(self, path: str | os.PathLike, spec: OnnxInput | None = None, threads: int = 0):
        self.path, self.threads = Path(path), threads
        self.session = _session(self.path, threads, ["CPUExecutionProvider"])
        self.spec = spec or read_spec(self.path, self.session)
        self.sample_rate = self.spec.sample_rate
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        rank = 3 if self.spec.input == "features" else 2
        fits = len(inputs) == 1 and len(inputs[0].shape) == rank
        bands = inputs[0].shape[-1] if rank == 3 and fits else None  # None or a word where the graph leaves it open
        if not fits or (isinstance(bands, int) and bands != self.spec.n_mels):
            wanted = f"features [B, F, {self.spec.n_mels}]" if rank == 3 else "waveforms [B, T]"
            found = ", ".join(f"{entry.name} {entry.shape}" for entry in inputs)
            raise ValueError(f"{self.path} does not take {wanted} alone, but {found}; correct its JSON file")
        self.features = None
        if rank == 3:
            self.features = Features(
                self.sample_rate, self.spec.n_mels, mean_norm=self.spec.mean_norm, kind=self.spec.features
            ).eval()
        self.input, self.output = inputs[0].name, outputs[0].name
        one_second = np.random.default_rng(0).standard_normal((1, self.length(self.sample_rate))) * 0.1
        self.embedding_dim = self._run(one_second.astype(np.float32)).shape[1]
        self.config = {"architecture": "onnx", **dataclasses.asdict(self.spec), "embedding_dim": self.embedding_dim}

    def length(self, num_samples: int) -> int:
        length = super().length(num_samples)  # refuses what is too short
        return length if self.spec.input == "features" else num_samples  # zeros might be heard by a foreign network

    def embed_batch(self, waveforms: np.ndarray) -> np.ndarray:
        return self._run(waveforms)

    @functools.cached_property
    def at_once(self) -> int:
        """Threads that share one small batch wait for each
        other after each of its hundreds of operations."""
        if self.threads or self.session.get_providers()[0] != "CPUExecutionProvider":
            return 1
        return min(_cores(), _MOST_AT_ONCE)

    @functools.cached_property
    def _one_thread(self):
        return _session(self.path, 1, ["CPUExecutionProvider"])

    def embed_small_batch(self, waveforms: np.ndarray) -> np.ndarray:
        return self._run(waveforms, self._one_thread)

    def _run(self, waveforms: np.ndarray, session=None) -> np.ndarray:
        values = waveforms
        if self.features is not None:
            with torch.inference_mode():
                values = self.features(torch.from_numpy(waveforms)).numpy()
        if self.fixed_batch:
            return np.concatenate([self._call(row[None], session) for row in values])
        return self._call(values, session)

    def _call(self, values: np.ndarray, session) -> np.ndarray:
        try:
            embeddings = (session or self.session).run([self.output], {self.input: values})[0]
        except Exception as error:  # onnxruntime has exceptions of its own, without a common base
            raise ValueError(f"{self.path}: onnxruntime cannot run it on {list(values.shape)}: {error}") from error
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim == 3 and 1 in embeddings.shape[1:]:
            embeddings = embeddings.reshape(len(values), -1)
        if embeddings.ndim != 2 or len(embeddings) != len(values):
            raise ValueError(
                f"{self.path} gives {list(embeddings.shape)} for {len(values)} utterances, not one embedding each"
            )
        return embeddings

    @property
    def fixed_batch(self) -> bool:
        """Whether the graph takes one utterance at a time."""
        return self.session.get_inputs()[0].shape[0] == 1

    def fingerprint(self) -> str:
        return f"{sha256_file(self.path)} {self.spec.to_json()}"

    def to(self, device: str) -> OnnxEmbedder:
        """On "cuda", onnxruntime's CUDA provider; ValueError if this onnxruntime has none."""
        if str(device).startswith("cuda"):
            import onnxruntime

            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise ValueError("this onnxruntime knows no CUDA; install onnxruntime-gpu, or use device cpu")
            self.session = _session(self.path, self.threads, ["CUDAExecutionProvider", "CPUExecutionProvider"])
            vars(self).pop("at_once", None)
        elif str(device) != "cpu":
            raise ValueError(f"a network in ONNX runs on cpu or cuda, not on {device}")
        return self


def read_spec(path: Path, session=None) -> OnnxInput:
    """What the network takes: from `<name>.json` beside it, our metadata in it, or sherpa-onnx's.

    Raises
    ------
    ValueError
        It is said nowhere; the message says how to say it.
    """
    beside = path.with_suffix(".json")
    if beside.is_file():
        return OnnxInput.from_json(read_text(beside), beside)
    session = session or _session(path, 1, ["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if "alpha_sv" in metadata:
        return OnnxInput.from_json(metadata["alpha_sv"], f"the metadata of {path}")
    if metadata.get("framework") in ("wespeaker", "3d-speaker") and "sample_rate" in metadata:
        # sherpa-onnx: normalize_samples 1 is for samples in [−1, 1], 0 for those of 16 bits.
        # Both remove the mean in their own inference; sherpa-onnx's WeSpeaker files fail to say so.
        kind = "kaldi" if metadata.get("normalize_samples", "1") == "1" else "wespeaker"
        try:
            return OnnxInput("features", kind, int(metadata["sample_rate"]))
        except ValueError as error:
            raise InputError(f"the metadata of {path} do not say what the network takes: {error}") from error
    inputs = ", ".join(f"{entry.name} {entry.shape}" for entry in session.get_inputs())
    raise ValueError(
        f"{path} (it takes {inputs}) does not say which features or which rate it was trained on, and a wrong guess "
        f"would only show in the error rates; say it with: alpha-sv import {path} -o MODEL --input features --features "
        "kaldi (3D-Speaker) | wespeaker | speechbrain, or --input waveform"
    )


def _cores() -> int:
    """Those this process may use.
    With a thread for each of the machine, onnxruntime's would wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(path: Path, threads: int, providers: list[str]):
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("networks in ONNX need onnxruntime: pip install 'alpha_sv[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or _cores()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has exceptions of its own, without a common base
        raise ValueError(f"{path} is not a network that onnxruntime can load: {error}") from error
