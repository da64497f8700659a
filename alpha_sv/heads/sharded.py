"""SparseHead with its prototypes split over the ranks of torch.distributed: no rank sees another's prototypes.

Every rank embeds its own samples. The embeddings and labels of all ranks are gathered; each rank scans its prototypes
for all of them (`alpha_sv.heads.scan`) and keeps its candidates. The maximum over ranks of their lower bounds is still
a lower bound of the common root, from which all climb together, with one all-reduce of two scalars a row (mass and
slope) in each step. docs/heads.md counts the bytes.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alpha_sv.functional.checks import check_batch, check_labels, check_third
from alpha_sv.functional.climb import Convergence, climb, row_offsets, row_sums
from alpha_sv.functional.fenchel_young import closed_form
from alpha_sv.functional.margins import target_cosine, target_slope
from alpha_sv.functional.plain import NEAR_ONE
from alpha_sv.heads.cosine import built, check_width, unit, working_dtype
from alpha_sv.heads.optim import announce_sparse_gradient
from alpha_sv.heads.scan import scan
from alpha_sv.heads.sparse import prototype_gradients, refuse_misuse, refuse_second_derivatives
from alpha_sv.losses import MarginLoss


def shard_range(num_classes: int, ranks: int, rank: int) -> range:
    """Classes of one rank: contiguous, the first ranks have one more if they do not divide.

    >>> [len(shard_range(10, 3, rank)) for rank in range(3)]
    [4, 3, 3]
    """
    size, more = divmod(num_classes, ranks)
    start = rank * size + min(rank, more)
    return range(start, start + size + (rank < more))


class ShardedHead(nn.Module):
    """Equal to `SparseHead` over all samples of all ranks, with C/ranks prototypes on each.

    `forward` returns the mean over this rank's samples. Averaged over ranks that is the loss of the whole batch, and
    the gradients are those of this average: the embeddings' as DistributedDataParallel expects them (it divides the
    embedder's by the number of ranks), the prototypes' complete. So keep this head out of DistributedDataParallel.

    Parameters
    ----------
    embedding_dim : int
        D.
    num_classes : int
        C, over all ranks; at least the number of ranks.
    loss : MarginLoss, optional
        With 1.02 ≤ α ≤ 2. Default QMargin().
    group : ProcessGroup, optional
        The ranks to split over; default all.

    Attributes
    ----------
    weight : Parameter [C of this rank, D]
        Prototypes of the classes `self.classes`.

    Raises
    ------
    ValueError
        An α out of range, labels outside [0, C), batches of different size on the ranks.
    """

    def __init__(self, embedding_dim: int, num_classes: int, loss: MarginLoss | None = None, group=None):
        super().__init__()
        if not dist.is_initialized():
            raise ValueError("ShardedHead needs torch.distributed: start with torchrun and init_process_group first")
        self.loss, self.group, self.num_classes = built(loss), group, num_classes
        self.ranks, self.rank = dist.get_world_size(group), dist.get_rank(group)
        if num_classes < self.ranks:
            raise ValueError(f"{num_classes} classes cannot be split over {self.ranks} ranks; use SparseHead")
        self.classes = shard_range(num_classes, self.ranks, self.rank)
        self.weight = nn.Parameter(torch.randn(len(self.classes), embedding_dim) / embedding_dim**0.5)
        announce_sparse_gradient(self.weight)

    @torch.compiler.disable  # the work depends on the data
    def forward(self, embeddings: Tensor, targets: Tensor, length: Tensor | None = None) -> Tensor:
        """Mean loss of this rank's embeddings [n, D] with labels [n] in [0, C); every rank must call it."""
        if not NEAR_ONE <= self.loss.alpha <= 2:
            raise ValueError(f"ShardedHead solves for {NEAR_ONE} <= alpha <= 2, got {self.loss.alpha}; use CosineHead")
        problem, count = None, -1
        try:
            check_third(length)
            refuse_misuse(self, embeddings)
            embeddings, targets = check_batch(embeddings, targets, "embeddings")
            check_width(embeddings, self.weight)
            check_labels(targets.cpu(), embeddings.shape[:1], self.num_classes)
            self.loss.with_margin()
            count = len(targets)
        except ValueError as error:
            problem = error  # raised below: a rank that stopped alone would leave the others waiting for it
        sizes = self.gather(torch.tensor([count], device=self.weight.device)).tolist()
        if problem:
            raise problem
        if -1 in sizes:
            raise ValueError(f"rank {sizes.index(-1)} has labels or embeddings that do not fit, see its message")
        if len(set(sizes)) > 1 or 0 in sizes:
            raise ValueError(f"the ranks have batches of different size, or none, {sizes}: drop the last of an epoch")
        embeddings = embeddings.to(working_dtype(self.weight))
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.loss.reduce(_ShardedLoss.apply(unit(embeddings), self.weight, targets.long(), self))

    def gather(self, values: Tensor) -> Tensor:
        """[n, …] of every rank → [ranks·n, …]."""
        parts = [torch.empty_like(values) for _ in range(self.ranks)]
        dist.all_gather(parts, values.contiguous(), group=self.group)
        return torch.cat(parts)

    def reduce(self, values: Tensor, op=dist.ReduceOp.SUM) -> Tensor:
        dist.all_reduce(values, op=op, group=self.group)
        return values


