"""Lower bounds of the threshold, and what lies above them: the cheap passes of the fast solver.

`alpha_sv.functional.active` has the notation and the three facts these rest on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GROUP_BITS = 6
GROUP = 1 << GROUP_BITS  # columns in a group: a length vector units like, and few enough to look through
BOUND_STEPS = 3
SLACK = 1e-5  # in units of 1/a_j, where one class alone has mass 1: above the rounding, below what adds candidates


def group_maxima(values: Tensor) -> Tensor:
    """Maximum of every GROUP consecutive columns, [N, ⌈C / GROUP⌉]; the last group may be smaller."""
    rows, classes = values.shape
    whole = classes // GROUP * GROUP
    maxima = values[:, :whole].unflatten(1, (-1, GROUP)).amax(2)
    return maxima if whole == classes else torch.cat([maxima, values[:, whole:].amax(1, keepdim=True)], 1)


def lower_bound(
    subset: Tensor, a: Tensor | None, kappa: float, alpha: float, largest_a: float | None = None
) -> tuple[Tensor, Tensor]:
    """(shift, bound), each [N, 1]: the root over all classes is at least κ·shift + bound.

    `subset` [N, T] holds values (z = κ·value) of some of the classes, `a` their weights (None: all one), of which
    `largest_a` is the largest, if known.
    """
    shift = subset.amax(1, keepdim=True)
    z, slack = (subset - shift).mul_(kappa), SLACK
    if a is None:  # one class alone has mass 1 at z_j − 1/a_j
        bound = torch.full_like(shift, -1.0)
    else:
        bound = (z - a.reciprocal()).amax(1, keepdim=True)
        slack = SLACK / (largest_a or a.amax(1, keepdim=True))
        z.mul_(a)
    beta = math.ceil(1 / (alpha - 1) - 1e-9)  # fact 3
    for _ in range(BOUND_STEPS):
        factor, power = powers(distance(z, a, bound), beta)
        slope = factor if a is None else factor * a
        bound = newton_step(bound, power.sum(1, keepdim=True), slope.sum(1, keepdim=True), 1 + 1 / beta)
    return shift, bound.sub_(slack)


def distance(z_weighted: Tensor, a: Tensor | None, t: Tensor) -> Tensor:
    """d = a (z − t)₊, given a·z."""
    return (z_weighted - t if a is None else torch.addcmul(z_weighted, a, t, value=-1)).clamp_(min=0)


def powers(d: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """(d^{β−1}, d^β), the first 0 where d = 0."""
    if beta == 1:
        return (d > 0).to(d.dtype), d
    factor = d if beta == 2 else d.pow(beta - 1)
    return factor, factor * d


def newton_step(t: Tensor, mass: Tensor, slope: Tensor, alpha: float) -> Tensor:
    """Newton's step on F^{1/β} = 1; `slope` is Σ a d^{β−1}."""
    return torch.addcdiv(t, mass - mass.pow(2 - alpha), slope)


def survivors(
    values: Tensor,
    level: Tensor,
    top: Tensor,
    slot: Tensor | None = None,
    target_value: Tensor | None = None,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows, flat positions and values of the classes above `level` [N, 1], C ≥ GROUP, and where the targets are.

    `top` are the group maxima. The targets, at flat positions `wanted` [N] in the groups `slot` [N, 1], are kept
    whatever their value, which `target_value` [N] replaces.
    """
    classes, groups = values.shape[1], top.shape[1]
    mask = top > level
    if slot is not None:
        mask.scatter_(1, slot, True)
    pairs = mask.view(-1).nonzero().squeeze(1)
    row = torch.div(pairs, groups, rounding_mode="floor")
    first = torch.add(pairs * GROUP, row, alpha=classes - groups * GROUP)
    start = first
    if classes % GROUP:  # a smaller last group is looked at through a window that reaches back into the one before
        start = torch.minimum(first, (row * classes).add_(classes - GROUP))
    members = values.reshape(-1).unfold(0, GROUP, 1).index_select(0, start)
    above = members > level.view(-1).index_select(0, row).unsqueeze(1)
    at = None
    if slot is not None:
        group = torch.searchsorted(first, wanted, right=True).sub_(1)
        place = (wanted - start.index_select(0, group)).add_(group, alpha=GROUP)
        members.view(-1).index_copy_(0, place, target_value)
        above.view(-1).index_fill_(0, place, True)
    found = _true_positions(above)
    if slot is not None:
        at = torch.searchsorted(found, place)
    number = found >> GROUP_BITS
    flat = start.index_select(0, number).add_(found & (GROUP - 1))
    kept = members.view(-1).index_select(0, found)
    if classes % GROUP:
        kept.masked_fill_(flat < first.index_select(0, number), -torch.inf)  # of the group before, which has them too
    return row.index_select(0, number), flat, kept, at


def _true_positions(mask: Tensor) -> Tensor:
    """Flat positions where `mask` [m, GROUP] is True; on the CPU read eight to the word first."""
    if mask.is_cuda:
        return mask.view(-1).nonzero().squeeze(1)
    words = mask.view(torch.int64).view(-1).nonzero().squeeze(1)
    found = mask.view(-1, 8).index_select(0, words).view(-1).nonzero().squeeze(1)
    return words.index_select(0, found >> 3).mul_(8).add_(found & 7)
