"""Oracles and inputs that every loss must pass: definitions written out, slowly and in float64."""

import math

import torch
import torch.nn.functional as F

from alpha_sv import losses

ALPHAS = [1.0, 1.0 + 1e-9, 1.01, 1.25, 1.5, 1.75, 2.0, 3.0]

# every named loss with margins on, and Q-Margin and A3M over the published α
INSTANCES = {
    "NormSoftmax": lambda: losses.NormSoftmax(),
    "AMSoftmax": lambda: losses.AMSoftmax(),
    "AAMSoftmax": lambda: losses.AAMSoftmax(),
    "Sparsemax": lambda: losses.Sparsemax(),
    "Entmax": lambda: losses.Entmax(),
    **{
        f"{name}-{alpha}": lambda name=name, alpha=alpha: losses.NAMED[name](alpha=alpha, scale="auto", margin=0.2)
        for name in ("QMargin", "A3M")
        for alpha in (1.25, 1.5, 1.75, 2.0)
    },
}


def bisect_threshold(theta, alpha, q):
    """τ by bisection on Σ q [1 + (α−1)(θ−τ)]₊^{1/(α−1)} = 1 for one row of Python floats."""

    def mass(tau):
        if alpha == 1.0:
            return math.fsum(w * math.exp(t - tau) for t, w in zip(theta, q, strict=True))
        powers = (max(1 + (alpha - 1) * (t - tau), 0.0) ** (1 / (alpha - 1)) for t in theta)
        return math.fsum(w * u for w, u in zip(q, powers, strict=True))

    low, high = min(theta) - 1e6, max(theta) + 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) >= 1 else (low, middle)
    return (low + high) / 2


def plain_cosface(cosines, target, scale, margin):
    one_hot = F.one_hot(target, cosines.shape[-1]).to(cosines)
    return F.cross_entropy(scale * (cosines - margin * one_hot), target, reduction="none")


def plain_arcface(cosines, target, scale, margin):
    one_hot = F.one_hot(target, cosines.shape[-1]).bool()
    angles = torch.arccos(cosines)
    return F.cross_entropy(scale * torch.where(one_hot, (angles + margin).cos(), cosines), target, reduction="none")


def random_cosines(rows, classes, dim=16, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(rows, dim, generator=generator, dtype=dtype), dim=-1)
    w = F.normalize(torch.randn(classes, dim, generator=generator, dtype=dtype), dim=-1)
    return x @ w.T, torch.randint(classes, (rows,), generator=generator)