class _ShardedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, embeddings, weight, targets, head):
        loss, alpha, count = head.loss, head.loss.alpha, len(embeddings)
        embeddings, targets = head.gather(embeddings), head.gather(targets) - head.classes.start
        here = (targets >= 0) & (targets < len(weight))
        own = unit(weight.index_select(0, targets.clamp(0, len(weight) - 1)).to(embeddings.dtype))
        cosine = head.reduce(torch.where(here, (embeddings * own).sum(1), 0))
        where = {"margin": loss.margin, "place": loss.place}
        value, slope = target_cosine(cosine, **where), target_slope(cosine, **where)
        pool = scan(embeddings, weight, targets, value, loss)
        level = pool.level.view(-1).double()
        level = head.reduce(torch.where(level.isnan(), torch.inf, level), dist.ReduceOp.MAX)
        level = torch.where(level == torch.inf, torch.nan, level)  # a maximum over ranks may or may not be NaN itself

        # this rank's candidates; a row's target is its first entry, and stays on the rank that has it
        kappa, a_target = (alpha - 1) * loss.scale, math.exp((alpha - 1) * loss.log_q_target)
        first = torch.zeros_like(pool.cls, dtype=torch.bool).index_fill_(0, pool.kept.at, True)
        rows = pool.kept.rows
        stay = torch.where(first, here.index_select(0, rows), pool.value > level.index_select(0, rows))
        stay = stay.nonzero().squeeze(1)
        rows, classes, first = rows[stay], pool.cls[stay], first[stay]
        offsets = row_offsets(rows, len(targets))
        a = torch.ones_like(rows, dtype=torch.float64).masked_fill_(first, a_target)
        z = (pool.value[stay] - level.index_select(0, rows)).mul_(kappa)
        t, d, p = _climb_together(z, a, rows, offsets, alpha, head, embeddings.dtype)

        target_gap = ((value - level).mul_(kappa) - t - 1).div_(alpha - 1)
        spread = head.reduce(row_sums((d / a - 1).mul_(p), offsets))
        losses = closed_form(spread, target_gap, alpha, loss.log_q_target).to(embeddings.dtype)

        residual = p.to(embeddings.dtype).sub(first.to(embeddings.dtype)).mul_(loss.scale)
        if slope is not None:
            residual = torch.where(first, residual * slope.index_select(0, rows), residual)
        kept = residual.nonzero().squeeze(1)
        ctx.save_for_backward(embeddings, weight, *(x.index_select(0, kept) for x in (rows, classes, residual)))
        ctx.head, ctx.mine = head, slice(head.rank * count, (head.rank + 1) * count)
        return losses[ctx.mine]

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives("ShardedHead")
        embeddings, weight, rows, classes, residual = ctx.saved_tensors
        residual = residual * ctx.head.gather(grad).index_select(0, rows)
        grad_embeddings, grad_weight = prototype_gradients(embeddings, weight, rows, classes, residual)
        # of the average over ranks
        return ctx.head.reduce(grad_embeddings)[ctx.mine], grad_weight * (1 / ctx.head.ranks), None, None


def _climb_together(z, a, rows, offsets, alpha, head, dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The common root t [N], from 0, and d, p of this rank's candidates; all ranks see the same sums and stop alike."""

    def sums(mass: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        return head.reduce(torch.stack([row_sums(mass, offsets), row_sums(slope, offsets)])).unbind()

    def done(mass: Tensor) -> bool:
        return converged(torch.where(mass.isfinite(), mass, 1))  # a row that is NaN stops only itself

    converged, start = Convergence(dtype), z.new_zeros(len(offsets) - 1)
    climbed = climb(z, a, start, 1 / (alpha - 1), lambda t: t.index_select(0, rows), sums, done)
    if not converged.certified:
        raise RuntimeError("a bound was above the root: please report this batch")
    return climbed
