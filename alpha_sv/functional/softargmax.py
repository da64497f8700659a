"""α-softargmax: the posterior p* = argmax_{p ∈ simplex} ⟨p, θ⟩ − D(p, q), exactly sparse for α > 1.

Solved by `alpha_sv.functional.solver`; `alpha_sv.functional.plain` is the readable version.
What is kept for the backward pass grows with the number of active classes, not with C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.checks import check_alpha, check_logits, log_measure, use_plain, working_dtype
from alpha_sv.functional.newton import row_sums
from alpha_sv.functional.plain import log_slope, plain_softargmax
from alpha_sv.functional.solver import Active, find_active


def alpha_softargmax(logits: Tensor, alpha: float, q: Tensor | None = None, *, implementation: str = "fast") -> Tensor:
    """Posterior of the α-divergence with reference measure `q`, over the last axis.

    p* = argmax_{p ∈ simplex} ⟨p, logits⟩ − D_α(p, q)  (the α-softargmax of arXiv 2511.13621).

    Parameters
    ----------
    logits : Tensor [..., C]
        In nats, any floating dtype. −inf is an impossible class.
        Solved in float32, or float64 if given.
    alpha : float
        Order, ≥ 1. 1 is softmax; above 1 most entries are exactly zero.
    q : Tensor [..., C], optional
        Positive reference measure, broadcast against `logits`;
        it need not sum to 1. None means all ones.
    implementation : {"fast", "plain"}
        "plain" is the page `alpha_sv.functional.plain`, to read, to step through,
        or to compare with. Inside a transform of `torch.func` it does the work anyway.

    Returns
    -------
    Tensor [..., C]
        Same shape and dtype as `logits`; rows sum to 1. Rows with NaN,
        +inf or nothing but −inf are NaN. Differentiable to any order, in `logits` and in `q`.

    Raises
    ------
    ValueError
        If alpha < 1, there is no class, the logits are not floating,
        or q is not positive and finite or does not broadcast against the logits.

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
    solve = plain_softargmax if use_plain(implementation, theta, log_q) else _over_active
    return solve(theta, alpha, log_q).to(logits.dtype)


@torch.compiler.disable  # shapes depend on the data
def _over_active(theta: Tensor, alpha: float, log_q: Tensor | None) -> Tensor:
    rows = theta.reshape(-1, theta.shape[-1])
    log_q = None if log_q is None else log_q.expand_as(theta).reshape(rows.shape)
    with torch.no_grad():
        found = find_active(rows, alpha=alpha, log_q=log_q)
    p = posterior(entries(rows, found), entries(log_q, found), found.p, found.rows, found.offsets, alpha)
    return theta.new_zeros(rows.numel()).index_add(0, found.flat, p.to(theta.dtype)).view(theta.shape)


def entries(values: Tensor | None, found: Active) -> Tensor | None:
    """The active of `values` [N, C], [n]."""
    return None if values is None else values.reshape(-1).index_select(0, found.flat)


def posterior(theta: Tensor, log_q: Tensor | None, p: Tensor, rows: Tensor, offsets: Tensor, alpha: float) -> Tensor:
    """`p` of the active classes, as of `Active`, float64 [n],
    as a function of their logits and ln q [n]."""
    return _ActivePosterior.apply(theta.double(), None if log_q is None else log_q.double(), p, rows, offsets, alpha)


class _ActivePosterior(torch.autograd.Function):
    """As `alpha_sv.functional.plain._Posterior`,
    over the active classes: nothing moves where p = 0."""

    @staticmethod
    def forward(ctx, theta, log_q, p, rows, offsets, alpha):
        p = p.clone()  # an output, so that the next derivative comes back here
        ctx.save_for_backward(p, log_q, rows, offsets)
        ctx.alpha = alpha
        return p

    @staticmethod
    def backward(ctx, grad):
        p, log_q, rows, offsets = ctx.saved_tensors
        s = log_slope(p, log_q, ctx.alpha).exp()
        mean = _totals(grad * s, rows, offsets) / _totals(s, rows, offsets)
        centred = grad - mean
        return s * centred, None if log_q is None else p * centred, *[None] * 4


def _totals(values: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """The sum over its row, in the place of each entry, [n]."""
    return _Totals.apply(values, rows, offsets)


class _Totals(torch.autograd.Function):
    """A symmetric linear map, so its own derivative."""

    @staticmethod
    def forward(ctx, values, rows, offsets):
        ctx.save_for_backward(rows, offsets)
        return row_sums(values, offsets).index_select(0, rows)

    @staticmethod
    def backward(ctx, grad):
        return _Totals.apply(grad.contiguous(), *ctx.saved_tensors), None, None
