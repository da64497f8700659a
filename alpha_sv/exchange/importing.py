"""A model of another toolkit → a model folder of ours; embeddings of another → a store of ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from alpha_sv.embedding.onnx import OnnxEmbedder, OnnxInput, read_spec
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.exchange.checkpoints import read_embedder
from alpha_sv.exchange.speechbrain import is_pretrained_folder, read_pretrained
from alpha_sv.files import atomic_write, input_key, read_npy, read_text, whole_folder

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
    """Write a model folder that `load_model` reads,
    from a model of another toolkit; returns the folder.

    Parameters
    ----------
    source : path-like
        A SpeechBrain pretrained folder; a checkpoint of 3D-Speaker or WeSpeaker, or of
        SpeechBrain's ECAPA-TDNN; or a network in ONNX that takes Kaldi features
        [B, T, M] or waveforms [B, T].
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
    with whole_folder(output) as part:
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


def import_embeddings(
    source: str | os.PathLike, output: str | os.PathLike, ids: str | os.PathLike | None = None
) -> EmbeddingStore:
    """A store of embeddings that another toolkit made,
    so that `score` and what follows can use them.

    Parameters
    ----------
    source : path-like
        .npy of float [N, D]; or Kaldi's .scp or .ark,
        one vector for each utterance (needs kaldiio).
    output : path-like
        Folder of the store to write.
    ids : path-like, optional
        For .npy: a text file with the N ids, one a line. Where an id has several parts,
        as in speaker/session/file, the first is taken for the speaker.

    Raises
    ------
    ValueError
        A file is damaged, the counts differ, an id comes twice,
        or an embedding is not finite or is zero.
    ImportError
        kaldiio is not installed: pip install 'alpha_sv[kaldi]'.
    """
    source, output = Path(source), Path(output)
    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    names, matrix = _read_npy(source, ids) if source.suffix == ".npy" else _read_kaldi(source)
    if matrix.ndim != 2 or len(matrix) != len(names) or not np.issubdtype(matrix.dtype, np.floating):
        raise ValueError(f"{source} has {matrix.dtype} {list(matrix.shape)} for {len(names)} ids, not float [N, D]")
    with np.errstate(over="ignore", under="ignore"):
        single = matrix.astype(np.float32)
    bad = ~np.isfinite(single).all(axis=1) | ~single.any(axis=1)
    if bad.any() or len(set(names)) < len(names):
        which = [names[i] for i in np.flatnonzero(bad)] or sorted({name for name in names if names.count(name) > 1})
        what = "NaN, infinite or zero embeddings (in float32)" if bad.any() else "ids that come twice"
        raise ValueError(f"{source}: {what}: {', '.join(which[:5])}")
    key = input_key(iter([names, matrix.dtype.str, np.ascontiguousarray(matrix).data]))
    speakers = [name.split("/")[0] if "/" in name else "" for name in names]
    with whole_folder(output) as part:
        writer = StoreWriter(part, names, speakers, ["test"] * len(names), matrix.shape[1], key)
        writer.write(range(len(names)), single)
        writer.finish(num_utterances=len(names), model={"imported": source.name})
    return EmbeddingStore.open(output)


def _read_npy(source: Path, ids: str | os.PathLike | None) -> tuple[list[str], np.ndarray]:
    if ids is None:
        raise ValueError(f"{source} has no names in it; give --ids FILE with one a line")
    try:
        names, matrix = read_text(ids).split("\n"), read_npy(source)
    except (OSError, ValueError) as error:
        raise ValueError(f"{source} or {ids} cannot be read: {error}") from error
    return [name.strip() for name in names if name.strip()], matrix


def _read_kaldi(source: Path) -> tuple[list[str], np.ndarray]:
    try:
        import kaldiio
    except ImportError as error:
        raise ImportError("Kaldi's ark and scp need kaldiio: pip install 'alpha_sv[kaldi]'") from error
    if source.suffix == ".scp" and any(line.rstrip().endswith("|") for line in read_text(source).splitlines()):
        raise ValueError(f"{source} has commands in it, which are not run; write the archive to a file")
    try:
        read = kaldiio.load_scp_sequential if source.suffix == ".scp" else kaldiio.load_ark
        pairs = [(name, _vector(name, value)) for name, value in read(str(source))]
        return [name for name, _ in pairs], np.stack([vector for _, vector in pairs])
    except Exception as error:  # of whatever kind: kaldiio trusts its files
        raise ValueError(f"{source} is no archive of vectors of one length: {error}") from error


def _vector(name: str, value: object) -> np.ndarray:
    vector = np.asarray(value)
    if vector.ndim != 1 and (vector.ndim != 2 or len(vector) != 1):
        raise ValueError(
            f"{name!r} is a matrix of shape {list(vector.shape)}, as features are; give one vector an utterance"
        )
    return vector.reshape(-1)
