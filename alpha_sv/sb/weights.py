"""What a run leaves, and what the next one may begin with:
an embedder, its prototypes, and whose they are."""

from __future__ import annotations

import copy
import functools
import json
import logging
import struct
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from speechbrain.utils.checkpoints import average_checkpoints, ckpt_recency
from speechbrain.utils.distributed import run_on_main
from torch import Tensor

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.files import atomic_write, read_json
from alpha_sv.heads import SubCenterHead
from alpha_sv.heads.checkpoint import read_shards, shards_shape
from alpha_sv.sb.checkpointer import ends_an_epoch
from alpha_sv.sb.run_folder import RunFolder
from alpha_sv.sb.training_log import TrainingLog

HEAD_POLICIES = ("keep", "means", "new")
_BLOCK = 1 << 16

logger = logging.getLogger(__name__)


def save_trained(brain, folder: RunFolder, average: int = 0) -> Path:
    """Save a trained run's embedder and prototypes; returns the folder of the embedder.

    Parameters
    ----------
    brain : SpeakerBrain
        After `fit`, or after an epoch; its own weights stay as they are.
    folder : RunFolder
        The run's.
    average : int
        Number of last epochs whose weights are averaged.
        With 0, the weights are those of the epoch with the lowest EER on the development trials.

    Raises
    ------
    ValueError
        No epoch has been scored on development trials, and none is to be averaged.
    """
    checkpointer, eer = brain.checkpointer, None
    if average:
        checkpoints = checkpointer.find_checkpoints(
            importance_key=ckpt_recency, max_num_checkpoints=average, ckpt_predicate=ends_an_epoch
        )
        if len(checkpoints) < average:
            logger.info("only %d of the %d epochs to average are there", len(checkpoints), average)
    else:
        best = checkpointer.find_checkpoint(min_key="eer")
        if best is None:
            raise ValueError(f"{folder.path}: no epoch was scored on development trials; set average instead")
        checkpoints, eer = [best], best.meta["eer"]
        logger.info("development EER %.2f %%, the lowest of all epochs", 100 * eer)
    paths = [checkpoint.path for checkpoint in checkpoints]
    if getattr(brain, "saved_from", None) != paths:  # after the last epoch they may be those of that epoch
        run_on_main(_write, args=[folder, checkpoints, brain.embedder, brain.hparams.training_log, eer])
        brain.saved_from = paths
    return folder.model


def _write(
    folder: RunFolder, checkpoints: list, embedder: SpeakerEmbedder, log: TrainingLog, eer: float | None
) -> None:
    """The mean of the checkpoints' weights,
    in the form of `embedder`, unless better ones are there.

    These are those of a better epoch, whose checkpoint was damaged since.
    """
    if eer is not None and (lowest := log.lowest("eer")) < eer and folder.model.is_dir():
        logger.warning("an epoch of %.2f %% has lost its checkpoint: %s stays", 100 * lowest, folder.model)
        return
    load = functools.partial(torch.load, weights_only=True, map_location="cpu")
    embedder = copy.deepcopy(embedder).cpu()
    embedder.load_state_dict(average_checkpoints(checkpoints, "embedder", parameter_loader=load))
    with atomic_write(folder.prototypes, "wb") as file:
        _write_prototypes(file, [Path(checkpoint.paramfiles["head"]) for checkpoint in checkpoints])
    embedder.save(folder.model)  # last: what is there is whole


def _write_prototypes(file, heads: list[Path]) -> None:
    """The mean of what heads have saved as safetensors,
    block by block: there may be more than the memory holds."""
    classes, dim = shards_shape(heads[0]) if heads[0].is_dir() else _weight(heads[0]).shape
    about = {"weight": {"dtype": "F32", "shape": [classes, dim], "data_offsets": [0, 4 * classes * dim]}}
    header = json.dumps(about).encode()
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)
    for start in range(0, classes, _BLOCK):
        rows = range(start, min(start + _BLOCK, classes))
        parts = [
            read_shards(head, rows) if head.is_dir() else _weight(head)[rows.start : rows.stop].float()
            for head in heads
        ]
        file.write((sum(parts) / len(parts)).numpy().astype("<f4").tobytes())


def _weight(path: Path) -> Tensor:
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)["weight"]


def warm_start(folder: str | Path, policy: str, embedder: SpeakerEmbedder, head, labels: dict[str, int]) -> None:
    """Begin with what another run ended with.

    Parameters
    ----------
    folder : path-like
        Output folder of that run.
    policy : {"keep", "means", "new"}
        The prototypes of the classes of the same name; or those of `head` as they are: "means" (the
        caller sets them to the class means of the embeddings before the first epoch) and "new".
    embedder, head
        Changed in place.
    labels : dict
        Class → row of `head.weight`.

    Raises
    ------
    ValueError
        The folder holds no finished run, its embedder is
        another network, or, with "keep", it lacks a class.
    """
    folder = Path(folder)
    run = RunFolder(folder)
    if not run.model.is_dir():
        raise ValueError(f"warm_start: {folder} holds no trained run (no model/ in it); give the output_folder of one")
    earlier = type(embedder).load(run.model)
    one, other = earlier.config, embedder.config
    if changed := sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)):
        raise ValueError(
            f"warm_start: the embedder of {folder} differs in {', '.join(changed)}; train the same network"
        )
    embedder.load_state_dict(earlier.state_dict())
    if policy == "keep":
        weight, rows = prototypes_of(folder)
        if weight.shape[1:] != head.weight.shape[1:] or not weight.isfinite().all():
            raise ValueError(
                f"warm_start: {folder}/prototypes.safetensors, of shape {list(weight.shape)}, is not finite or not "
                f"[classes, {head.weight.shape[1]}]; use warm_start_head: means or new"
            )
        if lacking := sorted(labels.keys() - rows.keys()):
            raise ValueError(
                f"warm_start: {folder} has no prototype of {len(lacking)} of the {len(labels)} classes "
                f"({', '.join(lacking[:3])}); use warm_start_head: means (of their embeddings) or new"
            )
        several = isinstance(head, SubCenterHead)
        if several and (len(weight) != len(head.weight) or rows != labels):
            raise ValueError(
                f"warm_start: {folder} has {len(weight)} prototypes of {len(rows)} classes, and several sub-centers "
                "are only kept from a run of the same classes and sub_centers; use warm_start_head: means or new"
            )
        classes = getattr(head, "classes", range(len(head.weight)))
        named = {row - classes.start: rows[name] for name, row in labels.items() if row in classes}
        own = {row: row for row in classes} if several else named
        with torch.no_grad():
            head.weight[list(own)] = weight[list(own.values())].to(head.weight)


def prototypes_of(folder: Path) -> tuple[Tensor, dict[str, int]]:
    """(prototypes [C, D], class → row) of a trained run."""
    run = RunFolder(folder)
    try:
        weight = safetensors.torch.load(run.prototypes.read_bytes())["weight"]
        rows = read_json(run.labels, like=dict)
        if not weight.ndim == 2:
            raise ValueError(f"{run.prototypes} has the shape {list(weight.shape)}")
    except (OSError, SafetensorError, LookupError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} has no usable prototypes ({error}); use warm_start_head: means or new") from error
    if not all(type(row) is int and row in range(len(weight)) for row in rows.values()):
        raise ValueError(f"{folder}: labels.json names rows that prototypes.safetensors does not have")
    return weight, rows
