"""Prototypes and an α-divergence loss for very many speakers: exact, in bounded memory, with a row-sparse gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from alpha_sv.functional.active import Active
from alpha_sv.functional.checks import check_labels
from alpha_sv.functional.fenchel_young import loss_of
from alpha_sv.functional.reference import NEAR_ONE
from alpha_sv.heads.cosine import CosineHead
from alpha_sv.heads.gradient import prototype_gradients
from alpha_sv.heads.scan import scan_prototypes
from alpha_sv.monitor import sparsity_figures


class SparseHead(CosineHead):
    """As `CosineHead`, value and gradients, without ever holding the cosines of all speakers.

    The prototypes are scanned in chunks, each class is kept only while it may be active (`alpha_sv.functional.active`
    has the proof), and the gradient of the prototypes is a sparse tensor with the rows of the speakers that were active
    for some sample: train them with `alpha_sv.heads.PrototypeSGD`. With α = 1 (and below 1.02), where every speaker is
    active, it is the dense head, cosines, memory and gradient included.

    Parameters
    ----------
    embedding_dim, num_classes, loss
        As `CosineHead`.

    Attributes
    ----------
    weight : Parameter [C, D]
        Prototypes, not normalised.

    Example
    -------
    >>> from alpha_sv.losses import QMargin
    >>> head = SparseHead(embedding_dim=4, num_classes=1000, loss=QMargin(alpha=1.5))
    >>> head(torch.randn(2, 4), torch.tensor([7, 42])).backward()
    >>> head.weight.grad.is_sparse
    True
    """

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Scalar mean loss of embeddings [N, D] (or [N, 1, D]) with labels [N] (or [N, 1])."""
        if self.loss.alpha < NEAR_ONE:
            return super().forward(embeddings, targets)
        return self._per_example(embeddings, targets, self.loss.watch()).mean()

    @torch.no_grad()
    def statistics(self, embeddings: Tensor, targets: Tensor) -> dict[str, float]:
        """As `CosineHead.statistics`."""
        if self.loss.alpha < NEAR_ONE:
            return super().statistics(embeddings, targets)
        seen: list[Active] = []
        self._per_example(embeddings, targets, seen.append)
        (found,) = seen
        targets = targets.reshape(-1)
        own = (_unit(self._flat(embeddings)) * _unit(self.weight[targets])).sum(1)
        # of the others only an active one can be the nearest, or the target is; θ_j − τ = (b_j − 1)/(α − 1)
        gap = (found.base - 1) / (self.loss.alpha - 1)
        gap[(found.p == 0).index_fill(0, found.at, True)] = -torch.inf
        best = torch.segment_reduce(gap, "max", offsets=found.offsets, unsafe=True)
        own_gap = found.target_gap + self.loss.scale * (own - self.loss.target_cosine(own)).double()
        return {"accuracy": (own_gap >= best).double().mean().item(), **sparsity_figures(found)}

    def _flat(self, embeddings: Tensor) -> Tensor:
        return (embeddings.squeeze(1) if embeddings.ndim == 3 else embeddings).to(self.weight.dtype)

    def _per_example(self, embeddings: Tensor, targets: Tensor, watch) -> Tensor:
        embeddings, targets = self._flat(embeddings), targets.reshape(-1)
        check_labels(targets, embeddings.shape[:1], len(self.weight))
        if len(targets) == 0:
            raise ValueError("the batch is empty")
        self.loss.check_growth()
        with torch.autocast(embeddings.device.type, enabled=False):
            return _SparseLoss.apply(F.normalize(embeddings), self.weight, targets.long(), self.loss, watch)


class _SparseLoss(torch.autograd.Function):
    """Per-example loss of unit embeddings [N, D] and prototypes [C, D]; ∂loss/∂cosine = s (p − e_y)."""

    @staticmethod
    def forward(ctx, embeddings, weight, targets, loss, watch):
        own = weight.index_select(0, targets)
        cosine = (embeddings * _unit(own)).sum(1)
        value, slope = loss.target_cosine(cosine), loss.target_slope(cosine)
        found = scan_prototypes(embeddings, weight, targets, value, loss)
        if watch is not None:
            watch(found)
        residual = found.p.to(weight.dtype).index_add(0, found.at, -torch.ones_like(cosine)).mul_(loss.scale)
        if slope is not None:
            residual.index_copy_(0, found.at, residual.index_select(0, found.at) * slope)
        kept = residual.nonzero().squeeze(1)
        rows, residual = found.rows.index_select(0, kept), residual.index_select(0, kept)
        classes = found.flat.index_select(0, kept) % len(weight)
        ctx.save_for_backward(embeddings, weight, rows, classes, residual)
        return loss_of(found, loss.alpha, loss.log_q_target).to(weight.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        embeddings, weight, rows, classes, residual = ctx.saved_tensors
        residual = residual * grad.index_select(0, rows)
        return *prototype_gradients(embeddings, weight, rows, classes, residual), None, None, None


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1)
