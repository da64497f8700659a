"""SparseHead with its prototypes split over the ranks
of torch.distributed: no rank sees another's prototypes.

Every rank embeds its own samples. The embeddings and labels of all ranks are gathered; each rank
scans its prototypes for all of them (`alpha_sv.heads.scan`) and keeps its candidates. The
maximum over ranks of their lower bounds is still a lower bound of the common root, from which
all climb together, with one all-reduce of two scalars a row (mass and slope) in each step.
docs/heads.md counts the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from alpha_sv.functional.checks import check_batch, check_labels, check_third
from alpha_sv.functional.fenchel_young import closed_form
from alpha_sv.functional.margins import target_slope
from alpha_sv.functional.newton import row_sums
from alpha_sv.functional.plain import NEAR_ONE
from alpha_sv.heads.cosine import built, check_width, initial_prototypes, unit, working_dtype
from alpha_sv.heads.optim import announce_sparse_gradient
from alpha_sv.heads.shard_solver import Solved, solve
from alpha_sv.heads.sparse import prototype_gradients, refuse_misuse, refuse_second_derivatives
from alpha_sv.losses import MarginLoss
from alpha_sv.monitor import figures_of_rows


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

    `forward` returns the mean over this rank's samples. Averaged over ranks that is the loss of the
    whole batch, and the gradients are those of this average: the embeddings' as
    DistributedDataParallel expects them (it divides the embedder's by the number of ranks), the
    prototypes' complete. So keep this head out of DistributedDataParallel.

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
        state = [torch.get_rng_state()]  # of the first rank, so that the prototypes are those of a head on one machine
        dist.broadcast_object_list(state, dist.get_global_rank(group or dist.group.WORLD, 0), group=group)
        self.weight = nn.Parameter(initial_prototypes(num_classes, embedding_dim, self.classes, state[0]))
        announce_sparse_gradient(self.weight)
        self.loss.monitor.warned = self.rank > 0  # all see the same figures, and one says so

    @torch.compiler.disable  # the work depends on the data
    def forward(self, embeddings: Tensor, targets: Tensor, length: Tensor | None = None) -> Tensor:
        """Mean loss of this rank's embeddings [n, D] with
        labels [n] in [0, C); every rank must call it."""
        embeddings, targets = self._checked(embeddings, targets, length)
        watched = self.loss.watch() is not None
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.loss.reduce(_ShardedLoss.apply(unit(embeddings), self.weight, targets, self, watched))

    @torch.no_grad()
    def statistics(self, embeddings: Tensor, targets: Tensor) -> dict[str, float]:
        """As `CosineHead.statistics`, over the samples of all ranks;
        every rank must call it, and each returns it."""
        embeddings, targets = self._checked(embeddings, targets)
        with torch.autocast(embeddings.device.type, enabled=False):
            found = solve(unit(embeddings), self.weight, targets, self)
        # of the others only an active one can be the nearest,
        # or the target is; θ_j − τ = (z_j − t − 1)/(α − 1)
        gap = (found.z - found.t.index_select(0, found.rows) - 1) / (self.loss.alpha - 1)
        gap = gap.masked_fill_((found.p == 0) | found.first, -torch.inf)
        best = torch.full_like(found.t, -torch.inf).scatter_reduce_(0, found.rows, gap, "amax")
        best = self.reduce(best, dist.ReduceOp.MAX)
        own_gap = found.target_gap + self.loss.scale * (found.cosine - found.value).double()
        return {"accuracy": (own_gap >= best).double().mean().item(), **self.figures(found)}

    def figures(self, found: Solved) -> dict[str, float]:
        """`alpha_sv.monitor.sparsity_figures` over all ranks."""
        own = (found.p > 0, torch.where(found.first, found.p, 0), torch.ones_like(found.p))
        sums = self.reduce(torch.stack([row_sums(x.double(), found.offsets) for x in own]))
        return figures_of_rows(sums[0], sums[1], sums[2].sum())

    def _checked(self, embeddings: Tensor, targets: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings [n, D] to compute with and labels [n];
        if they do not fit on one rank, all raise."""
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
        return embeddings.to(working_dtype(self.weight)), targets.long()

    def own_samples(self, batches: Iterable[tuple[Tensor, Tensor]], rounds: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the batches of all ranks the samples of this rank's classes:
        embeddings [m, D], rows of `weight` [m].

        Every rank must run through it, with as many `rounds`: the most batches (embeddings [n, D],
        labels [n], any n) that one of them has. If one fails, all raise.
        """
        batches, device = iter(batches), self.weight.device
        nothing = torch.empty(0, self.weight.shape[1]), torch.empty(0, dtype=torch.int64)
        for _ in range(rounds):
            problem, (embeddings, labels) = None, nothing
            try:
                embeddings, labels = next(batches, nothing)
                count = len(labels)
            except Exception as error:
                problem, count = error, -1
            sizes = self.gather(torch.tensor([count], device=device)).tolist()
            if problem:
                raise problem
            if -1 in sizes:
                raise ValueError(f"rank {sizes.index(-1)} could not embed a batch, see its message")
            padding = max(sizes) - count
            labels = self.gather(F.pad(labels.to(device).long(), (0, padding), value=-1))
            embeddings = embeddings.to(device, working_dtype(self.weight))
            embeddings = self.gather(F.pad(embeddings, (0, 0, 0, padding)))
            rows = labels - self.classes.start
            own = (labels >= 0) & (rows >= 0) & (rows < len(self.weight))
            if own.any():
                yield embeddings[own], rows[own]

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """As `torch.nn.utils.clip_grad_norm_`, with the prototypes of all ranks;
        returns their norm. Every rank must call it, also one whose gradient is None.
        """
        grad = self.weight.grad
        if grad is not None and grad.is_sparse:
            grad = self.weight.grad = grad.coalesce()
        values = self.weight.new_zeros(1) if grad is None else grad.values() if grad.is_sparse else grad
        norm = self.reduce(values.double().square().sum()).sqrt()
        values.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0).to(values.dtype))
        return norm

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
    def forward(ctx, embeddings, weight, targets, head, watched):
        loss, count = head.loss, len(embeddings)
        found = solve(embeddings, weight, targets, head)
        if watched:
            loss.monitor.note(head.figures(found))
        spread = head.reduce(row_sums((found.d / found.a - 1).mul_(found.p), found.offsets))
        losses = closed_form(spread, found.target_gap, loss.alpha, loss.log_q_target).to(embeddings.dtype)
        residual = found.p.to(embeddings.dtype).sub(found.first.to(embeddings.dtype)).mul_(loss.scale)
        slope = target_slope(found.cosine, margin=loss.margin, place=loss.place)
        if slope is not None:
            residual = torch.where(found.first, residual * slope.index_select(0, found.rows), residual)
        kept = residual.nonzero().squeeze(1)
        parts = (x.index_select(0, kept) for x in (found.rows, found.classes, residual))
        ctx.save_for_backward(found.embeddings, weight, *parts)
        ctx.head, ctx.mine = head, slice(head.rank * count, (head.rank + 1) * count)
        return losses[ctx.mine]

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives("ShardedHead")
        embeddings, weight, rows, classes, residual = ctx.saved_tensors
        residual = residual * ctx.head.gather(grad).index_select(0, rows)
        grad_embeddings, grad_weight = prototype_gradients(embeddings, weight, rows, classes, residual)
        # of the average over ranks
        return ctx.head.reduce(grad_embeddings)[ctx.mine], grad_weight * (1 / ctx.head.ranks), None, None, None
