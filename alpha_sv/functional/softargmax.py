"""α-softargmax: the posterior p* = argmax_{p ∈ simplex} ⟨p, θ⟩ − D(p, q), exactly sparse for α > 1.

    p*_j = q_j b_j^{1/(α−1)},   b_j = [1 + (α−1)(θ_j − τ)]₊,   τ the one root of  F(τ) = Σ_j p*_j = 1

α = 1 gives softmax(θ + ln q), α = 2 with q = 1 is sparsemax, α = 1.5 is entmax-1.5 with its logits halved.

Solving. One class alone never has more than mass 1, and replacing every class by the best one only adds mass, so

    max_j (θ_j + ln_α q_j)  ≤  τ  ≤  max_j θ_j + ln_α Σ_j q_j,      ln_α q = (1 − q^{1−α}) / (α − 1).

F is decreasing, and convex for 1 < α ≤ 2, so Newton climbs from the left end and never overshoots; for α > 2 bisection
takes turns with it. This is the plain solver: every class, every step.

Numerics. Logits count from the row's maximum. As α → 1, b_j → 1 + tiny: there b − 1 is what must be exact, and p is
exp(log1p(b − 1)/(α−1)), which tends to e^{θ−τ} without a threshold around α = 1. Away from 1, b itself may be tiny
(many tied classes, a large q), and 1 + (α−1)(θ−τ) would cancel: the unknown is then t = τ − 1/(α−1), and
b = (α−1)(θ − t). q enters by its logarithm only, so q_y = exp(−s·m) may underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alpha_sv.functional.divergence import check_alpha

_NEAR_ONE = 1.02
_MAX_STEPS = 300  # bisection alone needs ~60 in float64; the bound only guards against a non-terminating loop


def working_dtype(dtype: torch.dtype, alpha: float) -> torch.dtype:
    """The precision of the solve, whatever autocast says: float32, or float64 if given or if α > 2.

    For α > 2 the posterior has an infinite slope at the threshold, (…)^{1/(α−1)}: an error of 1e-7 in τ would become
    one of 1e-7^{1/(α−1)} in p, 2 % at α = 5.
    """
    return torch.float64 if dtype == torch.float64 or alpha > 2 else torch.float32


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
    near_one = alpha < _NEAR_ONE

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


class _AlphaSoftargmax(torch.autograd.Function):
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


def alpha_softargmax(logits: Tensor, alpha: float, q: Tensor | None = None) -> Tensor:
    """Posterior of the α-divergence with reference measure `q`, over the last axis.

    p* = argmax_{p ∈ simplex} ⟨p, logits⟩ − D_α(p, q)  (the α-softargmax of arXiv 2511.13621).

    Parameters
    ----------
    logits : Tensor [..., C]
        In nats, any floating dtype. −inf is an impossible class. Solved in float32, or float64 if given.
    alpha : float
        Order, ≥ 1. 1 is softmax; above 1 most entries are exactly zero.
    q : Tensor [..., C], optional
        Positive reference measure, broadcast against `logits`; it need not sum to 1. None means all ones.

    Returns
    -------
    Tensor [..., C]
        Same shape and dtype as `logits`; rows sum to 1. Rows with NaN, +inf or nothing but −inf are NaN.
        Differentiable once, in `logits` and in `q`.

    Raises
    ------
    ValueError
        If alpha < 1, there is no class, the logits are not floating, or q is not positive and finite or does not
        broadcast against the logits.

    Example
    -------
    >>> alpha_softargmax(torch.tensor([1.0, 0.5, -3.0]), alpha=2.0)
    tensor([0.7500, 0.2500, 0.0000])
    """
    alpha = check_alpha(alpha)
    check_logits(logits)
    dtype = working_dtype(logits.dtype, alpha)
    return _AlphaSoftargmax.apply(logits.to(dtype), log_measure(q, logits, dtype), alpha).to(logits.dtype)


def check_logits(logits: Tensor) -> None:
    """Refuse logits without a class axis or of an integer type, which would round the posterior to zero."""
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need at least one class on the last axis, got shape {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")


def log_measure(q: Tensor | None, logits: Tensor, dtype: torch.dtype) -> Tensor | None:
    """ln q in the working dtype, or None; refuses a measure that is not positive and finite everywhere."""
    if q is None:
        return None
    if not bool((q > 0).all() & q.isfinite().all()):
        raise ValueError(f"the reference measure q must be positive and finite, it spans {q.min()} to {q.max()}")
    check_broadcast(q, logits, "q")
    return q.log().to(dtype)  # the logarithm first: 1e-60 has no float32, its logarithm has


def check_broadcast(q: Tensor, logits: Tensor, name: str) -> None:
    if q.ndim > logits.ndim or any(a not in (1, b) for a, b in zip(q.shape[::-1], logits.shape[::-1], strict=False)):
        raise ValueError(f"{name} of shape {tuple(q.shape)} does not broadcast to logits {tuple(logits.shape)}")
