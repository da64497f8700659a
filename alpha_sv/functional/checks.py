"""What is checked before any solve: shapes, types, labels, the reference measure, the working precision."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(dtype: torch.dtype, alpha: float) -> torch.dtype:
    """The precision of the solve, whatever autocast says: float32, or float64 if given or if α > 2.

    For α > 2 the posterior has an infinite slope at the threshold, (…)^{1/(α−1)}: an error of 1e-7 in τ would become
    one of 1e-7^{1/(α−1)} in p, 2 % at α = 5.
    """
    return torch.float64 if dtype == torch.float64 or alpha > 2 else torch.float32


def check_logits(logits: Tensor) -> None:
    """Refuse logits without a class axis or of an integer type, which would round the posterior to zero."""
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need at least one class on the last axis, got shape {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")


def check_target(target: Tensor, logits: Tensor) -> None:
    """Refuse labels that do not index the last axis of `logits`, and say which ones."""
    check_logits(logits)
    check_labels(target, logits.shape[:-1], logits.shape[-1])


def check_labels(target: Tensor, shape: torch.Size, classes: int) -> None:
    """Refuse labels that are not class indices in [0, classes) of the given shape.

    The values of CUDA tensors are not looked at, since that waits for the device; gather asserts there.
    """
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(f"target must hold class indices (an integer dtype), got {target.dtype}")
    if target.shape != shape:
        raise ValueError(
            f"target must have the shape of logits without the class axis, {tuple(shape)}, got {tuple(target.shape)}"
        )
    if target.numel() and not target.is_cuda:
        low, high = (int(value) for value in torch.aminmax(target))
        if low < 0 or high >= classes:
            raise ValueError(
                f"target labels must lie in [0, {classes}), got values from {low} to {high}: the number of classes "
                "of the classifier and the label encoder disagree"
            )


def log_measure(q: Tensor | None, logits: Tensor, dtype: torch.dtype) -> Tensor | None:
    """ln q in the working dtype, or None; refuses a measure that is not positive and finite everywhere."""
    if q is None:
        return None
    if not bool((q > 0).all() & q.isfinite().all()):
        raise ValueError(f"the reference measure q must be positive and finite, it spans {q.min()} to {q.max()}")
    check_broadcast(q, logits, "q")
    return q.log().to(dtype)  # the logarithm first: 1e-60 has no float32, its logarithm has


def check_broadcast(q: Tensor, logits: Tensor, name: str) -> None:
    if q.ndim > logits.ndim or any(a not in (1, b) for a, b in zip(q.shape[::-1], logits.shape[::-1], strict=False)):
        raise ValueError(f"{name} of shape {tuple(q.shape)} does not broadcast to logits {tuple(logits.shape)}")
