"""Dense prototypes and a loss in one module:
the readable head, and the oracle of every faster one."""

from __future__ import annotations

import functools
import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpha_sv.functional.checks import check_batch, check_third, refuse_tensors
from alpha_sv.losses import MarginLoss, QMargin

TINY = 1e-12
"""Vectors shorter than this have no direction."""
_INITIAL = 1 << 16  # prototypes drawn from one seed


class CosineHead(nn.Module):
    """Cosines to C speaker prototypes, then the loss.

    Parameters
    ----------
    embedding_dim : int
        D.
    num_classes : int
        C, the number of speakers.
    loss : MarginLoss, optional
        Default QMargin().

    Attributes
    ----------
    weight : Parameter [C, D]
        Prototypes, not normalised; initialised with unit-norm rows in expectation.

    Raises
    ------
    ValueError
        For sizes below 1, or a `loss` that is a class and not an object of it.

    Example
    -------
    >>> head = CosineHead(embedding_dim=4, num_classes=3)
    >>> head(torch.ones(2, 4), torch.tensor([0, 2])).shape
    torch.Size([])
    """

    def __new__(cls, *arguments, **options):
        refuse_tensors(cls, arguments)
        return super().__new__(cls)

    def __init__(self, embedding_dim: int, num_classes: int, loss: MarginLoss | None = None):
        super().__init__()
        if embedding_dim < 1 or num_classes < 1:
            raise ValueError(f"embedding_dim and num_classes must be >= 1, got {embedding_dim} and {num_classes}")
        self.loss = built(loss)
        self.weight = nn.Parameter(initial_prototypes(num_classes, embedding_dim))

    def cosines(self, embeddings: Tensor) -> Tensor:
        """[N, D] or [N, 1, D] → cosines [N, C], in float32 or better also under autocast.

        bfloat16 cosines would carry 0.12 of rounding in a logit at s = 30.
        """
        embeddings = embeddings.squeeze(1) if getattr(embeddings, "ndim", 0) == 3 else embeddings
        check_width(embeddings, self.weight)
        dtype = working_dtype(self.weight)
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(unit(embeddings.to(dtype)), unit(self.weight.to(dtype)))

    def forward(self, embeddings: Tensor, targets: Tensor, length: Tensor | None = None) -> Tensor:
        """Mean loss of embeddings [N, D] (or [N, 1, D]) with
        labels [N] (or [N, 1]); `length` as in the losses."""
        check_third(length)
        return self.loss(self.cosines(embeddings), targets)

    @torch.no_grad()
    def statistics(self, embeddings: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy (of the nearest prototype,
        no margin) and the loss's sparsity figures on one batch."""
        cosines, targets = check_batch(self.cosines(embeddings), targets, "cosines")
        accuracy = (cosines.argmax(-1) == targets).double().mean().item() if len(targets) else float("nan")
        return {"accuracy": accuracy, **self.loss.sparsity(cosines, targets)}


def initial_prototypes(
    num_classes: int, embedding_dim: int, classes: range | None = None, state: Tensor | None = None
) -> Tensor:
    """Rows of N(0, 1/D), so of length 1 in expectation;
    the rows `classes` of them, the same whoever draws which.

    The first 65,536 come from torch's own generator, or from one in `state`. Every further
    block has a seed of its own, so that a rank draws its own rows and not those of the others.

    >>> state = torch.get_rng_state()
    >>> whole = initial_prototypes(70_000, 2)
    >>> torch.equal(
    ...     initial_prototypes(70_000, 2, range(65_000, 66_000), state), whole[65_000:66_000]
    ... )
    True
    """
    classes = range(num_classes) if classes is None else classes
    weight = torch.empty(len(classes), embedding_dim)
    first = torch.Generator()
    first.set_state(torch.get_rng_state() if state is None else state)
    base = int(torch.randint(2**62, (), generator=first.clone_state(), device="cpu"))
    for start in range(classes.start // _INITIAL * _INITIAL, classes.stop, _INITIAL):
        size = (min(_INITIAL, num_classes - start), embedding_dim)
        if start == 0 and state is None:
            block = torch.randn(size)
        else:
            generator = torch.Generator().manual_seed(base + start) if start else first
            block = torch.randn(size, generator=generator, device="cpu")
        here = range(max(start, classes.start), min(start + size[0], classes.stop))
        weight[here.start - classes.start : here.stop - classes.start] = block[here.start - start : here.stop - start]
    return weight.div_(embedding_dim**0.5)


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1. One of length 0 has no direction:
    it stays 0 and has no gradient, which would be 1/0."""
    long = torch.linalg.vector_norm(rows.detach(), dim=-1, keepdim=True) > TINY
    return F.normalize(rows, dim=-1, eps=TINY) * long


def working_dtype(weight: Tensor) -> torch.dtype:
    """Prototypes may be kept in half precision; cosines are computed in float32 or better."""
    return torch.promote_types(weight.dtype, torch.float32)


def built(loss: MarginLoss | None) -> MarginLoss:
    """`loss`, or the default; refuses a class or a partial one,
    as `!name:` in a recipe gives it."""
    if inspect.isclass(loss) or isinstance(loss, functools.partial):
        raise ValueError(
            f"loss must be an object, got {loss!r}: write QMargin(alpha=1.5) and not QMargin; in a recipe "
            "!new:alpha_sv.losses.QMargin and not !name:"
        )
    return QMargin() if loss is None else loss


def check_width(embeddings: Tensor, weight: Tensor) -> None:
    """Refuse embeddings that are no tensor, or of another dimension than the prototypes'."""
    if not isinstance(embeddings, Tensor):
        raise ValueError(f"embeddings must be a tensor, got {type(embeddings).__name__}: torch.as_tensor makes one")
    if embeddings.ndim != 2 or embeddings.shape[1] != weight.shape[1]:
        raise ValueError(
            f"expected embeddings [N, {weight.shape[1]}] or [N, 1, {weight.shape[1]}], as the prototypes of this head "
            f"have that dimension, got {tuple(embeddings.shape)}"
        )
