"""Prototypes and an α-divergence loss for very many speakers:
exact, in bounded memory, with a row-sparse gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alpha_sv.functional.checks import check_batch, check_labels, check_third, transformed
from alpha_sv.functional.fenchel_young import loss_of
from alpha_sv.functional.margins import target_cosine, target_slope
from alpha_sv.functional.plain import NEAR_ONE
from alpha_sv.functional.solver import Active
from alpha_sv.heads.cosine import TINY, CosineHead, check_width, unit, working_dtype
from alpha_sv.heads.optim import announce_sparse_gradient
from alpha_sv.heads.scan import scan_prototypes
from alpha_sv.losses import MarginLoss
from alpha_sv.monitor import sparsity_figures

_BLOCK = 8192  # (sample, speaker) pairs, or prototypes, gathered at a time


class SparseHead(CosineHead):
    """As `CosineHead`, value and gradients, without ever holding the cosines of all speakers.

    The prototypes are scanned in chunks, each class is kept only while it may be active
    (`alpha_sv.functional.newton` has the proof), and the gradient of the prototypes is a sparse
    tensor with the rows of the speakers that were active for some sample: train them with
    `alpha_sv.heads.PrototypeSGD`. With α = 1 (and below 1.02), where every speaker is active, it is
    the dense head, cosines, memory and gradient included.

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

    def __init__(self, embedding_dim: int, num_classes: int, loss: MarginLoss | None = None):
        super().__init__(embedding_dim, num_classes, loss)
        if self.loss.alpha >= NEAR_ONE:
            announce_sparse_gradient(self.weight)

    @torch.compiler.disable  # the work depends on the data
    def forward(self, embeddings: Tensor, targets: Tensor, length: Tensor | None = None) -> Tensor:
        """Mean loss of embeddings [N, D] (or [N, 1, D]) with
        labels [N] (or [N, 1]); `length` as in the losses.

        Raises
        ------
        ValueError
            Labels outside [0, C), embeddings of another dimension, the mean of an empty
            batch; inside DistributedDataParallel or a transform of `torch.func`, or with
            parametrised prototypes.
        """
        if self.loss.alpha < NEAR_ONE:
            return super().forward(embeddings, targets, length)
        check_third(length)
        refuse_misuse(self, embeddings)
        return self.loss.reduce(self._per_example(embeddings, targets, self.loss.watch()))

    @torch.no_grad()
    def statistics(self, embeddings: Tensor, targets: Tensor) -> dict[str, float]:
        """As `CosineHead.statistics`."""
        if self.loss.alpha < NEAR_ONE:
            return super().statistics(embeddings, targets)
        if not len(targets):
            raise ValueError("the batch is empty: it has no statistics")
        seen: list[Active] = []
        self._per_example(embeddings, targets, seen.append)
        (found,) = seen
        embeddings, targets = check_batch(embeddings, targets, "embeddings")
        dtype = working_dtype(self.weight)
        own = (unit(embeddings.to(dtype)) * unit(self.weight[targets].to(dtype))).sum(1)
        # of the others only an active one can be the nearest,
        # or the target is; θ_j − τ = (b_j − 1)/(α − 1)
        gap = (found.base - 1) / (self.loss.alpha - 1)
        gap[(found.p == 0).index_fill(0, found.at, True)] = -torch.inf
        best = torch.segment_reduce(gap, "max", offsets=found.offsets, unsafe=True)
        with_margin = target_cosine(own, margin=self.loss.margin, place=self.loss.place)
        own_gap = found.target_gap + self.loss.scale * (own - with_margin).double()
        return {"accuracy": (own_gap >= best).double().mean().item(), **sparsity_figures(found)}

    def _per_example(self, embeddings: Tensor, targets: Tensor, watch) -> Tensor:
        embeddings, targets = check_batch(embeddings, targets, "embeddings")
        check_width(embeddings, self.weight)
        check_labels(targets, embeddings.shape[:1], len(self.weight))
        how = self.loss.with_margin()
        embeddings = embeddings.to(working_dtype(self.weight))
        if not len(targets):
            return embeddings.sum(1)
        with torch.autocast(embeddings.device.type, enabled=False):
            return _SparseLoss.apply(unit(embeddings), self.weight, targets.long(), self.loss, how, watch)


