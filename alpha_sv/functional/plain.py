"""The loss family on one page, over all classes:
what the fast path must equal, and what it falls back to.

    f(u)    = (uᵅ − 1 − α(u − 1)) / (α(α − 1))        α → 1:  u ln u − u + 1
    D(p, q) = Σ_j q_j f(p_j / q_j)
    p*      = argmax_{p ∈ simplex} ⟨p, θ⟩ − D(p, q)
            = q_j b_j^{1/(α−1)},  b_j = [1 + (α−1)(θ_j − τ)]₊,
              τ the one root of  F(τ) = Σ_j p*_j = 1
    loss    = ⟨p*, θ⟩ − D(p*, q) + D(e_y, q) − θ_y  ≥ 0,    ∂loss/∂θ = p* − e_y

α = 1 gives softmax(θ + ln q) and its cross-entropy, α = 2 with q = 1 is sparsemax, α = 1.5 is
entmax-1.5 with its logits halved. Sources: arXiv 2511.13621 (the family with a measure q),
arXiv 1901.02324 (Fenchel-Young losses), arXiv 1602.02068 (sparsemax), arXiv 1905.05702 (entmax).

`implementation="plain"` chooses this page in `alpha_softargmax`, `fenchel_young_loss` and the
losses. Derivatives are right to any order, and under every transform of `torch.func`: the backward
pass is written in operations that autograd differentiates again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.checks import check_alpha
from alpha_sv.functional.plain_solver import NEAR_ONE, Solution, solve  # noqa: F401  they belong to the page


def generator(u: Tensor, alpha: float) -> Tensor:
    """f(u), elementwise, for u ≥ 0; f(1) = f'(1) = 0 and f(0) = 1/α.

    Example
    -------
    >>> generator(torch.tensor([0.0, 1.0, 2.0]), alpha=2.0)
    tensor([0.5000, 0.0000, 0.5000])
    """
    alpha = check_alpha(alpha)
    if alpha == 1.0:
        return torch.special.xlogy(u, u) - u + 1
    return (u.pow(alpha) - 1 - alpha * (u - 1)) / (alpha * (alpha - 1))


def alpha_divergence(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """D(p, q) = Σ_j q_j f(p_j/q_j) over the last axis; ≥ 0 when p and q have the same mass.

    Parameters
    ----------
    p : Tensor [..., C]
        Non-negative.
    q : Tensor [..., C]
        Positive reference measure; it need not sum to 1. Broadcast against `p`.
    alpha : float
        Order, ≥ 1.

    Returns
    -------
    Tensor [...]
        In nats.

    Example
    -------
    >>> alpha_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), alpha=1.5)
    tensor(0.)
    """
    return (q * generator(p / q, alpha)).sum(-1)


def vertex_divergence(target: Tensor, q: Tensor, alpha: float) -> Tensor:
    """D(e_y, q) = q_y f(1/q_y) + f(0) Σ_{j≠y} q_j:
    what makes the Fenchel-Young loss vanish at p* = e_y.

    Parameters
    ----------
    target : integer Tensor [...]
        The class y of each row.
    q : Tensor [..., C]
        Positive reference measure.
    alpha : float
        Order, ≥ 1.

    Returns
    -------
    Tensor [...]
        In nats; 0 only for one class with q_y = 1.
    """
    q_target = q.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    others = q.sum(-1) - q_target
    return q_target * generator(1 / q_target, alpha) + others * generator(torch.zeros_like(others), alpha)


def plain_softargmax(logits: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """Posterior p* [..., C] over all classes.

    >>> plain_softargmax(torch.tensor([1.0, 0.5, -3.0]), alpha=2.0)
    tensor([0.7500, 0.2500, 0.0000])
    """
    return _Posterior.apply(logits, None if log_q is None else log_q.expand_as(logits), alpha)


def plain_loss(logits: Tensor, target: Tensor, alpha: float, log_q: Tensor | None = None) -> Tensor:
    """The Fenchel-Young loss per example [...], of logits [..., C] and target [...].

    In the form without cancellation,

        (α−1)/α · Σ_j p_j (θ_j − τ) − (θ_y − τ) + expm1((1−α) ln q_y) / (α(α−1)).
    """
    log_q = None if log_q is None else log_q.expand_as(logits)
    return _Loss.apply(logits, log_q, target.unsqueeze(-1), alpha)[0]


def vertex_term(log_q_target, alpha: float) -> Tensor:
    """expm1((1−α) ln q_y) / (α(α−1)), and its limit −ln q_y at α = 1: what is left of D(e_y, q)."""
    if alpha == 1.0:
        return -log_q_target
    return torch.expm1((1 - alpha) * log_q_target) / (alpha * (alpha - 1))


def log_slope(p: Tensor, log_q: Tensor | None, alpha: float) -> Tensor:
    """ln s_j, s_j = ∂p_j/∂θ_j at fixed τ = p_j / b_j = q_j^{α−1} p_j^{2−α}; −inf where p = 0."""
    active = p > 0
    log_p = torch.where(active, p, 1).log()
    log_s = (2 - alpha) * log_p if log_q is None else (2 - alpha) * log_p + (alpha - 1) * log_q
    return torch.where(active, log_s, -torch.inf)


def envelope(p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """p_j b_j = p_j (p_j/q_j)^{α−1}:
    by the envelope theorem α ∂(max_p …)/∂ln q_j; 0 where p = 0."""
    active = p > 0
    log_p = torch.where(active, p, 1).log()
    return torch.where(active, torch.exp(alpha * log_p + (1 - alpha) * torch.where(active, log_q, 0)), 0)


class _Posterior(torch.autograd.Function):
    """Implicit differentiation.  dp = s ⊙ (dθ − dτ) + p ⊙ d ln q  and  Σ dp = 0,  hence

        dτ = (⟨s, dθ⟩ + ⟨p, d ln q⟩) / Σs,
        ∂θ ← s ⊙ (g − ḡ),     ∂ln q ← p ⊙ (g − ḡ),     ḡ = ⟨g, s⟩ / Σs.

    p is an output, so where the backward pass uses it,
    autograd comes back here for the next derivative.
    """

    @staticmethod
    def forward(logits, log_q, alpha):
        return solve(logits, alpha, log_q).p

    @staticmethod
    def setup_context(ctx, inputs, p):
        _, log_q, ctx.alpha = inputs
        ctx.save_for_backward(p, log_q)
        ctx.save_for_forward(p, log_q)

    @staticmethod
    def backward(ctx, grad):
        p, log_q = ctx.saved_tensors
        log_s = log_slope(p, log_q, ctx.alpha)
        centred = grad - (grad * log_s.softmax(-1)).sum(-1, keepdim=True)
        return log_s.exp() * centred, None if log_q is None else p * centred, None

    @staticmethod
    def jvp(ctx, d_logits, d_log_q, _):
        p, log_q = ctx.saved_tensors
        log_s = log_slope(p, log_q, ctx.alpha)
        push = torch.zeros_like(p) if d_logits is None else log_s.exp() * d_logits
        push = push if d_log_q is None else push + p * d_log_q
        return push - log_s.softmax(-1) * push.sum(-1, keepdim=True)

    @staticmethod
    def vmap(info, in_dims, logits, log_q, alpha):
        return _Posterior.apply(*_batch_first(info, in_dims, logits, log_q), alpha), 0


class _Loss(torch.autograd.Function):
    """∂loss/∂ln q_j = (p_j b_j − [j=y] q_y^{1−α}) / α,
    by the envelope theorem: ∂D/∂q = (1 − u^α)/α."""

    @staticmethod
    def forward(logits, log_q, index, alpha):
        solution = solve(logits, alpha, log_q)
        p, gap = solution.p, solution.gap
        spread = (p * torch.where(p > 0, gap, 0)).sum(-1, keepdim=True)  # where: 0·(−inf) is 0 here
        loss = (alpha - 1) / alpha * spread - gap.gather(-1, index)
        if log_q is not None:
            loss = loss + vertex_term(log_q.gather(-1, index), alpha)
        return loss.squeeze(-1).clamp(min=0), p  # ≥ 0 is a theorem; rounding may say −1e-8

    @staticmethod
    def setup_context(ctx, inputs, outputs):
        logits, log_q, index, ctx.alpha = inputs
        ctx.mark_non_differentiable(outputs[1])
        ctx.save_for_backward(logits, log_q, index, outputs[1])
        ctx.save_for_forward(logits, log_q, index)

    @staticmethod
    def backward(ctx, grad, _):
        logits, log_q, index, p = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the next derivative: p as a function of θ and q
            p = _Posterior.apply(logits, log_q, ctx.alpha)
        grad_logits, grad_log_q = _gradients(p, log_q, index, ctx.alpha)
        grad = grad.unsqueeze(-1)
        return grad * grad_logits, None if log_q is None else grad * grad_log_q, None, None

    @staticmethod
    def jvp(ctx, d_logits, d_log_q, *_):
        logits, log_q, index = ctx.saved_tensors
        grads = _gradients(_Posterior.apply(logits, log_q, ctx.alpha), log_q, index, ctx.alpha)
        pairs = [(g, d) for g, d in zip(grads, (d_logits, d_log_q), strict=True) if d is not None]
        return sum((g * d).sum(-1) for g, d in pairs), None

    @staticmethod
    def vmap(info, in_dims, logits, log_q, index, alpha):
        return _Loss.apply(*_batch_first(info, in_dims, logits, log_q, index), alpha), (0, 0)


def _gradients(p: Tensor, log_q: Tensor | None, index: Tensor, alpha: float) -> tuple[Tensor, Tensor | None]:
    """∂loss/∂θ = p − e_y and ∂loss/∂ln q."""
    grad_logits = p.scatter_add(-1, index, -torch.ones_like(index, dtype=p.dtype))
    if log_q is None:
        return grad_logits, None
    vertex = -torch.exp((1 - alpha) * log_q.gather(-1, index))
    return grad_logits, envelope(p, log_q, alpha).scatter_add(-1, index, vertex) / alpha


def _batch_first(info, in_dims, *tensors: Tensor | None) -> list[Tensor | None]:
    """The axis that `torch.func.vmap` hides, in front,
    in every tensor: rows do not know of each other."""

    def move(tensor, dim):
        if tensor is None or dim is not None:
            return tensor if tensor is None else tensor.movedim(dim, 0)
        return tensor.expand(info.batch_size, *tensor.shape)

    return [move(tensor, dim) for tensor, dim in zip(tensors, in_dims, strict=False)]
