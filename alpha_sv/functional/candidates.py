"""Which classes may be above a level, without a look at each:
a pass over groups of them, then the few that stand out.

`alpha_sv.functional.solver` has the notation,
and the reason why a class below a lower bound can be left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.checks import asynchronous

GROUP_BITS = 6
GROUP = 1 << GROUP_BITS  # columns in a group: a length vector units like, and few enough to look through


def group_maxima(values: Tensor) -> Tensor:
    """Maximum of every GROUP consecutive columns,
    [N, ⌈C / GROUP⌉]; the last group may be smaller."""
    rows, classes = values.shape
    whole = classes // GROUP * GROUP
    maxima = values[:, :whole].unflatten(1, (-1, GROUP)).amax(2)
    return maxima if whole == classes else torch.cat([maxima, values[:, whole:].amax(1, keepdim=True)], 1)


def survivors(
    values: Tensor,
    level: Tensor,
    top: Tensor,
    slot: Tensor | None = None,
    target_value: Tensor | None = None,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows, flat positions and values of the classes above
    `level` [N, 1], C ≥ GROUP, and where the targets are.

    `top` are the group maxima. The targets, at flat positions `wanted` [N] in the groups
    `slot` [N, 1], are kept whatever their value, which `target_value` [N] replaces.
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
    if asynchronous(mask):
        return mask.view(-1).nonzero().squeeze(1)
    words = mask.view(torch.int64).view(-1).nonzero().squeeze(1)
    found = mask.view(-1, 8).index_select(0, words).view(-1).nonzero().squeeze(1)
    return words.index_select(0, found >> 3).mul_(8).add_(found & 7)
