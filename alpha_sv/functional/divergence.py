"""The divergence by its own name,
and the two functions that Fenchel duality pairs with its generator.

`plain.py` has the definitions, on the page of the whole family; here are

    f'(u) = (uᵅ⁻¹ − 1) / (α − 1)                   α → 1:  ln u
    f*(v) = ([1 + (α−1)v]₊^{α/(α−1)} − 1) / α      α → 1:  eᵛ − 1      (convex conjugate over u ≥ 0)

>>> from alpha_sv.functional import divergence
>>> divergence.alpha_divergence(
...     torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]), alpha=1.5
... )
tensor(0.)
"""

from __future__ import annotations

import sys
import types
import warnings

import torch
from torch import Tensor

from alpha_sv.functional.checks import check_alpha
from alpha_sv.functional.plain import alpha_divergence, generator, vertex_divergence

__all__ = [
    "alpha_divergence",
    "check_alpha",
    "generator",
    "generator_conjugate",
    "generator_derivative",
    "vertex_divergence",
]


def generator_derivative(u: Tensor, alpha: float) -> Tensor:
    """f'(u) = (uᵅ⁻¹ − 1)/(α − 1), elementwise: the deformed logarithm ln_α(u)."""
    alpha = check_alpha(alpha)
    return torch.log(u) if alpha == 1.0 else (u.pow(alpha - 1) - 1) / (alpha - 1)


def generator_conjugate(v: Tensor, alpha: float) -> Tensor:
    """f*(v) = max_{u ≥ 0} uv − f(u) = ([1 + (α−1)v]₊^{α/(α−1)} − 1) / α,
    elementwise; eᵛ − 1 at α = 1."""
    alpha = check_alpha(alpha)
    if alpha == 1.0:
        return torch.expm1(v)
    return ((1 + (alpha - 1) * v).clamp(min=0).pow(alpha / (alpha - 1)) - 1) / alpha


class _Divergence(types.ModuleType):
    """`alpha_sv.functional.divergence` was the function once: calling the module still works."""

    def __call__(self, p: Tensor, q: Tensor, alpha: float) -> Tensor:
        warnings.warn("alpha_sv.functional.divergence is now alpha_divergence", FutureWarning, stacklevel=2)
        return alpha_divergence(p, q, alpha)

    divergence = __call__


sys.modules[__name__].__class__ = _Divergence
