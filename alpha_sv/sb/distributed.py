"""Several processes train as one: the same batches,
the same batch statistics, the same development trials.

`batch_size` counts the samples of all processes together, and each takes its share of every
batch. So a run on two processes takes the steps of a run on one, to rounding, and may be resumed
on another number of them.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from alpha_sv.files import atomic_write


def world_size() -> int:
    """Number of processes; 1 outside of torch.distributed."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_batch_size(batch_size: int) -> int:
    """This process's share of a batch.

    >>> local_batch_size(96)
    96
    """
    processes = world_size()
    if batch_size % processes:
        raise ValueError(
            f"batch_size {batch_size} cannot be divided by {processes} processes (it counts the samples of all of "
            f"them together); use {max(batch_size // processes, 1) * processes}"
        )
    return batch_size // processes


def main_first(task: Callable[[], object], flag: str | os.PathLike) -> None:
    """Run `task` in the first process while the others wait for as long as it takes.

    They look for the file `flag` once per second; in a collective of torch.distributed
    they would give up after two hours, and a corpus may take longer to read.
    """
    if world_size() == 1:
        task()
        return
    token = [uuid.uuid4().hex]  # so that a file of an earlier start is not mistaken for this one's
    dist.broadcast_object_list(token)
    flag = Path(flag)
    if rank() == 0:
        task()
        with atomic_write(flag) as file:
            file.write(token[0])
    while not (flag.is_file() and flag.read_text(encoding="utf-8") == token[0]):
        time.sleep(1)
    dist.barrier()
    if rank() == 0:
        flag.unlink()


def summed(values: Tensor, device: torch.device) -> Tensor:
    """The sum over processes of a tensor that every one of them has; back on its own device."""
    if world_size() == 1:
        return values
    total = values.to(device)
    dist.all_reduce(total)
    return total.to(values.device)


def mean_over_processes(figures: dict[str, float], device: torch.device) -> dict[str, float]:
    """Of figures that every process has under the same names."""
    if world_size() == 1:
        return dict(figures)
    total = summed(torch.tensor(list(figures.values()), dtype=torch.float32), torch.device(device))
    return dict(zip(figures, (total / world_size()).tolist(), strict=True))


def merged(own: dict) -> dict:
    """The dictionaries of all processes as one."""
    if world_size() == 1:
        return own
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, own)
    return {key: value for part in parts for key, value in part.items()}


def with_common_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch normalisation by one whose statistics are those of the batch of all processes.

    On a GPU that is torch's SyncBatchNorm, which knows no CPU; there it is `CommonBatchNorm`.
    Parameters and buffers stay the same objects, with the same names.
    """
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm):
        return CommonBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, with_common_batch_norm(child, device))
    return module


class CommonBatchNorm(nn.Module):
    """A batch norm (`nn.BatchNorm1d`, …) over the samples of
    all processes, which have batches of the same shape."""

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, …] → [N, C, …], in float32 or better inside."""
        shape = (1, -1, *(1,) * (x.ndim - 2))
        mean, variance = self.running_mean, self.running_var
        values = x.to(mean.dtype)
        if self.training:
            axes = [axis for axis in range(x.ndim) if axis != 1]
            mean = all_reduce(values.mean(axes)) / world_size()
            variance = all_reduce((values - mean.view(shape)).square().mean(axes)) / world_size()
            self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size())
        factor = torch.rsqrt(variance + self.eps) * self.weight
        return ((values - mean.view(shape)) * factor.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