class _SparseLoss(torch.autograd.Function):
    """Per-example loss of unit embeddings [N, D] and prototypes [C, D];
    ∂loss/∂cosine = s (p − e_y)."""

    @staticmethod
    def forward(ctx, embeddings, weight, targets, loss, how, watch):
        own = weight.index_select(0, targets).to(embeddings.dtype)
        cosine = (embeddings * unit(own)).sum(1)
        where = {"margin": how["margin"], "place": how["place"]}
        value, slope = target_cosine(cosine, **where), target_slope(cosine, **where)
        found = scan_prototypes(embeddings, weight, targets, value, loss)
        if watch is not None:
            watch(found)
        residual = found.p.to(embeddings.dtype).index_add(0, found.at, -torch.ones_like(cosine)).mul_(loss.scale)
        if slope is not None:
            residual.index_copy_(0, found.at, residual.index_select(0, found.at) * slope)
        kept = residual.nonzero().squeeze(1)
        rows, residual = found.rows.index_select(0, kept), residual.index_select(0, kept)
        classes = found.flat.index_select(0, kept) % len(weight)
        ctx.save_for_backward(embeddings, weight, rows, classes, residual)
        return loss_of(found, loss.alpha, loss.log_q_target).to(embeddings.dtype)

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives("SparseHead")
        embeddings, weight, rows, classes, residual = ctx.saved_tensors
        residual = residual * grad.index_select(0, rows)
        return *prototype_gradients(embeddings, weight, rows, classes, residual), *[None] * 4


def refuse_second_derivatives(name: str) -> None:
    """In a backward pass: refuse to be a step of another derivative,
    which would silently count as zero."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} has first derivatives only, and this backward pass was asked for more (create_graph=True): "
            "use CosineHead, which has all of them"
        )


def refuse_misuse(head: nn.Module, embeddings: Tensor) -> None:
    """Say what to do where a sparse gradient would end
    in an error of torch's internals, or in none."""
    name, weight = type(head).__name__, head.weight
    if transformed(embeddings, weight):
        raise ValueError(f"{name} does not work inside torch.func or forward-mode derivatives: use CosineHead")
    if head.loss.inter_top_k:
        raise ValueError(f"{name} has no inter-top-K penalty, which needs all cosines: use CosineHead or inter_top_k=0")
    if not weight.requires_grad:
        return
    if not weight.is_leaf:
        raise ValueError(
            f"{name}.weight is computed from other parameters (weight_norm or another parametrization), which do not "
            "take a sparse gradient. Prototypes are normalised anyway, so leave it out; or use CosineHead"
        )
    ddp = getattr(DistributedDataParallel, "_active_ddp_module", None)  # set while it runs forward
    names = dict(ddp.module.named_parameters()) if ddp is not None else {}
    if any(weight is parameter and key not in ddp.parameters_to_ignore for key, parameter in names.items()):
        raise ValueError(
            f"{name} is inside DistributedDataParallel, which cannot average its sparse gradient. Wrap the embedder "
            "alone and keep the head outside: ShardedHead splits the prototypes over the ranks; or use CosineHead"
        )
    announce_sparse_gradient(weight)


def prototype_gradients(
    embeddings: Tensor, weight: Tensor, rows: Tensor, classes: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor]:
    """With cosines c_ij = e_i·ŵ_j, ŵ = w/|w|,
    and g_ij = ∂loss/∂c_ij on the n pairs (rows, classes), zero elsewhere,

        ∂e_i = Σ_j g_ij ŵ_j        and        ∂w_j = (I − ŵ_j ŵ_jᵀ) Σ_i g_ij e_i / |w_j|.

    Parameters
    ----------
    embeddings : Tensor [N, D]
        Unit vectors.
    weight : Tensor [C, D]
        Prototypes of any length.
    rows, classes : int64 [n]
        The pairs.
    residual : Tensor [n]
        g_ij.

    Returns
    -------
    (Tensor [N, D], sparse Tensor [C, D])
        The second with one row for each class that occurs.
    """
    touched, place = classes.unique(return_inverse=True)
    grad_embeddings = torch.zeros_like(embeddings)
    pulled = embeddings.new_zeros(len(touched), embeddings.shape[1])
    for row, cls, at, g in zip(*(x.split(_BLOCK) for x in (rows, classes, place, residual)), strict=True):
        g = g.unsqueeze(1)
        grad_embeddings.index_add_(0, row, unit(weight.index_select(0, cls).to(g)).mul_(g))
        pulled.index_add_(0, at, embeddings.index_select(0, row).mul_(g))
    for start in range(0, len(touched), _BLOCK):
        block = pulled[start : start + _BLOCK]
        own = weight.index_select(0, touched[start : start + _BLOCK]).to(block)
        norm = torch.linalg.vector_norm(own, dim=1, keepdim=True)
        block.mul_(norm > TINY)  # no direction, no gradient
        own.div_(norm.clamp_(min=TINY))
        block.addcmul_(own, (own * block).sum(1, keepdim=True), value=-1).div_(norm)
    grad_weight = torch.sparse_coo_tensor(
        touched.unsqueeze(0), pulled.to(weight.dtype), weight.shape, is_coalesced=True, check_invariants=False
    )
    return grad_embeddings, grad_weight
