"""The plain solver and the plain loss: every class, every step. The oracle of the fast path, and its fallback.

    p*_j = q_j b_j^{1/(α−1)},   b_j = [1 + (α−1)(θ_j − τ)]₊,   τ the one root of  F(τ) = Σ_j p*_j = 1

α = 1 gives softmax(θ + ln q), α = 2 with q = 1 is sparsemax, α = 1.5 is entmax-1.5 with its logits halved.

Solving. One class alone never has more than mass 1, and replacing every class by the best one only adds mass, so

    max_j (θ_j + ln_α q_j)  ≤  τ  ≤  max_j θ_j + ln_α Σ_j q_j,      ln_α q = (1 − q^{1−α}) / (α − 1).

F is decreasing, and convex for 1 < α ≤ 2, so Newton climbs from the left end and never overshoots; for α > 2 bisection
takes turns with it.

Numerics. Logits count from the row's maximum. As α → 1, b_j → 1 + tiny: there b − 1 is what must be exact, and p is
exp(log1p(b − 1)/(α−1)), which tends to e^{θ−τ} without a threshold around α = 1. Away from 1, b itself may be tiny
(many tied classes, a large q), and 1 + (α−1)(θ−τ) would cancel: the unknown is then t = τ − 1/(α−1), and
b = (α−1)(θ − t). q enters by its logarithm only, so q_y = exp(−s·m) may underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR_ONE = 1.02
_MAX_STEPS = 300  # bisection alone needs ~60 in float64; the bound only guards against a non-terminating loop


@dataclass(frozen=True)
class Solution:
    """The posterior of each row and what the loss needs beside it.

    Attributes
    ----------
    p : Tensor [..., C]
        Posterior.
    gap : Tensor [..., C]
        θ_j − τ, in nats; −inf for an impossible class.
    base : Tensor [..., C]
        b_j; 1 at α = 1.
    """

    p: Tensor
    gap: Tensor
    base: Tensor


def solve(logits: Tensor, alpha: float, log_q: Tensor | None = None) -> Solution:
    """Threshold and posterior of each row of `logits` [..., C] (float32 or float64); `log_q` broadcasts against it."""
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

    def masses(t: Tensor) -> tuple[Tensor, Tensor]:
        x = (alpha - 1) * (theta - t)
        log_base = torch.log1p(x.clamp(min=-1)) if near_one else torch.log(x.clamp(min=0))
        return torch.exp(log_base / (alpha - 1) + lq), (1 + x if near_one else x).clamp(min=0)

    eps = torch.finfo(theta.dtype).eps
    low = (theta + alone(lq)).amax(-1, keepdim=True)
    high = torch.maximum(alone(torch.logsumexp(lq, -1, keepdim=True)), low)
    t, done = low, torch.zeros_like(low, dtype=torch.bool)
    for step in range(_MAX_STEPS):
        mass, base = masses(t)
        total = mass.sum(-1, keepdim=True)
        slope = torch.where(mass > 0, mass / base, 0).sum(-1, keepdim=True)  # −dF/dt
        low, high = torch.where(total >= 1, t, low), torch.where(total <= 1, t, high)
        proposal = t + (total - 1) / slope
        outside = (proposal <= low) | (proposal >= high) | ~proposal.isfinite()
        if alpha > 2 and step % 2:
            outside = torch.ones_like(outside)
        proposal = torch.where(outside, low + (high - low) / 2, proposal)
        done = done | ((total - 1).abs() <= 8 * eps) | (proposal == t) | (high - low <= eps * high.abs())
        done = done | total.isnan()
        if bool(done.all()):
            break
        t = torch.where(done, t, proposal)
    gap = theta - t if near_one else theta - t - 1 / (alpha - 1)
    return Solution(mass, gap, base)


def plain_softargmax(logits: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """Posterior [..., C] over all classes; differentiable by what the solver returns, not through it."""
    return _Posterior.apply(logits, log_q, alpha)


def plain_loss(logits: Tensor, target: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """The Fenchel-Young loss per example, as its definition says:  ⟨p, θ⟩ − D(p, q) + D(e_y, q) − θ_y.

    In the form without cancellation,  (α−1)/α · Σ_j p_j (θ_j − τ) − (θ_y − τ) + expm1((1−α) ln q_y) / (α(α−1)).
    """
    return _Loss.apply(logits, log_q, target, alpha)


def vertex_term(log_q_target, alpha: float) -> Tensor:
    """expm1((1−α) ln q_y) / (α(α−1)), and its limit −ln q_y at α = 1: what is left of D(e_y, q)."""
    if alpha == 1.0:
        return -log_q_target
    return torch.expm1((1 - alpha) * log_q_target) / (alpha * (alpha - 1))


class _Posterior(torch.autograd.Function):
    """Implicit differentiation. With s_j = ∂p_j/∂θ_j at fixed τ = p_j / b_j:  dp = s ⊙ (dθ − dτ) + p ⊙ d ln q  and
    Σ dp = 0, hence  dτ = (⟨s, dθ⟩ + ⟨p, d ln q⟩) / Σs,   ∂θ ← s ⊙ (g − ḡ),   ∂ln q ← p ⊙ (g − ḡ),   ḡ = ⟨g, s⟩ / Σs.
    """

    @staticmethod
    def forward(ctx, logits, log_q, alpha):
        solution = solve(logits, alpha, log_q)
        ctx.save_for_backward(solution.p, torch.where(solution.p > 0, solution.p / solution.base, 0))
        ctx.q_shape = None if log_q is None else log_q.shape
        return solution.p

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        p, s = ctx.saved_tensors
        centred = grad - (grad * s).sum(-1, keepdim=True) / s.sum(-1, keepdim=True)
        grad_q = None if ctx.q_shape is None else (p * centred).sum_to_size(ctx.q_shape)
        return s * centred, grad_q, None


class _Loss(torch.autograd.Function):
    """∂loss/∂ln q_j = (p_j u_j^{α−1} − [j=y] q_y^{1−α}) / α, by the envelope theorem: ∂D/∂q = (1 − u^α)/α."""

    @staticmethod
    def forward(ctx, logits, log_q, target, alpha):
        index = target.unsqueeze(-1)
        solution = solve(logits, alpha, log_q)
        p, gap = solution.p, solution.gap
        log_q_target = p.new_zeros(index.shape) if log_q is None else log_q.expand_as(p).gather(-1, index)
        spread = (p * torch.where(p > 0, gap, 0)).sum(-1, keepdim=True)  # where: 0·(−inf) is 0 here
        loss = (alpha - 1) / alpha * spread - gap.gather(-1, index) + vertex_term(log_q_target, alpha)
        ctx.save_for_backward(p, solution.base, index, log_q_target)
        ctx.alpha, ctx.q_shape = alpha, None if log_q is None else log_q.shape
        return loss.squeeze(-1).clamp(min=0)  # ≥ 0 is a theorem; rounding may say −1e-8

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        p, base, index, log_q_target = ctx.saved_tensors
        grad, alpha, grad_q = grad.unsqueeze(-1), ctx.alpha, None
        minus_one = torch.full_like(log_q_target, -1.0)
        grad_logits = grad * p.scatter_add(-1, index, minus_one)
        if ctx.q_shape is not None and ctx.needs_input_grad[1]:
            envelope = p * base
            vertex = -torch.exp((1 - alpha) * log_q_target)
            grad_q = (grad * envelope.scatter_add(-1, index, vertex) / alpha).sum_to_size(ctx.q_shape)
        return grad_logits, grad_q, None, None
