"""A model of another toolkit → a model folder of ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from alpha_sv.data.files import atomic_write
from alpha_sv.embedding.onnx import OnnxEmbedder, OnnxInput, read_spec
from alpha_sv.exchange.checkpoints import read_embedder
from alpha_sv.exchange.speechbrain import is_pretrained_folder, read_pretrained

_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def import_model(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    features: str | None = None,
    input: str | None = None,
    sample_rate: int = 16000,
    n_mels: int = 80,
) -> Path:
    """Write a model folder that `load_model` reads, from a model of another toolkit; returns the folder.

    Parameters
    ----------
    source : path-like
        A SpeechBrain pretrained folder; a checkpoint of 3D-Speaker or WeSpeaker, or of SpeechBrain's ECAPA-TDNN; or a
        network in ONNX that takes Kaldi features [B, T, M] or waveforms [B, T].
    output : path-like
        The folder to write; it must not exist, or be empty.
    features : {"kaldi", "wespeaker", "speechbrain"}, optional
        Which features the network was trained on, where the source does not say it.
    input : {"features", "waveform"}, optional
        What a network in ONNX takes, where it does not say it.
    sample_rate, n_mels : int
        Likewise.

    Raises
    ------
    ValueError
        The source is none of these, or is damaged, or does not say enough; or `output` is in use.
    """
    source, output = Path(source), Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"{output} is there already; give the name of a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".part"))
    try:
        if source.is_dir():
            if not is_pretrained_folder(source):
                raise ValueError(
                    f"{source} has no hyperparams.yaml, so it is no SpeechBrain pretrained folder; give the "
                    "checkpoint or the .onnx in it"
                )
            read_pretrained(source).save(part)
        elif not source.is_file():
            raise ValueError(f"{source}: no such file or folder")
        elif source.suffix == ".onnx":
            _import_onnx(source, part, features, input, sample_rate, n_mels)
        elif source.suffix in _CHECKPOINTS:
            read_embedder(source, features, sample_rate).save(part)
        else:
            raise ValueError(
                f"{source} is none of: a SpeechBrain pretrained folder, a checkpoint ({' '.join(_CHECKPOINTS)}), .onnx"
            )
        part.chmod(0o755)
        if output.exists():
            output.rmdir()  # empty
        os.replace(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def _import_onnx(source: Path, folder: Path, features, input, sample_rate: int, n_mels: int) -> None:
    if input is None and features is None:
        spec = read_spec(source)
    else:
        kind = input or "features"
        if kind == "features" and features is None:
            raise ValueError(f"{source}: which features? Give --features kaldi, wespeaker or speechbrain")
        spec = OnnxInput(kind, features or "kaldi", sample_rate, n_mels)
    OnnxEmbedder(source, spec, threads=1)  # runs it once: it takes what is said
    shutil.copyfile(source, folder / "model.onnx")
    data = source.with_name(source.name + ".data")  # the weights of networks that keep them outside
    if data.is_file():
        shutil.copyfile(data, folder / data.name)
    with atomic_write(folder / "config.json") as file:
        file.write(spec.to_json())
