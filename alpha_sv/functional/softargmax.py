"""α-softargmax: the posterior p* = argmax_{p ∈ simplex} ⟨p, θ⟩ − D(p, q), exactly sparse for α > 1.

Solved by `alpha_sv.functional.active`; `alpha_sv.functional.reference` is the plain version. What is kept for the
backward pass grows with the number of active classes, not with C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.active import find_active, row_sums
from alpha_sv.functional.checks import check_logits, log_measure, working_dtype
from alpha_sv.functional.divergence import check_alpha


class _AlphaSoftargmax(torch.autograd.Function):
    """Implicit differentiation. With s_j = ∂p_j/∂θ_j at fixed τ = p_j / b_j:  dp = s ⊙ (dθ − dτ) + p ⊙ d ln q  and
    Σ dp = 0, hence  dτ = (⟨s, dθ⟩ + ⟨p, d ln q⟩) / Σs,   ∂θ ← s ⊙ (g − ḡ),   ∂ln q ← p ⊙ (g − ḡ),   ḡ = ⟨g, s⟩ / Σs.
    """

    @staticmethod
    def forward(ctx, logits, log_q, alpha):
        found = find_active(logits, alpha, log_q=log_q)
        slope = torch.where(found.p > 0, found.p / found.base, 0)
        ctx.save_for_backward(found.rows, found.flat, found.offsets, found.p, slope)
        return _dense(found.p, found.flat, logits)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        rows, flat, offsets, p, slope = ctx.saved_tensors
        grad_active = grad.reshape(-1).index_select(0, flat).double()
        mean = row_sums(grad_active * slope, offsets) / row_sums(slope, offsets)
        centred = grad_active - mean.index_select(0, rows)
        grad_q = _dense(p * centred, flat, grad) if ctx.needs_input_grad[1] else None
        return _dense(slope * centred, flat, grad), grad_q, None


def _dense(values: Tensor, flat: Tensor, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape).view(-1).index_add_(0, flat, values.to(like.dtype)).view(like.shape)


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
    log_q = log_measure(q, logits, dtype)
    theta = logits.to(dtype)
    if alpha == 1.0:
        return torch.softmax(theta if log_q is None else theta + log_q, -1).to(logits.dtype)
    return _solve_rows(theta, log_q, alpha).to(logits.dtype)


@torch.compiler.disable  # shapes depend on the data
def _solve_rows(theta: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    flat_q = None if log_q is None else log_q.expand_as(theta).reshape(-1, theta.shape[-1])
    return _AlphaSoftargmax.apply(theta.reshape(-1, theta.shape[-1]), flat_q, alpha).view(theta.shape)
