"""What is checked before any solve: numbers, shapes, types,
labels, the reference measure, the working precision."""

from __future__ import annotations

import functools
import inspect
import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

ASYNCHRONOUS = {"cuda", "xpu"}
"""Devices on which looking at a value waits for all work before it.
A test may add "cpu" to see the code for them."""

IMPLEMENTATIONS = ("fast", "plain")
REDUCTIONS = ("mean", "sum", "batch", "none", "batchmean")  # "batch" and "batchmean" are SpeechBrain's words


def asynchronous(tensor: Tensor) -> bool:
    """Whether it costs more to look at a value of this tensor than to work on it."""
    return tensor.device.type in ASYNCHRONOUS


def transformed(*tensors: Tensor | None) -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jvp,
    …) is at work, or one of the tensors is a dual number."""
    if torch._C._are_functorch_transforms_active():
        return True
    return any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in tensors)


_BUILD_FIRST = (
    "Build the loss first, then call it with outputs and labels: QMargin(alpha=1.5)(outputs, targets); in a recipe "
    "that is !new:alpha_sv.losses.QMargin, and not !name:"
)


def refuse_tensors(cls: type, arguments: tuple) -> None:
    """Refuse to build a loss or a head of tensors,
    as a class or a partial in the place of one does."""
    if any(isinstance(value, Tensor) for value in arguments):
        raise ValueError(f"what {cls.__name__} is built of must be a number each, got a tensor. {_BUILD_FIRST}")


def number(value: float, name: str) -> float:
    """`value` as a float, or say why it is none."""
    if isinstance(value, (Tensor, bool)) or inspect.isclass(value) or isinstance(value, functools.partial):
        what = "a tensor" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name} must be a number, got {what}. {_BUILD_FIRST}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None


def check_alpha(alpha: float) -> float:
    """Return `alpha` as a float, or say why it cannot be one: α must be finite and at least 1."""
    alpha = number(alpha, "alpha")
    if not (math.isfinite(alpha) and alpha >= 1.0):
        raise ValueError(f"alpha must be a finite number >= 1 (1 is the softmax), got {alpha}")
    return alpha


def use_plain(implementation: str, *tensors: Tensor | None) -> bool:
    """Whether `plain.py` is to do the work:
    it was asked for, or a derivative of these tensors needs it."""
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be one of {IMPLEMENTATIONS}, got {implementation!r}")
    return implementation == "plain" or transformed(*tensors)


def working_dtype(dtype: torch.dtype, alpha: float) -> torch.dtype:
    """The precision of the solve, whatever autocast says: float32, or float64 if given or if α > 2.

    For α > 2 the posterior has an infinite slope at the threshold, (…)^{1/(α−1)}:
    an error of 1e-7 in τ would become one of 1e-7^{1/(α−1)} in p, 2 % at α = 5.
    """
    return torch.float64 if dtype == torch.float64 or alpha > 2 else torch.float32


def check_logits(logits: Tensor) -> None:
    """Refuse what is no tensor, has no class axis,
    or is of an integer type, which would round p to zero."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"logits must be a tensor, got {type(logits).__name__}: torch.as_tensor makes one")
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

    On a GPU their values are not looked at, since that waits for the device; gather asserts there.
    """
    if not isinstance(target, Tensor):
        raise ValueError(f"target must be a tensor of class indices, got {type(target).__name__}")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target must hold class indices (an integer dtype), got {target.dtype}")
    if target.shape != shape:
        raise ValueError(
            f"target must have the shape of logits without the class axis, {tuple(shape)}, got {tuple(target.shape)}"
        )
    if target.numel() and not (asynchronous(target) or transformed()):
        low, high = (int(value) for value in torch.aminmax(target))
        if low < 0 or high >= classes:
            raise ValueError(
                f"target labels must lie in [0, {classes}), got values from {low} to {high}: the number of classes "
                "of the classifier and the label encoder disagree"
            )


def check_batch(outputs: Tensor, targets: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """SpeechBrain's shapes made plain: (outputs [N, K],
    targets [N]), from [N, 1, K] and [N, 1] also."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        kinds = f"{type(outputs).__name__} and {type(targets).__name__}"
        raise ValueError(f"expected tensors of {what} and labels, got {kinds}: torch.as_tensor makes them")
    if outputs.ndim == 3 and outputs.shape[1] == 1:
        outputs = outputs.squeeze(1)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    if outputs.ndim != 2 or targets.ndim != 1:
        raise ValueError(
            f"expected {what} [N, K] or [N, 1, K] and labels [N] or [N, 1], "
            f"got {tuple(outputs.shape)} and {tuple(targets.shape)}"
        )
    return outputs, targets


def check_reduction(reduction: str) -> str:
    """Refuse a reduction that is none of ours or SpeechBrain's."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    return reduction


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Losses [N] of examples, as they are, summed, or their mean."""
    if check_reduction(reduction) in ("batch", "none"):
        return values
    if reduction == "sum":
        return values.sum()
    if not len(values):
        raise ValueError(
            "the batch is empty, so its loss has no mean: drop such batches, or use reduction='sum' or 'none'"
        )
    return values.mean()


def log_measure(q: Tensor | None, logits: Tensor, dtype: torch.dtype) -> Tensor | None:
    """ln q in the working dtype, or None;
    refuses a measure that is not positive and finite everywhere."""
    if q is None:
        return None
    check_broadcast(q, logits, "q")
    if not transformed() and not bool((q > 0).all() & q.isfinite().all()):
        raise ValueError(f"the reference measure q must be positive and finite, it spans {q.min()} to {q.max()}")
    return q.log().to(dtype)  # the logarithm first: 1e-60 has no float32, its logarithm has


def check_broadcast(q: Tensor, logits: Tensor, name: str) -> None:
    """Refuse a measure that is no tensor, or does not broadcast against the logits."""
    if not isinstance(q, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(q).__name__}")
    if q.ndim > logits.ndim or any(a not in (1, b) for a, b in zip(q.shape[::-1], logits.shape[::-1], strict=False)):
        raise ValueError(f"{name} of shape {tuple(q.shape)} does not broadcast to logits {tuple(logits.shape)}")


def check_range(cosines: Tensor) -> None:
    """Refuse logits where cosines are meant. NaN passes on purpose: it shows in the loss."""
    if not cosines.numel() or transformed(cosines):
        return
    largest = cosines.detach().abs().amax().item()
    if largest > 1.01:
        raise ValueError(
            f"outputs must be cosines in [−1, 1], found |value| = {largest:.4g}: the classifier must normalise "
            "its input and its weight (speechbrain.lobes.models.ECAPA_TDNN.Classifier does)"
        )


def check_third(length) -> None:
    """A third argument: SpeechBrain's lengths,
    or None for pytorch-metric-learning's pairs, which have no use here."""
    if length is not None and not isinstance(length, Tensor):
        raise ValueError(
            f"the third argument is SpeechBrain's relative lengths, got {type(length).__name__}: pairs or triplets of "
            "a miner have no meaning for a loss over all speakers, so use none"
        )
