"""α-softargmax: the posterior p* = argmax_{p ∈ simplex} ⟨p, θ⟩ − D(p, q), exactly sparse for α > 1.

    p*_j = q_j u_j,   u_j = [1 + (α−1)(θ_j − τ)]₊^{1/(α−1)},   τ the one root of  F(τ) = Σ_j q_j u_j = 1

α = 1 gives softmax(θ + ln q), α = 2 with q = 1 is sparsemax, α = 1.5 is entmax-1.5 with its logits halved.

Numerics. u is evaluated as exp(log1p(x)/(α−1)) with x = (α−1)(θ−τ): nothing cancels as α → 1, where it tends to
e^{θ−τ}, so no threshold is needed around α = 1. q enters by its logarithm only, so q_y = exp(−s·m) may underflow.
With ln_α(q) = −expm1(−(α−1) ln q)/(α−1), the "deformed logarithm" of the measure, the root is bracketed by

    max_j θ_j + ln_α(q_j)  ≤  τ  ≤  max_j θ_j + ln_α(Σ_j q_j)

(left: one class alone never has more than mass 1; right: every class is replaced by the best one). F is decreasing,
and convex for 1 ≤ α ≤ 2, so Newton climbs from the left end and never overshoots; for α > 2 bisection takes turns
with Newton. This is the plain solver: every class, every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.divergence import check_alpha

_MAX_STEPS = 300  # bisection alone needs ~60 in float64; the bound only guards against a non-terminating loop


def working_dtype(dtype: torch.dtype, alpha: float) -> torch.dtype:
    """The precision of the solve, whatever autocast says: float32, or float64 if given or if α > 2.

    For α > 2 the posterior has an infinite slope at the threshold, (…)^{1/(α−1)}: an error of 1e-7 in τ would become
    one of 1e-7^{1/(α−1)} in p, 2 % at α = 5.
    """
    return torch.float64 if dtype == torch.float64 or alpha > 2 else torch.float32


def deformed_log(log_q: Tensor, alpha: float) -> Tensor:
    """ln_α(q) = (1 − q^{1−α})/(α − 1) from ln q; ln q itself at α = 1."""
    return log_q if alpha == 1.0 else -torch.expm1((1 - alpha) * log_q) / (alpha - 1)


def solve_threshold(logits: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """The threshold τ [..., 1] of each row; see the module's head for the equation and the bracket.

    Parameters
    ----------
    logits : Tensor [..., C]
        θ, in nats, float32 or float64. −inf removes a class. A row that holds NaN or +inf, or only −inf, gives NaN
        (in that row alone).
    alpha : float
        Order, ≥ 1.
    log_q : Tensor [..., C], optional
        ln q, broadcast against `logits`; None means q = 1.
    """
    if alpha == 1.0:
        return torch.logsumexp(logits if log_q is None else logits + log_q, dim=-1, keepdim=True)
    log_q = torch.zeros_like(logits) if log_q is None else log_q.expand_as(logits)
    shift = logits.amax(
        -1, keepdim=True
    )  # τ is found relative to the best logit: its rounding is then that of O(1)
    theta = torch.where(shift.isfinite(), logits - shift, torch.nan)
    log_q = torch.where(theta == -torch.inf, -torch.inf, log_q)  # a removed class brings no mass
    low = (theta + deformed_log(log_q, alpha)).amax(-1, keepdim=True)
    high = deformed_log(torch.logsumexp(log_q, -1, keepdim=True), alpha)
    high = torch.maximum(high, low)
    tau, eps = low.clone(), torch.finfo(theta.dtype).eps
    for step in range(_MAX_STEPS):
        base = 1 + ((alpha - 1) * (theta - tau)).clamp(min=-1)
        mass = _masses(theta, tau, alpha, log_q)
        total = mass.sum(-1, keepdim=True)
        low, high = torch.where(total >= 1, tau, low), torch.where(total <= 1, tau, high)
        slope = torch.where(base > 0, mass / base, 0).sum(
            -1, keepdim=True
        )  # −dF/dτ = Σ q u^{2−α} = Σ q u / u^{α−1}
        newton = tau + (total - 1) / slope
        middle = low + (high - low) / 2
        bisect = (newton <= low) | (newton >= high) | ~newton.isfinite()
        if alpha > 2 and step % 2:
            bisect = torch.ones_like(bisect)
        proposal = torch.where(bisect, middle, newton)
        done = (
            (total == 1)
            | ((proposal - tau).abs() <= eps * tau.abs())
            | (high - low <= eps * high.abs())
            | total.isnan()
        )
        tau = torch.where(done, tau, proposal)
        if bool(done.all()):
            break
    return tau + shift


def _masses(theta: Tensor, tau: Tensor, alpha: float, log_q: Tensor | None) -> Tensor:
    """q_j u_j, exactly zero where a class is inactive."""
    exponent = torch.log1p(((alpha - 1) * (theta - tau)).clamp(min=-1)) / (alpha - 1)
    return torch.exp(exponent if log_q is None else exponent + log_q)


def posterior(logits: Tensor, tau: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """p* [..., C] from the threshold."""
    if alpha == 1.0:
        return torch.exp((logits if log_q is None else logits + log_q) - tau)
    return _masses(logits, tau, alpha, log_q)


class _AlphaSoftargmax(torch.autograd.Function):
    """Implicit differentiation. With s_j = q_j u_j^{2−α}:  dp = s ⊙ (dθ − dτ) + p ⊙ d ln q  and  Σ dp = 0, hence

    dτ = (⟨s, dθ⟩ + ⟨p, d ln q⟩) / Σs,   ∂θ ← s ⊙ (g − ḡ),   ∂ln q ← p ⊙ (g − ḡ),   ḡ = ⟨g, s⟩ / Σs.
    """

    @staticmethod
    def forward(ctx, logits, log_q, alpha):
        tau = solve_threshold(logits, alpha, log_q)
        p = posterior(logits, tau, alpha, log_q)
        sensitivity = p if alpha == 1.0 else _sensitivity(p, logits, tau, alpha)
        ctx.save_for_backward(p, sensitivity)
        ctx.q_shape = None if log_q is None else log_q.shape
        return p

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        p, s = ctx.saved_tensors
        centred = grad - (grad * s).sum(-1, keepdim=True) / s.sum(-1, keepdim=True)
        grad_q = None if ctx.q_shape is None else (p * centred).sum_to_size(ctx.q_shape)
        return s * centred, grad_q, None


def _sensitivity(p: Tensor, logits: Tensor, tau: Tensor, alpha: float) -> Tensor:
    base = 1 + (alpha - 1) * (logits - tau)
    return torch.where(p > 0, p / base.clamp(min=torch.finfo(p.dtype).tiny), 0)


def alpha_softargmax(logits: Tensor, alpha: float, q: Tensor | None = None) -> Tensor:
    """Posterior of the α-divergence with reference measure `q`, over the last axis.

    p* = argmax_{p ∈ simplex} ⟨p, logits⟩ − D_α(p, q)  (arXiv 2511.13621, eq. of the α-softargmax).

    Parameters
    ----------
    logits : Tensor [..., C]
        In nats, any float dtype. −inf is an impossible class. Solved in float32, or float64 if given.
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
        If alpha < 1, there is no class, or q is not positive.

    Example
    -------
    >>> alpha_softargmax(torch.tensor([1.0, 0.5, -3.0]), alpha=2.0)
    tensor([0.7500, 0.2500, 0.0000])
    """
    alpha = check_alpha(alpha)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need at least one class on the last axis, got shape {tuple(logits.shape)}")
    dtype = working_dtype(logits.dtype, alpha)
    return _AlphaSoftargmax.apply(logits.to(dtype), log_measure(q, dtype), alpha).to(logits.dtype)


def log_measure(q: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """ln q in the working dtype, or None; refuses a measure with zero, negative or NaN entries."""
    if q is None:
        return None
    if not bool((q > 0).all()):
        raise ValueError(
            f"the reference measure q must be positive everywhere, its minimum is {q.min().item()}"
        )
    return q.to(dtype).log()
