"""The Fenchel-Young loss of the α-divergence, touching only the active classes; ∂loss/∂θ = p* − e_y.

    loss = max_p {⟨p, θ⟩ − D(p, q)} + D(e_y, q) − θ_y ≥ 0

With b_j = 1 + (α−1)(θ_j − τ) = (p_j / q_j)^{α−1} on the active classes and Σ p = 1, every inactive class cancels:

    loss = Σ_{active} p_j (b_j − 1) / α − (θ_y − τ) + expm1((1−α) ln q_y) / (α(α−1)).

α = 1 is the cross-entropy of softmax(θ + ln q). Nothing dense is kept for the backward pass at α > 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from alpha_sv.functional.active import Active, find_active
from alpha_sv.functional.checks import check_broadcast, check_target, log_measure, working_dtype
from alpha_sv.functional.divergence import check_alpha
from alpha_sv.functional.margins import log_measure_of_target, margin_logits, target_cosine, target_slope
from alpha_sv.functional.reference import vertex_term


class _ActiveLoss(torch.autograd.Function):
    """θ = scale·values but for the target, whose value is given with its `slope` ∂target_value/∂values_y.

    ∂loss/∂ln q_j = (p_j b_j − [j=y] q_y^{1−α}) / α, by the envelope theorem: ∂D/∂q = (1 − u^α)/α.
    """

    @staticmethod
    def forward(ctx, values, log_q, target, target_value, slope, alpha, scale, watch):
        found = find_active(values, alpha, scale, target, target_value, log_q)
        if watch is not None:
            watch(found)
        ctx.log_q_target = log_q.gather(1, target.unsqueeze(1)).squeeze(1) if isinstance(log_q, Tensor) else log_q
        p, base = found.p.to(values.dtype), found.base.to(values.dtype) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(found.rows, found.flat, p, base, found.at, slope)
        ctx.shape, ctx.alpha, ctx.scale = values.shape, alpha, scale
        return loss_of(found, alpha, ctx.log_q_target).to(values.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        rows, flat, p, base, at, slope = ctx.saved_tensors
        grad_row = grad.index_select(0, rows)

        def dense(values):
            return values.new_zeros(ctx.shape).view(-1).index_add_(0, flat, values).view(ctx.shape)

        residual = p.index_add(0, at, torch.full_like(grad, -1.0))
        if slope is not None:
            residual.index_copy_(0, at, residual.index_select(0, at) * slope)
        grad_values, grad_q = dense(residual.mul_(grad_row).mul_(ctx.scale)), None
        if ctx.needs_input_grad[1]:
            vertex = -torch.exp((1 - ctx.alpha) * ctx.log_q_target)
            grad_q = dense((p * base).index_add_(0, at, vertex).mul_(grad_row).div_(ctx.alpha))
        return grad_values, grad_q, *[None] * 6


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


def fenchel_young_loss(
    logits: Tensor, target: Tensor, alpha: float, q: Tensor | None = None, *, log_q: Tensor | None = None
) -> Tensor:
    """Fenchel-Young loss of the α-divergence, per example, no reduction (arXiv 2511.13621; arXiv 1901.02324).

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

    Returns
    -------
    Tensor [...]
        float32 (float64 for float64 logits), ≥ 0, in nats; exactly the target's margin condition makes it 0.

    Raises
    ------
    ValueError
        For alpha < 1, a target outside [0, C) or of the wrong shape or type, a q that is not positive, or both
        q and log_q.

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
    log_q = None if log_q is None else log_q.expand_as(theta).reshape(-1, theta.shape[-1])
    loss = _loss_of_rows(theta.reshape(-1, theta.shape[-1]), log_q, target.reshape(-1), alpha)
    return loss.view(target.shape).to(working_dtype(logits.dtype, 1.0))


def margin_loss(
    cosines: Tensor,
    target: Tensor,
    alpha: float,
    scale: float,
    margin: float,
    place: str,
    watch: Callable[[Active], None] | None = None,
) -> Tensor:
    """Fenchel-Young loss of scaled cosines with a margin, per example; equals `fenchel_young_loss` of
    `margins.margin_logits`, without making them.

    Parameters
    ----------
    cosines : Tensor [N, C]
        In [−1, 1].
    target : int64 Tensor [N]
        Labels.
    alpha, scale, margin, place
        As `alpha_sv.losses.MarginLoss`.
    watch : callable, optional
        Called with what is active, if α > 1.

    Returns
    -------
    Tensor [N]
        In nats.

    Example
    -------
    >>> margin_loss(torch.tensor([[0.9, 0.1, 0.0]]), torch.tensor([0]), 1.5, 10.0, 0.2, "angle")
    tensor([0.])
    """
    dtype = working_dtype(cosines.dtype, alpha)
    values = cosines.to(dtype)
    if alpha == 1.0:
        logits, log_q = margin_logits(place, values, target, margin, scale)
        return _loss_of_rows(logits, log_q, target, alpha)
    loss = _loss_with_margin(values, target, alpha, scale, margin, place, watch)
    return loss.to(working_dtype(cosines.dtype, 1.0))


@torch.compiler.disable  # shapes depend on the data
def _loss_with_margin(values, target, alpha, scale, margin, place, watch):
    cosine = values.detach().gather(1, target.unsqueeze(1)).squeeze(1)
    log_q = log_measure_of_target(place, margin, scale)
    value, slope = target_cosine(cosine, place, margin), target_slope(cosine, place, margin)
    return _ActiveLoss.apply(values, log_q, target, value, slope, alpha, scale, watch)


def _loss_of_rows(theta: Tensor, log_q: Tensor | None, target: Tensor, alpha: float) -> Tensor:
    if alpha == 1.0:
        weighted = theta if log_q is None else theta + log_q
        return F.cross_entropy(weighted, target, reduction="none")
    return _sparse_loss_of_rows(theta, log_q, target, alpha)


@torch.compiler.disable
def _sparse_loss_of_rows(theta, log_q, target, alpha):
    value = theta.detach().gather(1, target.unsqueeze(1)).squeeze(1)
    return _ActiveLoss.apply(theta, log_q, target, value, None, alpha, 1.0, None)
