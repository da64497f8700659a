"""The classes with p > 0, found exactly and without a solve over all of them.

With z = (α−1)θ, a_j = q_j^{α−1}, β = 1/(α−1) and d_j = a_j (z_j − t)₊, the posterior is p_j = d_j^β, and t is the one
root of F(t) = Σ_j d_j^β = 1. A class is active iff z_j > t. Three facts make that cheap for 1 < α:

1. The root over any subset of the classes is a lower bound of the root over all. Among the maxima of groups of 64
   columns are the likely winners: one pass over the logits gives a bound, and a group whose maximum is not above it
   holds no active class.
2. For β ≥ 1, F^{1/β} is a norm of convex non-negative functions, hence convex, and decreasing. So Newton on
   F^{1/β} = 1 climbs from any lower bound and never overshoots, and every iterate is a lower bound:

        t ← t + (F − F^{2−α}) / Σ_j a_j d_j^{β−1}.

   For one class F^{1/β} is a straight line, for many it is far straighter than F: two to eight steps suffice where
   Newton on F = 1 takes four to eleven, the fewer the closer α is to 1.
3. Where all d_j ≤ 1, a larger exponent only removes mass. So β rounded up to a whole number, which is cheap to raise
   to, also gives a lower bound; for α > 2, where F is not convex, it is that of sparsemax, β = 1.

Certificate. What was left out lies below the bound, so the bound must not exceed the root: F ≥ 1 there, over the kept
classes, which the first step of the last solve evaluates anyway. Rows where it fails (NaN among them) send the batch to
the plain solver; `COUNTS` says how often.

On CUDA a solve waits for the device twice: for the number of candidates, and for the sums after the first eight steps
of the last solve (more only where eight do not suffice).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alpha_sv.functional.bounds import (
    BOUND_STEPS,
    GROUP,
    GROUP_BITS,
    SLACK,
    distance,
    group_maxima,
    lower_bound,
    newton_step,
    powers,
    survivors,
)
from alpha_sv.functional.reference import NEAR_ONE, Solution, solve

_SMALL = 4 * GROUP  # fewer classes than this are looked at one by one
_MAX_STEPS = 100
_CUDA_STEPS = 8  # between two looks at the convergence, each of which waits for the device

COUNTS = {"solves": 0, "fallbacks": 0}
"""Solves by the fast path since the process began, and how many of them went on to the plain solver."""


@dataclass(frozen=True)
class Active:
    """The classes that may have p > 0, n of them over all N rows, row by row.

    Attributes
    ----------
    rows, flat : int64 [n]
        Row of each, and its position row·C + class; rows ascend. A repeated position has p = 0 in all but one place.
    offsets : int64 [N + 1]
        Row i has the entries offsets[i] to offsets[i + 1].
    p, base : float64 [n]
        Posterior, and b_j = (1 + (α−1)(θ_j − τ))₊.
    at : int64 [N] or None
        Entry of each row's target, which always has one.
    target_gap : float64 [N] or None
        θ_y − τ, in nats, also where p_y = 0.
    """

    rows: Tensor
    flat: Tensor
    offsets: Tensor
    p: Tensor
    base: Tensor
    at: Tensor | None
    target_gap: Tensor | None

    def row_sums(self, values: Tensor) -> Tensor:
        """[n] → [N]."""
        return row_sums(values, self.offsets)


def find_active(
    values: Tensor,
    alpha: float,
    scale: float = 1.0,
    target: Tensor | None = None,
    target_value: Tensor | None = None,
    log_q: Tensor | float | None = None,
) -> Active:
    """Solve for the rows of θ = scale·values.

    Parameters
    ----------
    values : Tensor [N, C]
        Cosines or logits, float32 or float64.
    alpha : float
        Order, > 1.
    scale : float
        > 0.
    target : int64 Tensor [N], optional
        The class y of each row.
    target_value : Tensor [N]
        Stands in place of values[i, y] (a margin is in it); with `target`.
    log_q : Tensor [N, C] or float, optional
        ln q of every class, or of the target alone.
    """
    COUNTS["solves"] += 1
    values, log_q = values.contiguous(), log_q.contiguous() if isinstance(log_q, Tensor) else log_q
    if alpha >= NEAR_ONE:
        kept, bound = _candidates(values, alpha, scale, target, target_value, log_q)
        active = finish(kept, bound, alpha, values.dtype)
        if active is not None:
            return active
        COUNTS["fallbacks"] += 1
        values, log_q = values.double(), log_q.double() if isinstance(log_q, Tensor) else log_q
    logits, measure = scale * values, log_q if isinstance(log_q, Tensor) else None
    if target is not None:
        index = target.unsqueeze(1)
        logits = logits.scatter(1, index, scale * target_value.unsqueeze(1).to(logits))
        if log_q is not None and measure is None:
            measure = torch.zeros_like(logits).scatter_(1, index, log_q)
    return _from_plain(solve(logits, alpha, measure), target)


@dataclass(frozen=True)
class Candidates:
    """Entries as of `Active`, with z from the row's shift, and the weights a_j (None: all one)."""

    rows: Tensor
    flat: Tensor
    offsets: Tensor
    z: Tensor
    a: Tensor | None
    at: Tensor | None


