"""The plain solver: the root τ of Σ_j p*_j = 1 over all classes,
by Newton steps inside a bracket."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR_ONE = 1.02
_MAX_STEPS = 300  # bisection alone needs ~60 in float64; the bound only guards against a non-terminating loop


@dataclass(frozen=True)
class Solution:
    """Each [..., C]: the posterior p; gap, θ_j − τ in nats
    (−inf for an impossible class); base, b_j (1 at α = 1)."""

    p: Tensor
    gap: Tensor
    base: Tensor


def solve(logits: Tensor, alpha: float, log_q: Tensor | None = None) -> Solution:
    """Threshold and posterior of each row of `logits`
    [..., C] (float32 or float64); `log_q` broadcasts.

    One class alone never has more than mass 1, and replacing every class by the best one only adds
    mass, so

        max_j (θ_j + ln_α q_j)  ≤  τ  ≤  max_j θ_j + ln_α Σ_j q_j,
        ln_α q = (1 − q^{1−α}) / (α − 1).

    F is decreasing, and convex for 1 < α ≤ 2, so Newton climbs from the left end and never
    overshoots; for α > 2 bisection takes turns with it.

    Numerics. Logits count from the row's maximum. As α → 1, b_j → 1 + tiny: there b − 1 is what
    must be exact, and p is exp(log1p(b − 1)/(α−1)), which tends to e^{θ−τ} without a threshold
    around α = 1. Away from 1, b itself may be tiny (many tied classes, a large q), and 1 +
    (α−1)(θ−τ) would cancel: the unknown is then τ − 1/(α−1), and b is (α−1) times what a logit has
    above it. q enters by its logarithm only, so q_y = exp(−s·m) may underflow.
    """
    shift = logits.amax(-1, keepdim=True)
    theta = torch.where(shift.isfinite(), logits - shift, torch.nan)  # a row without a finite maximum is NaN
    if alpha == 1.0:
        weighted = theta if log_q is None else theta + log_q
        tau = torch.logsumexp(weighted, -1, keepdim=True)
        return Solution(torch.exp(weighted - tau), theta - tau, torch.ones_like(theta))
    lq = torch.zeros_like(theta) if log_q is None else log_q.expand_as(theta)
    lq = torch.where(theta == -torch.inf, -torch.inf, lq)  # an impossible class brings no mass
    near_one = alpha < NEAR_ONE

    def alone(log_mass: Tensor) -> Tensor:
        """Where a measure of this logarithm, at logit 0, has mass 1."""
        power = (1 - alpha) * log_mass
        return -(torch.expm1(power) if near_one else torch.exp(power)) / (alpha - 1)

    def masses(level: Tensor) -> tuple[Tensor, Tensor]:
        above = (alpha - 1) * (theta - level)
        log_base = torch.log1p(above.clamp(min=-1)) if near_one else torch.log(above.clamp(min=0))
        return torch.exp(log_base / (alpha - 1) + lq), (1 + above if near_one else above).clamp(min=0)

    eps = torch.finfo(theta.dtype).eps
    low = (theta + alone(lq)).amax(-1, keepdim=True)
    high = torch.maximum(alone(torch.logsumexp(lq, -1, keepdim=True)), low)
    level, done = low, torch.zeros_like(low, dtype=torch.bool)
    for step in range(_MAX_STEPS):
        mass, base = masses(level)
        total = mass.sum(-1, keepdim=True)
        slope = torch.where(mass > 0, mass / base, 0).sum(-1, keepdim=True)  # −dF/dlevel
        low, high = torch.where(total >= 1, level, low), torch.where(total <= 1, level, high)
        proposal = level + (total - 1) / slope
        outside = (proposal <= low) | (proposal >= high) | ~proposal.isfinite()
        if alpha > 2 and step % 2:
            outside = torch.ones_like(outside)
        proposal = torch.where(outside, low + (high - low) / 2, proposal)
        done = done | ((total - 1).abs() <= 8 * eps) | (proposal == level) | (high - low <= eps * high.abs())
        done = done | total.isnan()
        if bool(done.all()):
            break
        level = torch.where(done, level, proposal)
    gap = theta - level if near_one else theta - level - 1 / (alpha - 1)
    return Solution(mass, gap, base)
