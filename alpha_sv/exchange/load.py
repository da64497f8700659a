"""One door for every kind of speaker model: a name,
a folder of ours or of SpeechBrain, a network in ONNX."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.onnx import FORMAT as ONNX_FORMAT
from alpha_sv.embedding.onnx import OnnxEmbedder, OnnxInput
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.exchange.pretrained import MODELS, get_model
from alpha_sv.exchange.speechbrain import is_pretrained_folder, read_pretrained
from alpha_sv.files import InputError, read_json, read_text


@dataclass(frozen=True)
class Loaded:
    """An embedder, the name it goes by, and the file or folder it came from."""

    embedder: WaveformEmbedder
    name: str
    path: Path

    @property
    def calibrator(self) -> Path | None:
        """The calibrator that lies beside the model, if one does."""
        file = self.path / "calibrator.json"
        return file if file.is_file() else None

    @property
    def weights(self) -> Path:
        """The file with the weights, whose hash tells two models apart."""
        names = ("embedder.safetensors", "model.onnx", "embedding_model.ckpt", "embedding_model.safetensors")
        return next((self.path / name for name in names if (self.path / name).is_file()), self.path)


def load_embedder(source: str | os.PathLike) -> Loaded:
    """Load a speaker model.

    Parameters
    ----------
    source : str or path-like
        A name from `alpha-sv models`, fetched if need be; a model folder of `alpha-sv train` or
        `alpha-sv import`; a SpeechBrain pretrained folder; or an .onnx file that says what it
        takes. A folder or file comes before a name.

    Raises
    ------
    ValueError
        It is none of these, or damaged.
    """
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise ValueError(f"a model is named by a str or path, got {source!r}")
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path)
    if path.suffix == ".onnx":
        return Loaded(OnnxEmbedder(path), path.stem, path)
    if str(source) in MODELS:
        folder = get_model(str(source))
        return Loaded(SpeakerEmbedder.load(folder), str(source), folder)
    if path.exists():
        raise ValueError(
            f"{path} is not a model that can be used as it is; if it is a checkpoint of another toolkit: alpha-sv "
            f"import {path} -o MODEL"
        )
    raise ValueError(
        f"no model {os.fspath(source)!r}: neither a folder, nor an .onnx file, nor one of the published models "
        f"({', '.join(sorted(MODELS))})"
    )


def _from_folder(path: Path) -> Loaded:
    name = path.resolve().name
    config = path / "config.json"
    if config.is_file():
        try:
            described = read_json(config, like=dict).get("format")
        except InputError:
            described = None  # SpeakerEmbedder says what is wrong with it
        if described == ONNX_FORMAT:
            spec = OnnxInput.from_json(read_text(config), config)
            return Loaded(OnnxEmbedder(path / "model.onnx", spec), name, path)
        return Loaded(SpeakerEmbedder.load(path), name, path)
    if is_pretrained_folder(path):
        return Loaded(read_pretrained(path), name, path)
    if (path / "model" / "config.json").is_file():  # the output folder of a training
        return _from_folder(path / "model")
    raise ValueError(
        f"{path} is not a saved embedder: config.json (ours) or hyperparams.yaml (SpeechBrain's) is missing; `alpha-sv "
        "train` leaves a model in <output_folder>/model"
    )
