"""The solve of a `ShardedHead`: every rank scans its own
prototypes for the samples of all, and they climb together."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from alpha_sv.functional.margins import target_cosine
from alpha_sv.functional.newton import Convergence, climb, row_offsets, row_sums
from alpha_sv.heads.cosine import unit
from alpha_sv.heads.scan import scan


class Solved(NamedTuple):
    """The batch of all ranks against the prototypes of this one:
    its candidates, a sample's target on one rank only."""

    embeddings: Tensor
    """[N, D], unit vectors of all ranks."""
    rows: Tensor
    """int64, ascending: the sample of each candidate."""
    classes: Tensor
    """int64, from the first of this rank."""
    first: Tensor
    """Whether it is its sample's target."""
    offsets: Tensor
    z: Tensor
    """(α − 1)·s·(cosine − level)."""
    t: Tensor
    """[N], the roots."""
    d: Tensor
    p: Tensor
    a: Tensor
    cosine: Tensor
    """[N], of the targets, and `value` with the margin in it."""
    value: Tensor
    target_gap: Tensor
    """[N], θ_y − τ."""


def solve(embeddings: Tensor, weight: Tensor, targets: Tensor, head) -> Solved:
    """What is active of the prototypes of this rank,
    for unit embeddings [n, D] and labels [n] of each rank."""
    loss, alpha = head.loss, head.loss.alpha
    embeddings, targets = head.gather(embeddings), head.gather(targets) - head.classes.start
    here = (targets >= 0) & (targets < len(weight))
    own = unit(weight.index_select(0, targets.clamp(0, len(weight) - 1)).to(embeddings.dtype))
    cosine = head.reduce(torch.where(here, (embeddings * own).sum(1), 0))
    value = target_cosine(cosine, margin=loss.margin, place=loss.place)
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
    return Solved(embeddings, rows, classes, first, offsets, z, t, d, p, a, cosine, value, target_gap)


def _climb_together(z, a, rows, offsets, alpha, head, dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The common root t [N], from 0, and d, p of this rank's candidates;
    all ranks see the same sums and stop alike."""

    def sums(mass: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        return head.reduce(torch.stack([row_sums(mass, offsets), row_sums(slope, offsets)])).unbind()

    def done(mass: Tensor) -> bool:
        return converged(torch.where(mass.isfinite(), mass, 1))  # a row that is NaN stops only itself

    converged, start = Convergence(dtype), z.new_zeros(len(offsets) - 1)
    climbed = climb(z, a, start, 1 / (alpha - 1), lambda t: t.index_select(0, rows), sums, done)
    if not converged.certified:
        raise RuntimeError("a bound was above the root: please report this batch")
    return climbed
