"""The α-divergence, from its generator f to the vertex term: the definitions everything else is derived from.

    f(u)    = (uᵅ − 1 − α(u − 1)) / (α(α − 1))        α → 1:  u ln u − u + 1
    f'(u)   = (uᵅ⁻¹ − 1) / (α − 1)                    α → 1:  ln u
    f*(v)   = ([1 + (α−1)v]₊^{α/(α−1)} − 1) / α       α → 1:  eᵛ − 1      (convex conjugate over u ≥ 0)
    D(p, q) = Σⱼ qⱼ f(pⱼ / qⱼ)

They are written for clarity and used as oracles; the solver and the loss use forms without cancellation.
Source: "Alpha Divergence Losses for Biometric Verification", arXiv 2511.13621.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_alpha(alpha: float) -> float:
    """Return `alpha` as a float, or say why it cannot be one: α must be finite and at least 1."""
    alpha = float(alpha)
    if not (math.isfinite(alpha) and alpha >= 1.0):
        raise ValueError(f"alpha must be a finite number >= 1 (1 is the softmax), got {alpha}")
    return alpha


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


def generator_derivative(u: Tensor, alpha: float) -> Tensor:
    """f'(u) = (uᵅ⁻¹ − 1)/(α − 1), elementwise: the deformed logarithm ln_α(u)."""
    alpha = check_alpha(alpha)
    return torch.log(u) if alpha == 1.0 else (u.pow(alpha - 1) - 1) / (alpha - 1)


def generator_conjugate(v: Tensor, alpha: float) -> Tensor:
    """f*(v) = max_{u ≥ 0} uv − f(u), elementwise."""
    alpha = check_alpha(alpha)
    if alpha == 1.0:
        return torch.expm1(v)
    return ((1 + (alpha - 1) * v).clamp(min=0).pow(alpha / (alpha - 1)) - 1) / alpha


def divergence(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """D(p, q) = Σⱼ qⱼ f(pⱼ/qⱼ) over the last axis; ≥ 0 when p and q have the same mass.

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
    >>> divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), alpha=1.5)
    tensor(0.)
    """
    return (q * generator(p / q, alpha)).sum(-1)


def vertex_divergence(target: Tensor, q: Tensor, alpha: float) -> Tensor:
    """D(e_y, q) = q_y f(1/q_y) + f(0) Σ_{j≠y} qⱼ: what makes the Fenchel-Young loss vanish at p* = e_y.

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
