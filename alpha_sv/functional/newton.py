"""The climb to the threshold: one Newton iteration for the bounds,
the solver, and the head split over ranks.

Notation: z = (α−1)θ, t = (α−1)τ − 1, a_j = q_j^{α−1}, β = 1/(α−1), d_j = a_j (z_j − t)₊. The
posterior is p_j = d_j^β, and t is the one root of F(t) = Σ_j d_j^β = 1. A class is active iff z_j >
t. Three facts make that cheap for 1 < α:

1. The root over any subset of the classes is a lower bound of the root over all. Among the maxima
   of groups of 64 columns are the likely winners: one pass over the logits gives a bound, and a
   group whose maximum is not above it holds no active class (`alpha_sv.functional.candidates`).
2. For β ≥ 1, F^{1/β} is a norm of convex non-negative functions, hence convex, and
   decreasing. So Newton on F^{1/β} = 1 climbs from any lower bound and never overshoots, and
   every iterate is a lower bound:

        t ← t + (F − F^{1−1/β}) / Σ_j a_j d_j^{β−1}.

   For one class F^{1/β} is a straight line, for many it is far straighter than F: two to eight
   steps suffice where Newton on F = 1 takes four to eleven, the fewer the closer α is to 1.
3. Where all d_j ≤ 1, a larger exponent only removes mass. So β rounded up to a whole number,
   which is cheap to raise to, also gives a lower bound; for α > 2, where F is not convex, it is
   that of sparsemax, β = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SLACK = 1e-5  # in units of 1/a_j, where one class alone has mass 1: above the rounding, below what adds candidates
_BOUND_STEPS = 3  # of a climb that only wants a better bound
_MAX_STEPS = 100


def climb(
    z: Tensor,
    a: Tensor | None,
    t: Tensor,
    beta: float,
    per_entry: Callable[[Tensor], Tensor],
    sums: Callable[[Tensor, Tensor], list[Tensor]],
    done: Callable[[Tensor], bool] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's climb of fact 2: the bounds,
    the solver and the head that is split over ranks all take it.

    Parameters
    ----------
    z, a : Tensor
        z_j and a_j of some classes of each row (a None: all one), in any arrangement.
    t : Tensor
        One lower bound of the root for each row.
    beta : float
        β ≥ 1.
    per_entry : callable
        Spreads a number of each row over its classes.
    sums : callable
        The sums over each row of Σ d^β and Σ a d^{β−1}; over ranks it all-reduces them.
    done : callable, optional
        Told F(t), it says whether that is 1.
        Without it the climb is of three steps, to a better bound.

    Returns
    -------
    (Tensor, Tensor, Tensor)
        t, and d and d^β at the last t but for climbs without `done`: at the one before.
    """
    weighted = z if a is None else z * a
    for _ in range(_BOUND_STEPS if done is None else _MAX_STEPS):
        at_t = per_entry(t)
        d = (weighted - at_t if a is None else torch.addcmul(weighted, a, at_t, value=-1)).clamp_(min=0)
        if beta == 1:
            factor, power = (d > 0).to(d.dtype), d
        else:
            factor = d if beta == 2 else d.pow(beta - 1)
            power = factor * d
        mass, slope = sums(power, factor if a is None else factor * a)
        if done is not None and done(mass):
            break
        t = torch.addcdiv(t, mass - mass.pow(1 - 1 / beta), slope)
    return t, d, power


class Convergence:
    """Whether a climb has arrived; and the certificate:
    whether it began below the root and has a finite end."""

    def __init__(self, dtype: torch.dtype, between_looks: int = 1):
        # how far above 1 the mass may end, for logits of this type
        self._limit = 1 + (1e-7 if dtype == torch.float32 else 16 * torch.finfo(dtype).eps)
        self._start, self._previous = None, math.inf
        self._step, self._between_looks = 0, between_looks
        self.certified = False

    def __call__(self, mass: Tensor) -> bool:
        low, high = torch.aminmax(mass)
        self._start = low if self._start is None else self._start
        self._step += 1
        if self._step % self._between_looks:
            return False
        seen = (self._start, low, high)
        start, low, high = map(float, seen) if self._between_looks == 1 else torch.stack(seen).tolist()
        self.certified = start >= 1 and low > 0.999 and high < math.inf  # of a NaN nothing is true
        arrived = not self.certified or high <= self._limit or high >= self._previous  # the last: only rounding is left
        self._previous = high
        return arrived


def lower_bound(
    subset: Tensor, a: Tensor | None, kappa: float, alpha: float, largest_a: float | None = None
) -> tuple[Tensor, Tensor]:
    """(shift, bound), each [N, 1]: the root over all classes is at least κ·shift + bound.

    `subset` [N, T] holds values (z = κ·value) of some of the classes,
    `a` their weights (None: all one), of which `largest_a` is the largest, if known.
    """
    shift = subset.amax(1, keepdim=True)
    z, slack = (subset - shift).mul_(kappa), SLACK
    if a is None:  # one class alone has mass 1 at z_j − 1/a_j
        t = torch.full_like(shift, -1.0)
    else:
        t = (z - a.reciprocal()).amax(1, keepdim=True)
        slack = SLACK / (largest_a or a.amax(1, keepdim=True))
    beta = math.ceil(1 / (alpha - 1) - 1e-9)  # fact 3
    bound, *_ = climb(z, a, t, beta, lambda t: t, lambda *values: [value.sum(1, keepdim=True) for value in values])
    return shift, bound.sub_(slack)


def raise_bound(kept: Candidates, bound: Tensor, alpha: float) -> Tensor:
    """A few steps from one lower bound [N] to one not lower, over the candidates.

    Not lower: so the certificate at the last bound
    holds for all that was left out below an earlier one.
    """
    higher, *_ = climb(kept.z, kept.a, bound, max(1 / (alpha - 1), 1.0), kept.per_entry, kept.sums)  # fact 3
    return torch.maximum(bound, higher - SLACK)


def rounded_down(level: Tensor) -> Tensor:
    """The next number below: far from zero it may be further
    off than the slack, so a level must not be rounded up."""
    return level.nextafter(torch.full_like(level, -torch.inf))


@dataclass(frozen=True)
class Candidates:
    """Entries as of `Active`, with z from the row's shift, and the weights a_j (None: all one)."""

    rows: Tensor
    flat: Tensor
    offsets: Tensor
    z: Tensor
    a: Tensor | None
    at: Tensor | None

    def per_entry(self, t: Tensor) -> Tensor:
        """[N] → [n]."""
        return t.index_select(0, self.rows)

    def sums(self, *values: Tensor) -> list[Tensor]:
        """Of each [n] → [N]."""
        return [row_sums(value, self.offsets) for value in values]


def row_sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums of the rows of a ragged array, float64 [n] → [N]; it adds one number after the other."""
    return torch.segment_reduce(values, "sum", offsets=offsets, initial=0, unsafe=True)


def row_offsets(row: Tensor, rows: int) -> Tensor:
    """Where each row begins among entries of ascending rows,
    and where the last one ends, [n] → [rows + 1]."""
    return torch.searchsorted(row, torch.arange(rows + 1, device=row.device))
