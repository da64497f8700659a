"""Checkpoints of split prototypes: one file a rank,
read back by any number of ranks, or by a head on one machine.

A folder holds shard-<save>-<first>-<last>.pt for classes first … last, and index.json, which
is written last and names the files that belong together: a save that was cut short leaves
the previous one in force.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from alpha_sv.files import InputError, read_json

_OPTIMISER = ("velocity", "current")


def save_shards(folder: str | os.PathLike, head, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write this rank's prototypes, and the state of its `PrototypeSGD`; every rank must call it.

    Parameters
    ----------
    folder : path-like
        Seen by all ranks; made if it is not there.
    head : ShardedHead or SparseHead
    optimizer : PrototypeSGD, optional
    """
    folder, classes = Path(folder), _classes(head)
    folder.mkdir(parents=True, exist_ok=True)
    state = optimizer.state.get(head.weight, {}) if optimizer is not None else {}
    tensors = {"weight": head.weight.detach(), **{name: state[name] for name in _OPTIMISER if name in state}}
    # numbered by save, so that the files of the last whole save are never overwritten
    index = _read_index(folder, missing_ok=True)
    number = index.get("save", 0) + 1
    _write(folder / _name(number, classes), {"step": state.get("step", 0), **tensors})
    names = [_name(number, classes)]
    if _ranks(head) > 1:
        names = [""] * _ranks(head)
        dist.all_gather_object(names, _name(number, classes), group=head.group)
    if _rank(head) == 0:
        total = sum(_span(name)[1] - _span(name)[0] for name in names)
        temporary = folder / "index.json.part"
        temporary.write_text(json.dumps({"save": number, "num_classes": total, "files": names}), encoding="utf-8")
        os.replace(temporary, folder / "index.json")
        for old in set(folder.glob("shard-*.pt")) - {folder / name for name in names}:
            old.unlink()
    if _ranks(head) > 1:
        dist.barrier(group=head.group)


def load_shards(folder: str | os.PathLike, head, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Read the classes of this rank from a folder of `save_shards`,
    whoever wrote it; arguments as there.

    Raises
    ------
    ValueError
        There is no whole save, a file of it is damaged,
        or it is of another number of classes or dimensions.
    """
    classes, total = _classes(head), head.num_classes if hasattr(head, "num_classes") else len(head.weight)
    held, dimension = shards_shape(folder)
    if held != total:
        raise ValueError(f"{folder} holds {held} prototypes, this head has {total}")
    if dimension != head.weight.shape[1]:
        raise ValueError(f"{folder} has dimension {dimension}, this head {head.weight.shape[1]}")
    if optimizer is not None:
        optimizer.state.pop(head.weight, None)  # that of the prototypes before
    for here, shard in _overlaps(Path(folder), classes):
        with torch.no_grad():
            head.weight[here] = shard["weight"].to(head.weight)
        if optimizer is not None and "velocity" in shard:
            load_state(head, optimizer, here, shard)


def load_state(head, optimizer: torch.optim.Optimizer, here: slice, state: dict) -> None:
    """Give `optimizer` velocities, their steps and the step it is at,
    for the rows `here` of the weight of `head`."""
    own = optimizer.state[head.weight]
    if not own:
        own["velocity"] = torch.zeros_like(head.weight.detach())
        own["current"] = torch.zeros(len(head.weight), dtype=torch.int64, device=head.weight.device)
    for name in _OPTIMISER:
        own[name][here] = state[name].to(own[name])
    own["step"] = int(state["step"])


def shards_shape(folder: str | os.PathLike) -> tuple[int, int]:
    """Number and dimension of the prototypes in a folder of `save_shards`;
    errors as `load_shards`."""
    index = _read_index(Path(folder))
    name = index["files"][0] if index["files"] else ""
    first, stop = _span(name) if name else (0, 0)
    return index["num_classes"], _read_shard(Path(folder, name), stop - first)["weight"].shape[1] if name else 0


def read_shards(folder: str | os.PathLike, classes: range) -> Tensor:
    """Prototypes [len(classes), D], float32, of a folder of `save_shards`;
    reads no others. Errors as `load_shards`."""
    weight = torch.empty(len(classes), shards_shape(folder)[1])
    for here, shard in _overlaps(Path(folder), classes):
        weight[here] = shard["weight"].to(weight)
    return weight


def _overlaps(folder: Path, classes: range) -> Iterator[tuple[slice, dict]]:
    """What the files hold of `classes`: where it goes, and each tensor's part, not yet read."""
    for name in _read_index(folder)["files"]:
        first, stop = _span(name)
        low, high = max(first, classes.start), min(stop, classes.stop)
        if low < high:
            shard = _read_shard(folder / name, stop - first)
            part = {
                key: value[low - first : high - first] if torch.is_tensor(value) else value
                for key, value in shard.items()
            }
            yield slice(low - classes.start, high - classes.start), part


def _classes(head) -> range:
    return getattr(head, "classes", range(len(head.weight)))


def _ranks(head) -> int:
    return getattr(head, "ranks", 1)


def _rank(head) -> int:
    return getattr(head, "rank", 0)


def _name(number: int, classes: range) -> str:
    return f"shard-{number}-{classes.start}-{classes.stop - 1}.pt"


def _span(name: str) -> tuple[int, int]:
    _, _, first, last = name.removesuffix(".pt").split("-")
    return int(first), int(last) + 1


def _read_index(folder: Path, missing_ok: bool = False) -> dict:
    try:
        index = read_json(folder / "index.json", like={"save": int, "num_classes": int, "files": [str]})
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise ValueError(f"{folder} has no index.json: no save was completed there") from None
    if wrong := [name for name in index["files"] if not re.fullmatch(r"shard-\d{1,18}-\d{1,18}-\d{1,18}\.pt", name)]:
        raise InputError(f"{folder / 'index.json'}: {wrong[0][:60]!r} is no shard; take the save before")
    return index


def _read_shard(path: Path, classes: int) -> dict:
    try:
        shard = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        if any(len(shard[name]) != classes for name in ("weight", *_OPTIMISER) if name in shard):
            raise ValueError(f"not {classes} rows")
        if shard["weight"].ndim != 2 or ("velocity" in shard and not {"current", "step"} <= shard.keys()):
            raise ValueError("not the parts of a shard")
        return shard
    except FileNotFoundError:
        raise
    except Exception as error:  # of whatever kind: a damaged pickle raises anything
        raise InputError(f"{path} is damaged, or no shard ({error!r:.300}); take the save before") from error


def _write(path: Path, value: dict) -> None:
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
