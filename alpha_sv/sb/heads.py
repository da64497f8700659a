"""Which head a run trains, and how its prototypes get into the run's checkpoints.

There are two ways to train: dense, with all cosines and the optimizer of the network; or by
the rows of the active speakers, with an optimizer of their own. "sparse" and "sharded" are
the second, in one process and over several. A run is continued the way it was begun, whatever
the number of processes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from alpha_sv.functional.plain import NEAR_ONE
from alpha_sv.heads import (
    CosineHead,
    PrototypeSGD,
    ShardedHead,
    SparseHead,
    SubCenterHead,
    load_shards,
    save_shards,
)
from alpha_sv.heads.checkpoint import load_state
from alpha_sv.sb.checkpointer import load_weights, read_weights
from alpha_sv.sb.distributed import world_size

HEADS = ("auto", "dense", "sparse", "sharded")
MANY_CLASSES = 100_000
"""From here on dense prototypes cost more than 4 % of a training step on a CPU, sparse ones under
1 %, and on several GPUs a gradient of C·D numbers a step (docs/heads.md has the derivation)."""
_OPTIMIZER_FILE = "prototype_optimizer.ckpt"


def choose_head(hparams: Mapping, num_classes: int, begun: str | None = None) -> tuple[str, str]:
    """(head, reason): what to build for `num_classes` in this number of processes.

    Parameters
    ----------
    hparams : mapping
        Of the recipe: head, loss, alpha_schedule, prototype_opt_class, sub_centers.
    num_classes : int
        Prototypes.
    begun : str, optional
        The head of the run that is continued.

    Raises
    ------
    ValueError
        What is asked for cannot be done, with the remedy.

    Example
    -------
    >>> from alpha_sv.losses import AMSoftmax, QMargin
    >>> choose_head({"head": "auto", "loss": QMargin()}, 5_994)
    ('dense', 'fewer than 100,000 speakers')
    >>> choose_head({"head": "auto", "loss": QMargin()}, 1_000_000)
    ('sparse', 'from 100,000 speakers on')
    >>> choose_head({"head": "auto", "loss": AMSoftmax()}, 1_000_000)  # doctest: +ELLIPSIS
    ('dense', 'from 100,000 speakers on sparse, but α must be from 1.02 to 2 throughout, ...')
    """
    asked, processes = hparams["head"], world_size()
    problem = _unfit(hparams, num_classes, processes)
    if begun and asked == "auto":
        asked, reason = begun, "as the run was begun"
    elif asked != "auto":
        reason = "as asked for"
    elif num_classes < MANY_CLASSES:
        return "dense", f"fewer than {MANY_CLASSES:,} speakers"
    elif problem:
        return "dense", f"from {MANY_CLASSES:,} speakers on sparse, but {problem}"
    else:
        asked, reason = "sparse", f"from {MANY_CLASSES:,} speakers on"
    if asked != "dense" and (whole := _needs_all_cosines(hparams)):
        raise ValueError(f"head: {asked} does not compute all cosines, but {whole}; use head: dense")
    if asked == "dense" or processes == 1:
        return {"sharded": "sparse"}.get(asked, asked), reason
    if problem:
        raise ValueError(
            f"head: {asked} on {processes} processes is split over them, but {problem}; or use head: dense"
        )
    return "sharded", f"{reason}, split over {processes} processes"


def _unfit(hparams: Mapping, num_classes: int, processes: int) -> str:
    """Why the prototypes could not be split over processes; "" if they can."""
    if whole := _needs_all_cosines(hparams):
        return whole
    schedule, loss = hparams.get("alpha_schedule"), hparams["loss"]
    ends = (loss.alpha,) if schedule is None else (schedule.initial_alpha, schedule.final_alpha)
    if not NEAR_ONE <= min(ends) <= max(ends) <= 2:
        return f"α must be from {NEAR_ONE} to 2 throughout, and is from {min(ends):g} to {max(ends):g}"
    optimizer = hparams.get("prototype_opt_class")
    kind = getattr(optimizer, "func", optimizer)
    if kind not in (None, PrototypeSGD):
        return f"its prototypes are trained by PrototypeSGD, not by prototype_opt_class {kind.__name__}"
    if num_classes < processes:
        return f"{num_classes} classes are fewer than {processes} processes: start fewer"
    return ""


def _needs_all_cosines(hparams: Mapping) -> str:
    """What in the recipe only a dense head has; "" if nothing."""
    if (centers := _sub_centers(hparams)) > 1:
        return f"sub_centers: {centers} takes the nearest of several prototypes of every speaker"
    return "the loss has an inter-top-K penalty" if hparams["loss"].inter_top_k else ""


def _sub_centers(hparams: Mapping) -> int:
    return hparams.get("sub_centers") or 1


def head_of(hparams: Mapping, kind: str, num_classes: int) -> CosineHead | SparseHead | ShardedHead:
    """Prototypes and loss of the chosen kind."""
    build = {"dense": CosineHead, "sparse": SparseHead, "sharded": ShardedHead}[kind]
    if (centers := _sub_centers(hparams)) > 1:
        build = functools.partial(SubCenterHead, sub_centers=centers)
    return build(
        embedding_dim=hparams.get("embedding_dim") or hparams["embedder"].embedding_dim,
        num_classes=num_classes,
        loss=hparams["loss"],
    )


def add_head(checkpointer, head, optimizer: torch.optim.Optimizer) -> None:
    """Let a checkpointer save and load a `SparseHead` or
    `ShardedHead` with the optimizer of its prototypes.

    Each of them reads what either has written:
    one file in one process, one file a rank in a folder of that name.
    """
    hooks = {"custom_save_hook": functools.partial(_save, optimizer=optimizer)}
    checkpointer.add_recoverable("head", head, functools.partial(_load, optimizer=optimizer), **hooks)


def _save(head, path: Path, *, optimizer: torch.optim.Optimizer) -> None:
    if isinstance(head, ShardedHead):
        save_shards(path, head, optimizer)
    else:
        torch.save(head.state_dict(), path)
        torch.save(optimizer.state_dict(), Path(path).with_name(_OPTIMIZER_FILE))


def _load(head, path: str | os.PathLike, end_of_epoch: bool, *, optimizer: torch.optim.Optimizer) -> None:
    path = Path(path)
    apart = path.with_name(_OPTIMIZER_FILE)
    if path.is_dir():
        load_shards(path, head, optimizer)
    elif not isinstance(head, ShardedHead):
        load_weights(head, path)
        load_weights(optimizer, apart)
    else:
        weight = read_weights(path, mmap=True)["weight"]
        if weight.shape != (head.num_classes, head.weight.shape[1]):
            raise ValueError(
                f"{path} holds prototypes {list(weight.shape)}, not {[head.num_classes, head.weight.shape[1]]}"
            )
        own = slice(head.classes.start, head.classes.stop)
        with torch.no_grad():
            head.weight.copy_(weight[own])
        optimizer.state.pop(head.weight, None)
        if state := read_weights(apart, mmap=True)["state"].get(0):
            part = {key: value[own] if torch.is_tensor(value) else value for key, value in state.items()}
            load_state(head, optimizer, slice(None), part)