def _candidates(values, alpha, scale, target, target_value, log_q) -> tuple[Candidates, Tensor]:
    rows, classes = values.shape
    kappa = (alpha - 1) * scale
    measure = torch.exp((alpha - 1) * log_q) if isinstance(log_q, Tensor) else None
    grouped = classes >= _SMALL and measure is None
    top = group_maxima(values) if grouped else values
    subset, slot, wanted, a, a_target = top, None, None, measure, 1.0
    if target is not None:
        slot = (target >> GROUP_BITS if grouped else target).unsqueeze(1)
        wanted = _positions(target, classes)
        # in the target's group stands the target itself: still a subset of the classes
        subset = top.scatter(1, slot, target_value.unsqueeze(1))
        if measure is None and log_q:
            a_target = math.exp((alpha - 1) * log_q)
            a = torch.ones_like(subset).scatter_(1, slot, a_target)
    shift, bound = lower_bound(subset, a, kappa, alpha, 1.0 if measure is None else None)
    # rounded down: far from zero the next number may be further off than the slack
    level = torch.add(shift, bound, alpha=1 / kappa).nextafter(torch.full_like(shift, -torch.inf))
    if grouped and not values.is_cuda:
        row, flat, kept, at = survivors(values, level, top, slot, target_value, wanted)
    else:  # all classes at one look: on CUDA a second pass is cheaper than waiting for a second list
        mask, at = values > level, None
        if target is not None:
            mask.scatter_(1, target.unsqueeze(1), True)
        flat = mask.view(-1).nonzero().squeeze(1)
        row, kept = torch.div(flat, classes, rounding_mode="floor"), values.view(-1).index_select(0, flat)
        if target is not None:
            at = torch.searchsorted(flat, wanted)
            kept.index_copy_(0, at, target_value)
    shift, level = shift.squeeze(1).double(), level.squeeze(1).double()
    z = (kept - shift.index_select(0, row)).mul_(kappa)
    if measure is not None:
        a = log_q.view(-1).index_select(0, flat).double().mul_(alpha - 1).exp_()
    elif a is not None:
        a = torch.ones_like(z).index_fill_(0, at, a_target)
    offsets = row_offsets(row, rows)
    return Candidates(row, flat, offsets, z, a, at), (level - shift).mul_(kappa)


def finish(kept: Candidates, bound: Tensor, alpha: float, dtype: torch.dtype) -> Active | None:
    """Solve over the candidates, from a lower bound [N]; None if it was none, or a row has no finite solution."""
    z = kept.z if kept.a is None else kept.z * kept.a
    if alpha > 2:
        return _finish_plain(kept, z, bound, alpha)
    beta, t, start, previous = 1 / (alpha - 1), bound, None, math.inf
    tolerance = mass_tolerance(dtype)
    for step in range(_MAX_STEPS):
        d = distance(z, kept.a, t.index_select(0, kept.rows))
        factor, power = powers(d, beta)
        mass = row_sums(power, kept.offsets)
        low, high = torch.aminmax(mass)
        start = low if start is None else start
        if not z.is_cuda or step % _CUDA_STEPS == _CUDA_STEPS - 1:
            start, low, high = (
                torch.stack((start, low, high)).tolist() if z.is_cuda else (start, float(low), float(high))
            )
            if not (start >= 1 and low > 0.999 and high < math.inf):
                return None
            if high <= 1 + tolerance or high >= previous:  # the latter: only rounding is left
                break
            previous = high
        t = newton_step(t, mass, row_sums(factor if kept.a is None else factor * kept.a, kept.offsets), alpha)
    base = d if kept.a is None else (kept.z - t.index_select(0, kept.rows)).clamp_(min=0)  # a may be 0
    gap = None if kept.at is None else (kept.z.index_select(0, kept.at) - t - 1).div_(alpha - 1)
    return _active(kept, power, base, gap)


