"""`export`: a model for another toolkit."""

from __future__ import annotations

import os
from pathlib import Path

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.exchange.hub import write_hub
from alpha_sv.exchange.load import load_embedder
from alpha_sv.exchange.speechbrain import write_pretrained
from alpha_sv.files import read_text, whole_folder

LAYOUTS = ("speechbrain", "onnx", "huggingface")


def export(
    model: object,
    folder: str | os.PathLike,
    to: str,
    *,
    int8: bool = False,
    metrics: str | os.PathLike | None = None,
    trained_on: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write a model in the layout of another toolkit; returns the folder.

    Parameters
    ----------
    model : SpeakerEmbedder, or what `alpha_sv.load_model` takes or gives
    folder : path-like
        Where the model is written; made if need be. It must not hold anything yet.
    to : {"speechbrain", "onnx", "huggingface"}
        See `alpha_sv.exchange.speechbrain`, `.onnx_export` and `.hub`.
        All of them embed whole utterances, as we do.
    int8 : bool
        Of "onnx": weights of 8 bits too.
    metrics, trained_on, licence
        Of "huggingface": what the model card says, see `write_hub`;
        by default what SOURCE.txt beside the model says, which goes along into every layout.

    Raises
    ------
    ValueError
        An unknown layout, a folder in use, a network that the
        layout cannot have, or one that is in ONNX already.

    Example
    -------
    >>> import tempfile
    >>> embedder = SpeakerEmbedder(
    ...     "resnet", 16, channels=[4, 4, 4, 4], block_sizes=[1, 1, 1, 1]
    ... )
    >>> folder = export(embedder, tempfile.mkdtemp(), to="speechbrain")
    >>> sorted(file.name for file in folder.iterdir())
    ['embedding_model.ckpt', 'hyperparams.yaml']
    """
    if to not in LAYOUTS:
        raise ValueError(f"to must be one of {', '.join(LAYOUTS)}, got {to!r}")
    folder, calibrator, weights = Path(folder), None, getattr(model, "weights", None)
    embedder = getattr(model, "embedder", model)
    if isinstance(model, (str, os.PathLike)):
        loaded = load_embedder(model)
        embedder, calibrator, weights = loaded.embedder, loaded.calibrator, loaded.weights
    if not isinstance(embedder, SpeakerEmbedder):
        raise ValueError(f"{model!r} cannot be exported: it is not one of our networks, or is in ONNX already")
    source = weights and Path(weights).with_name("SOURCE.txt")
    text = read_text(source) if source and source.is_file() else ""
    said = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    with whole_folder(folder) as part:
        if text:
            (part / source.name).write_text(text, encoding="utf-8")
        if to == "speechbrain":
            write_pretrained(embedder, part)
        elif to == "onnx":
            from alpha_sv.exchange.onnx_export import write_onnx

            write_onnx(embedder, part, int8)
        else:
            card = {"trained_on": trained_on or said.get("trained on"), "licence": licence or said.get("licence")}
            write_hub(embedder, part, name=folder.resolve().name, metrics=metrics, calibrator=calibrator, **card)
    return folder
