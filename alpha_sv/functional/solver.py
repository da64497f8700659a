"""The fast solver: the classes with p > 0, found exactly and without a solve over all of them.

`alpha_sv.functional.newton` has the notation (z, t, a, β, d)
and the facts 1 to 3 that the steps below rest on:

* the maxima of groups of 64 columns give a lower bound of the root t, in one pass over the logits;
* the classes above it are the candidates, 1.0 to 1.5 times the active ones;
* the climb over the candidates alone ends at the root.

Certificate. What was left out lies below the bound, so the bound must not exceed the root: F ≥ 1
there, over the kept classes, which the first step of the last climb evaluates anyway. Rows where it
fails (NaN among them) send the batch to the plain solver; `COUNTS` says how often.

On a GPU a solve waits for the device twice: for the number of candidates, and for the
sums after the first eight steps of the last climb (more only where eight do not suffice).
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alpha_sv.functional.candidates import GROUP, GROUP_BITS, group_maxima, survivors
from alpha_sv.functional.checks import asynchronous
from alpha_sv.functional.newton import Candidates, Convergence, climb, lower_bound, rounded_down, row_offsets, row_sums
from alpha_sv.functional.plain import NEAR_ONE, Solution, solve

logger = logging.getLogger(__name__)

_SMALL = 4 * GROUP  # fewer classes than this are looked at one by one
_BETWEEN_LOOKS = 8  # steps, on a device where each look waits

COUNTS = {"solves": 0, "fallbacks": 0}
"""Solves by the fast path since the process began,
and how many of them went on to the plain solver."""


@dataclass(frozen=True)
class Active:
    """The classes that may have p > 0, n of them over all N rows, row by row.

    Attributes
    ----------
    rows, flat : int64 [n]
        Row of each, and its position row·C + class; rows ascend.
        A repeated position has p = 0 in all but one place.
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
    target: Tensor | None = None,
    *,
    alpha: float,
    scale: float = 1.0,
    target_value: Tensor | None = None,
    log_q: Tensor | float | None = None,
) -> Active:
    """Solve for the rows of θ = scale·values.

    Parameters
    ----------
    values : Tensor [N, C]
        Cosines or logits, float32 or float64.
    target : int64 Tensor [N], optional
        The class y of each row.
    alpha : float
        Order, > 1.
    scale : float
        > 0.
    target_value : Tensor [N]
        Stands in place of values[i, y] (a margin is in it); with `target`.
    log_q : Tensor [N, C] or float, optional
        ln q of every class, or of the target alone.
    """
    COUNTS["solves"] += 1
    values, log_q = values.contiguous(), log_q.contiguous() if isinstance(log_q, Tensor) else log_q
    if alpha >= NEAR_ONE and len(values):
        kept, bound = _candidates(values, alpha, scale, target, target_value, log_q)
        active = finish(kept, bound, alpha, values.dtype)
        if active is not None:
            return active
        fell_back("a batch of cosines or logits")
        values, log_q = values.double(), log_q.double() if isinstance(log_q, Tensor) else log_q
    logits, measure = scale * values, log_q if isinstance(log_q, Tensor) else None
    if target is not None:
        index = target.unsqueeze(1)
        logits = logits.scatter(1, index, scale * target_value.unsqueeze(1).to(logits))
        if log_q is not None and measure is None:
            measure = torch.zeros_like(logits).scatter_(1, index, log_q)
    return _from_plain(solve(logits, alpha, measure), target)


def fell_back(what: str) -> None:
    """Count a solve that the plain solver has to do, and say so once."""
    COUNTS["fallbacks"] += 1
    if COUNTS["fallbacks"] == 1:
        logger.warning(
            "%s had no certificate (a NaN or an infinite value, or rounding at its limit), so the plain solver "
            "does it: right, but slower and with more memory. Said once; "
            "alpha_sv.functional.solver.COUNTS has how often",
            what,
        )


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
    level = rounded_down(torch.add(shift, bound, alpha=1 / kappa))
    if grouped and not asynchronous(values):
        row, flat, kept, at = survivors(values, level, top, slot, target_value, wanted)
    else:  # all classes at one look: on a GPU a second pass is cheaper than waiting for a second list
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
    return Candidates(row, flat, row_offsets(row, rows), z, a, at), (level - shift).mul_(kappa)


def finish(kept: Candidates, bound: Tensor, alpha: float, dtype: torch.dtype) -> Active | None:
    """Solve over the candidates, from a lower bound [N];
    None if it was none, or a row has no finite solution."""
    if alpha > 2:
        return _finish_plain(kept, bound, alpha)
    converged = Convergence(dtype, _BETWEEN_LOOKS if asynchronous(kept.z) else 1)
    t, d, p = climb(kept.z, kept.a, bound, 1 / (alpha - 1), kept.per_entry, kept.sums, converged)
    if not converged.certified:
        return None
    base = d if kept.a is None else (kept.z - kept.per_entry(t)).clamp_(min=0)  # not d/a: a may be 0
    gap = None if kept.at is None else (kept.z.index_select(0, kept.at) - t - 1).div_(alpha - 1)
    return Active(kept.rows, kept.flat, kept.offsets, p, base, kept.at, gap)


def _finish_plain(kept: Candidates, bound: Tensor, alpha: float) -> Active | None:
    """α > 2: the plain solver, on the candidates alone, padded to one width."""
    d = (kept.z - kept.per_entry(bound)).clamp_(min=0)
    (mass,) = kept.sums((d if kept.a is None else d * kept.a).pow(1 / (alpha - 1)))
    if not bool((mass >= 1).all()):
        return None
    rows, width = len(kept.offsets) - 1, int(kept.offsets.diff().max())
    place = torch.arange(len(kept.rows), device=kept.z.device) - kept.per_entry(kept.offsets) + kept.rows * width
    theta, log_q = kept.z.new_full((rows, width), -torch.inf), None
    theta.view(-1).index_copy_(0, place, kept.z / (alpha - 1))
    if kept.a is not None:
        log_q = torch.zeros_like(theta)
        log_q.view(-1).index_copy_(0, place, kept.a.log() / (alpha - 1))
    solution = solve(theta, alpha, log_q)
    p, base, gap = (part.view(-1).index_select(0, place) for part in (solution.p, solution.base, solution.gap))
    gap = None if kept.at is None else gap.index_select(0, kept.at)
    return Active(kept.rows, kept.flat, kept.offsets, p, base, kept.at, gap)


def _positions(target: Tensor, classes: int) -> Tensor:
    """row·C + target of each row."""
    return torch.arange(len(target), device=target.device).mul_(classes).add_(target)


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