def mass_tolerance(dtype: torch.dtype) -> float:
    """How far above 1 the mass may end, for logits of this type."""
    return 1e-7 if dtype == torch.float32 else 16 * torch.finfo(dtype).eps


def raise_bound(kept: Candidates, bound: Tensor, alpha: float) -> Tensor:
    """A few steps from one lower bound [N] to one not lower, over the candidates.

    Not lower: so the certificate at the last bound holds for all that was left out below an earlier one.
    """
    z = kept.z if kept.a is None else kept.z * kept.a
    beta, start = max(1 / (alpha - 1), 1.0), bound  # fact 3
    for _ in range(BOUND_STEPS):
        factor, power = powers(distance(z, kept.a, bound.index_select(0, kept.rows)), beta)
        slope = row_sums(factor if kept.a is None else factor * kept.a, kept.offsets)
        bound = newton_step(bound, row_sums(power, kept.offsets), slope, 1 + 1 / beta)
    return torch.maximum(start, bound - SLACK)


def row_sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums of the rows of a ragged array, float64 [n] → [N]; it adds one number after the other."""
    return torch.segment_reduce(values, "sum", offsets=offsets, initial=0, unsafe=True)


def row_offsets(row: Tensor, rows: int) -> Tensor:
    """Where each row begins among entries of ascending rows, and where the last one ends, [n] → [rows + 1]."""
    return torch.searchsorted(row, torch.arange(rows + 1, device=row.device))


def _positions(target: Tensor, classes: int) -> Tensor:
    """row·C + target of each row."""
    return torch.arange(0, len(target) * classes, classes, device=target.device).add_(target)


def _active(kept: Candidates, p: Tensor, base: Tensor, target_gap: Tensor | None) -> Active:
    return Active(kept.rows, kept.flat, kept.offsets, p, base, kept.at, target_gap)


def _finish_plain(kept: Candidates, z: Tensor, bound: Tensor, alpha: float) -> Active | None:
    """α > 2: the plain solver, on the candidates alone, padded to one width."""
    d = distance(z, kept.a, bound.index_select(0, kept.rows))
    if not bool((row_sums(d.pow(1 / (alpha - 1)), kept.offsets) >= 1).all()):
        return None
    rows, width = len(kept.offsets) - 1, int(kept.offsets.diff().max())
    place = torch.arange(len(kept.rows), device=z.device) - kept.offsets.index_select(0, kept.rows) + kept.rows * width
    theta, log_q = z.new_full((rows, width), -torch.inf), None
    theta.view(-1).index_copy_(0, place, kept.z / (alpha - 1))
    if kept.a is not None:
        log_q = torch.zeros_like(theta)
        log_q.view(-1).index_copy_(0, place, kept.a.log() / (alpha - 1))
    solution = solve(theta, alpha, log_q)
    p, base, gap = (part.view(-1).index_select(0, place) for part in (solution.p, solution.base, solution.gap))
    return _active(kept, p, base, None if kept.at is None else gap.index_select(0, kept.at))


def _from_plain(solution: Solution, target: Tensor | None) -> Active:
    rows, classes = solution.p.shape
    kept, at = solution.p != 0, None  # NaN stays
    if target is not None:
        kept.scatter_(1, target.unsqueeze(1), True)
    flat = kept.view(-1).nonzero().squeeze(1)
    row = torch.div(flat, classes, rounding_mode="floor")
    offsets = row_offsets(row, rows)
    p, base, gap = (part.view(-1).index_select(0, flat).double() for part in (solution.p, solution.base, solution.gap))
    if target is not None:
        at = torch.searchsorted(flat, _positions(target, classes))
    return Active(row, flat, offsets, p, base, at, None if at is None else gap.index_select(0, at))
