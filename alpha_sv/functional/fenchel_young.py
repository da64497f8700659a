"""The Fenchel-Young loss of the α-divergence,
touching only the active classes; ∂loss/∂θ = p* − e_y.

    loss = max_p {⟨p, θ⟩ − D(p, q)} + D(e_y, q) − θ_y ≥ 0

With b_j = 1 + (α−1)(θ_j − τ) = (p_j / q_j)^{α−1} on the
active classes and Σ p = 1, every inactive class cancels:

    loss = Σ_{active} p_j (b_j − 1) / α − (θ_y − τ) + expm1((1−α) ln q_y) / (α(α−1)).

α = 1 is the cross-entropy of softmax(θ + ln q). Nothing dense is kept for the backward pass at
α > 1. The gradient of the loss is the posterior, which `alpha_sv.functional.softargmax`
differentiates again, where that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alpha_sv.functional.checks import (
    check_alpha,
    check_broadcast,
    check_target,
    log_measure,
    transformed,
    use_plain,
    working_dtype,
)
from alpha_sv.functional.margins import ANGULAR, log_measure_of_target, margin_logits, target_cosine, target_slope
from alpha_sv.functional.plain import envelope, plain_loss, vertex_term
from alpha_sv.functional.softargmax import entries, posterior
from alpha_sv.functional.solver import Active, find_active


def fenchel_young_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float,
    q: Tensor | None = None,
    *,
    log_q: Tensor | None = None,
    implementation: str = "fast",
) -> Tensor:
    """Fenchel-Young loss of the α-divergence, per example,
    no reduction (arXiv 2511.13621; arXiv 1901.02324).

    Parameters
    ----------
    logits : Tensor [..., C]
        In nats, any float dtype; computed in float32, or float64 if given.
    target : integer Tensor [...]
        The class of each row, 0 ≤ target < C.
    alpha : float
        Order, ≥ 1; 1 is the cross-entropy of softmax(logits + ln q), plus −ln q_y.
    q : Tensor [..., C], optional
        Positive reference measure, broadcast against `logits`; None means all ones.
    log_q : Tensor [..., C], optional
        ln q instead of q, for measures such as exp(−s·m) that may underflow. Give one of the two.
    implementation : {"fast", "plain"}
        "plain" is the page `alpha_sv.functional.plain`, to read, to step through,
        or to compare with. Inside a transform of `torch.func` it does the work anyway.

    Returns
    -------
    Tensor [...]
        float32 (float64 for float64 logits), ≥ 0, in nats; exactly the target's margin
        condition makes it 0. Differentiable to any order, in `logits` and in the measure.

    Raises
    ------
    ValueError
        For alpha < 1, a target outside [0, C) or of the wrong shape or type,
        a q that is not positive, or both q and log_q.

    Example
    -------
    >>> logits = torch.tensor([[2.0, 0.5, 0.0], [0.2, 0.1, 0.0]])
    >>> fenchel_young_loss(logits, torch.tensor([0, 1]), alpha=2.0)
    tensor([0.0000, 0.3433])
    """
    alpha = check_alpha(alpha)
    if q is not None and log_q is not None:
        raise ValueError("give q or log_q, not both")
    check_target(target, logits)
    dtype = working_dtype(logits.dtype, alpha)
    if log_q is None:
        log_q = log_measure(q, logits, dtype)
    else:
        check_broadcast(log_q, logits, "log_q")
        log_q = log_q.to(dtype)
    theta, target = logits.to(dtype), target.long()
    plain = use_plain(implementation, theta, log_q)
    if alpha == 1.0:
        loss = _cross_entropy(theta, log_q, target)
    elif plain:
        loss = plain_loss(theta, target, alpha, log_q)
    else:
        rows = theta.reshape(-1, theta.shape[-1])
        log_q = None if log_q is None else log_q.expand_as(theta).reshape(rows.shape)
        loss = _loss_of_rows(rows, target.reshape(-1), alpha, log_q).view(target.shape)
    return loss.to(working_dtype(logits.dtype, 1.0))


def margin_loss(
    cosines: Tensor,
    target: Tensor,
    *,
    alpha: float,
    scale: float,
    margin: float,
    place: str,
    watch: Callable[[Active], None] | None = None,
    implementation: str = "fast",
) -> Tensor:
    """Fenchel-Young loss of scaled cosines with a margin, per example;
    equals `fenchel_young_loss` of `margins.margin_logits`, without making them.

    Parameters
    ----------
    cosines : Tensor [N, C]
        In [−1, 1].
    target : int64 Tensor [N]
        Labels.
    alpha, scale, margin, place, implementation
        As `alpha_sv.losses.MarginLoss`.
    watch : callable, optional
        Called with what is active, if α > 1.

    Returns
    -------
    Tensor [N]
        In nats.

    Example
    -------
    >>> cosines, target = torch.tensor([[0.9, 0.1, 0.0]]), torch.tensor([0])
    >>> margin_loss(cosines, target, alpha=1.5, scale=10.0, margin=0.2, place="angle")
    tensor([0.])
    """
    dtype = working_dtype(cosines.dtype, alpha)
    values = cosines.to(dtype)
    how = {"scale": scale, "margin": margin, "place": place}
    if alpha == 1.0 or use_plain(implementation, values):
        logits, log_q = margin_logits(values, target, **how)
        if watch is not None and alpha > 1.0 and not transformed(values):
            _find_with_margin(values.detach(), target, alpha, how, watch)
        loss = _cross_entropy(logits, log_q, target) if alpha == 1.0 else plain_loss(logits, target, alpha, log_q)
    else:
        loss = _loss_with_margin(values, target, alpha, how, watch)
    return loss.to(working_dtype(cosines.dtype, 1.0))


def _cross_entropy(logits: Tensor, log_q: Tensor | None, target: Tensor) -> Tensor:
    weighted = logits if log_q is None else logits + log_q
    return F.cross_entropy(weighted.movedim(-1, 1) if weighted.ndim > 2 else weighted, target, reduction="none")


@torch.no_grad()
def _find_with_margin(values: Tensor, target: Tensor, alpha: float, how: dict, watch: Callable | None) -> Active:
    cosine = values.gather(1, target.unsqueeze(1)).squeeze(1)
    value = target_cosine(cosine, margin=how["margin"], place=how["place"])
    log_q = log_measure_of_target(**how)
    found = find_active(values, target, alpha=alpha, scale=how["scale"], target_value=value, log_q=log_q)
    if watch is not None:
        watch(found)
    return found


@torch.compiler.disable  # shapes depend on the data
def _loss_with_margin(values, target, alpha, how, watch):
    found = _find_with_margin(values, target, alpha, how, watch)
    return _ActiveLoss.apply(entries(values, found), None, found, alpha, how)


@torch.compiler.disable
def _loss_of_rows(theta, target, alpha, log_q):
    with torch.no_grad():
        value = theta.gather(1, target.unsqueeze(1)).squeeze(1)
        found = find_active(theta, target, alpha=alpha, target_value=value, log_q=log_q)
    return _ActiveLoss.apply(entries(theta, found), entries(log_q, found), found, alpha, _NO_MARGIN)


_NO_MARGIN = {"scale": 1.0, "margin": 0.0, "place": "none"}


class _ActiveLoss(torch.autograd.Function):
    """The loss [N] as a function of the active `values`
    [n] and ln q [n], of which the solver made `found`.

    θ = values, or with `how` (scale, margin, place) scale·values,
    but for the targets, whose cosine has the margin.
    """

    @staticmethod
    def forward(ctx, values, log_q, found, alpha, how):
        ctx.save_for_backward(values, log_q, found.p, found.rows, found.offsets, found.at)
        ctx.alpha, ctx.how = alpha, how
        log_q_target = log_measure_of_target(**how) if log_q is None else log_q.index_select(0, found.at)
        return loss_of(found, alpha, log_q_target).to(values.dtype)

    @staticmethod
    def backward(ctx, grad):
        values, log_q, p, rows, offsets, at = ctx.saved_tensors
        alpha, how = ctx.alpha, ctx.how
        if torch.is_grad_enabled():  # somebody wants the next derivative: p as a function of values and ln q
            measure = _measure_of_target(values, at, how) if log_q is None else log_q
            p = posterior(_logits(values, at, how), measure, p, rows, offsets, alpha)
        grad_row = grad.index_select(0, rows)
        residual = p.to(values.dtype).index_add(0, at, torch.full_like(grad, -1.0))
        slope = target_slope(values.index_select(0, at), margin=how["margin"], place=how["place"])
        if slope is not None:
            residual = residual.index_copy(0, at, residual.index_select(0, at) * slope)
        grad_q = None
        if ctx.needs_input_grad[1]:
            log_q = log_q.double()
            vertex = -torch.exp((1 - alpha) * log_q.index_select(0, at))
            grad_q = envelope(p, log_q, alpha).index_add(0, at, vertex) * grad_row / alpha
        return residual * grad_row * how["scale"], grad_q, None, None, None


def _logits(values: Tensor, at: Tensor, how: dict) -> Tensor:
    """θ of the active cosines, but for a constant, as autograd can follow it."""
    if how["place"] in ANGULAR:
        own = target_cosine(values.index_select(0, at), margin=how["margin"], place=how["place"])
        values = values.index_copy(0, at, own)
    return how["scale"] * values


def _measure_of_target(values: Tensor, at: Tensor, how: dict) -> Tensor | None:
    log_q = log_measure_of_target(**how)
    return torch.zeros_like(values).index_fill(0, at, log_q) if log_q else None


def loss_of(found: Active, alpha: float, log_q_target: Tensor | float | None) -> Tensor:
    """The loss of each row of what the solver found, float64 [N]."""
    return closed_form(found.row_sums((found.base - 1).mul_(found.p)), found.target_gap, alpha, log_q_target)


def closed_form(spread: Tensor, target_gap: Tensor, alpha: float, log_q_target: Tensor | float | None) -> Tensor:
    """The closed form above, [N], from Σ p_j (b_j − 1), θ_y − τ and ln q_y."""
    if isinstance(log_q_target, Tensor):
        vertex = vertex_term(log_q_target.double(), alpha)
    else:
        vertex = math.expm1((1 - alpha) * (log_q_target or 0.0)) / (alpha * (alpha - 1))
    loss = torch.sub(spread / alpha, target_gap).add_(vertex)
    return loss.clamp_(min=0)  # ≥ 0 is a theorem; rounding may say −1e-8
