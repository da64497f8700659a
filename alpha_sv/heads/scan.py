"""One pass over the prototypes in chunks that finds the active classes of a batch, exactly.

A class once below a lower bound of the threshold stays inactive whatever else is seen, so only
survivors are carried from chunk to chunk, and the bound grows with them: after the 1st, 2nd, 4th,
8th … chunk it is raised over all survivors so far. One chunk of cosines is all that is ever held.

Where the processor multiplies bfloat16 natively, the chunks are looked at in it first. With unit
roundoff u = 2⁻⁸, the roundings of the two factors and of the result move a cosine by at most 3u
(Cauchy-Schwarz), so what is more than 4u below the level is inactive, and only the survivors'
cosines are computed in full: as exact, and far faster.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alpha_sv.functional.candidates import GROUP, group_maxima, survivors
from alpha_sv.functional.checks import asynchronous
from alpha_sv.functional.newton import Candidates, lower_bound, raise_bound, rounded_down, row_offsets
from alpha_sv.functional.solver import COUNTS, Active, fell_back, find_active, finish
from alpha_sv.heads.cosine import TINY, unit
from alpha_sv.losses import MarginLoss

CPU_CELLS, GPU_CELLS = 1 << 21, 1 << 24  # cosines in a chunk: 8 MB stay in a shared cache, 64 MB fill a GPU
_PLAIN_CELLS = 1 << 24
_ROUGH_ERROR = 4 * 2.0**-8
_BLOCK = 8192


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether this processor multiplies bfloat16 natively;
    CUDA is left to float32 until someone has measured it."""
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def chunk_size(rows: int, weight: Tensor) -> int:
    """Prototypes in a chunk for a batch of `rows`, a multiple of GROUP."""
    cells, classes = GPU_CELLS if asynchronous(weight) else CPU_CELLS, len(weight)
    return min(max(cells // max(rows, 1) // GROUP, 4), -(-classes // GROUP)) * GROUP


def scan_prototypes(embeddings: Tensor, weight: Tensor, targets: Tensor, value: Tensor, loss: MarginLoss) -> Active:
    """Active classes of unit embeddings [N, D] against prototypes [C, D] of any length.

    Parameters
    ----------
    targets : int64 [N]
        Labels.
    value : Tensor [N]
        Cosine of each target, with the margin in it.
    loss : MarginLoss
        With α > 1.
    """
    COUNTS["solves"] += 1
    pool = scan(embeddings, weight, targets, value, loss)
    found = finish(pool.kept, pool.bound, loss.alpha, embeddings.dtype)
    if found is None:
        fell_back("a batch of a head, now against all prototypes at once,")
        found = _row_by_row(embeddings, weight, targets, value, loss)
    return found


def scan(embeddings: Tensor, weight: Tensor, targets: Tensor, value: Tensor, loss: MarginLoss) -> Pool:
    """The classes that may be active. Targets outside [0,
    C) are of other prototypes, but count for the bound."""
    if embeddings.dtype == torch.float32 and has_fast_bfloat16(weight.device):
        pool = _scan(embeddings, weight, targets, value, loss, embeddings.bfloat16())
        if pool.largest_error <= _ROUGH_ERROR:
            return pool
        fell_back("the bfloat16 look at the prototypes, by rounding further off than it should,")
    return _scan(embeddings, weight, targets, value, loss)


def _scan(embeddings, weight, targets, value, loss, rough: Tensor | None = None) -> Pool:
    pool, rows = Pool(targets, value, len(weight), loss), len(targets)
    step = chunk_size(rows, weight)
    buffer = embeddings.new_empty(rows * step)
    product = None if rough is None else rough.new_empty(rows * step)
    chunks = range(0, len(weight), step)
    for number, start in enumerate(chunks, start=1):
        block = weight[start : start + step].to(embeddings.dtype)
        cosines = buffer[: rows * len(block)].view(rows, -1)
        norm = torch.linalg.vector_norm(block, dim=1)
        inverse = norm.reciprocal().masked_fill_(norm <= TINY, 0)
        if rough is None:
            torch.mm(embeddings, block.T, out=cosines).mul_(inverse)
            pool.add(cosines, start)
        else:
            raw = torch.mm(rough, block.bfloat16().T, out=product[: rows * len(block)].view(rows, -1))
            torch.mul(raw, inverse, out=cosines)
            pool.add(cosines, start, functools.partial(_cosines_of_pairs, embeddings, block, inverse))
        if number & (number - 1) == 0 or number == len(chunks):
            pool.settle()
    return pool


def _cosines_of_pairs(embeddings: Tensor, block: Tensor, inverse: Tensor, row: Tensor, column: Tensor) -> Tensor:
    parts = [
        (embeddings.index_select(0, r) * block.index_select(0, c)).sum(1).mul_(inverse.index_select(0, c))
        for r, c in zip(row.split(_BLOCK), column.split(_BLOCK), strict=True)
    ]
    return torch.cat(parts)


class Pool:
    """The survivors so far, and the level [N, 1] of cosine that a class must exceed to be active.

    After `settle`, `kept` are the candidates with their classes `cls` and cosines `value`,
    the target of a row first, and κ·`shift` + `bound` is a lower bound of each row's root.
    """

    def __init__(self, targets: Tensor, value: Tensor, classes: int, loss: MarginLoss):
        self.targets, self.target_value, self.classes = targets.unsqueeze(1), value.unsqueeze(1), classes
        self.alpha, self.kappa = loss.alpha, (loss.alpha - 1) * loss.scale
        self.a_target = math.exp((loss.alpha - 1) * loss.log_q_target)
        self.level, self.largest_error = None, 0.0
        # the targets survive whatever their cosine
        first = torch.arange(len(targets), device=targets.device)
        self._parts = [(first, targets, value)]

    def add(self, cosines: Tensor, start: int, exact: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        """Take in the cosines [N, n] of prototypes start … start + n − 1; they are overwritten.

        If they are rough, off by up to _ROUGH_ERROR, `exact` computes those of (rows, columns).
        """
        rows, count = cosines.shape
        error = 0.0 if exact is None else _ROUGH_ERROR
        place = self.targets - start
        inside = (place >= 0) & (place < count)
        place = place.clamp_(0, count - 1)
        cosines.scatter_(1, place, torch.where(inside, -torch.inf, cosines.gather(1, place)))  # it has its own entry
        grouped = count >= GROUP
        top = group_maxima(cosines) if grouped else cosines
        if self.level is None:
            a = torch.ones_like(top[:, :1]).expand(rows, top.shape[1] + 1).contiguous()
            a[:, -1] = self.a_target
            subset = torch.cat([top - error, self.target_value], 1)
            self.shift, bound = lower_bound(subset, a, self.kappa, self.alpha, 1.0)
            self.level = rounded_down(torch.add(self.shift, bound, alpha=1 / self.kappa))
        level = self.level - error  # what is further below than a rough cosine can be off is inactive for certain
        if grouped:
            row, flat, kept, _ = survivors(cosines, level, top)
        else:
            flat = (cosines > level).view(-1).nonzero().squeeze(1)
            row, kept = torch.div(flat, count, rounding_mode="floor"), cosines.view(-1).index_select(0, flat)
        column = flat - row * count
        if exact is not None and len(row):
            value = torch.where(kept == -torch.inf, kept, exact(row, column))
            off = (value - kept).abs().nan_to_num_(0.0)  # −inf − −inf
            self.largest_error, kept = max(self.largest_error, float(off.amax())), value
        self._parts.append((row, column + start, kept))

    def settle(self) -> None:
        """Raise the bound over all survivors, and drop those that are not."""
        row, cls, value = (torch.cat(part) for part in zip(*self._parts, strict=True))
        own = torch.arange(len(row), device=row.device) < len(self.targets)
        stay = ((value > self.level.view(-1).index_select(0, row)) | own).nonzero().squeeze(1)
        row, order = row.index_select(0, stay).sort(stable=True)  # stable: a row's target comes first
        stay = stay.index_select(0, order)
        cls, value = self.cls, self.value = cls.index_select(0, stay), value.index_select(0, stay)
        offsets = row_offsets(row, len(self.targets))
        at, shift = offsets[:-1], self.shift.view(-1).double()
        z = (value - shift.index_select(0, row)).mul_(self.kappa)
        a = None if self.a_target == 1.0 else torch.ones_like(z).index_fill_(0, at, self.a_target)
        self.kept = Candidates(row, row * self.classes + cls, offsets, z, a, at)
        # the bound never falls, so one certificate at its last
        # value is one for all that was dropped below earlier ones
        self.bound = raise_bound(self.kept, self.kappa * (self.level.view(-1) - shift), self.alpha)
        self.level = rounded_down((shift + self.bound / self.kappa).to(value.dtype).unsqueeze(1))
        # the targets first again
        rest = torch.ones_like(row, dtype=torch.bool).index_fill_(0, at, False).nonzero().squeeze(1)
        self._parts = [tuple(x.index_select(0, torch.cat([at, rest])) for x in (row, cls, value))]


def _row_by_row(embeddings, weight, targets, value, loss) -> Active:
    """Over all classes, a few rows at a time; for batches with a row that has no solution (NaN)."""
    directions, parts, entries = unit(weight.to(embeddings.dtype)), [], 0
    count = max(_PLAIN_CELLS // len(weight), 1)
    for start in range(0, len(targets), count):
        part = slice(start, start + count)
        cosines = embeddings[part] @ directions.T
        how = {"alpha": loss.alpha, "scale": loss.scale, "log_q": loss.log_q_target}
        found = find_active(cosines, targets[part], target_value=value[part], **how)
        shifted = (found.rows + start, found.flat + start * len(weight), found.offsets[1:] + entries)
        parts.append((*shifted, found.p, found.base, found.at + entries, found.target_gap))
        entries += len(found.p)
    rows, flat, offsets, p, base, at, gap = (torch.cat(x) for x in zip(*parts, strict=True))
    return Active(rows, flat, F.pad(offsets, (1, 0)), p, base, at, gap)
