"""On which device to compute: one rule for every verb and recipe;
and what a CPU then does with freed memory.

Without a choice it is the first CUDA device if there is one, else the CPU. Apple's mps
is never chosen by itself and refused when asked for, because the solver needs float64,
which mps does not have.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys

HELP = "cpu, cuda or cuda:1; by default the first GPU if there is one"


def pick_device(given: str | None = None) -> str:
    """Name of the device to use: `given` once it has been checked, or the default.

    Parameters
    ----------
    given : str, optional
        "cpu", "cuda" or "cuda:1". Under torchrun "cuda" is the GPU of this process (LOCAL_RANK).

    Raises
    ------
    ValueError
        For another device, or one that this machine lacks.

    Example
    -------
    >>> pick_device("cpu")
    'cpu'
    >>> pick_device("mps")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: device mps cannot be used: it has no float64, which the losses need; ...
    """
    import torch

    device = str(given or "").strip().lower() or ("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = device.partition(":")
    if kind == "mps":
        raise ValueError("device mps cannot be used: it has no float64, which the losses need; use --device=cpu")
    if kind not in ("cpu", "cuda") or (number and not re.fullmatch(r"\d{1,4}", number)) or device.endswith(":"):
        raise ValueError(f"device must be cpu, cuda or cuda:NUMBER, got {given!r}")
    if kind == "cpu":
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ValueError(f"device {device}, but torch finds no CUDA device here; use --device=cpu")
    rank = os.environ.get("LOCAL_RANK", "0")
    place = int(number) if number else int(rank) if rank.isdecimal() else 0
    if place >= count:
        raise ValueError(
            f"device cuda:{place} does not exist: this machine has {count} CUDA devices, from cuda:0 on; "
            "start at most as many processes on it"
        )
    return f"cuda:{place}"


def device_for(model, given: str | None = None) -> str:
    """Put a model, anything with `to`, on the device given or,
    if it can be there, on the default; says which it is.

    A network in ONNX cannot be on the GPU where onnxruntime is the one without CUDA.

    Raises
    ------
    ValueError
        As `pick_device`; the model cannot be on the device given.

    Example
    -------
    >>> import torch
    >>> device_for(torch.nn.Linear(2, 2), "cpu")
    'cpu'
    """
    device = pick_device(given)
    try:
        model.to(device)
    except ValueError:
        if given:
            raise
        device = "cpu"
        model.to(device)
    return device


def keep_memory() -> bool:
    """Let this process keep the memory that it frees; says whether it does.

    glibc hands every large block back to the system, and the next tensor of that size costs a page
    fault for each 4 kB of it: a fifth of a training step on a CPU. Afterwards blocks come from a
    heap that never shrinks, so the process stays as large as it once was. Where there is no glibc
    nothing happens, nor where one of its own settings for this is in the environment, such as
    MALLOC_TRIM_THRESHOLD_=131072: that wins.
    """
    names = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    chosen = any(name in os.environ for name in names) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or chosen:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    # M_MMAP_MAX: every block from the heap; M_TRIM_THRESHOLD:
    # which never shrinks (2 GB, the largest number, it would)
    return bool(mallopt(-4, 0)) and bool(mallopt(-1, -1))
