"""The Fenchel-Young loss of the α-divergence, with its own backward: ∂loss/∂θ = p* − e_y, never through the solver.

    loss = max_p {⟨p, θ⟩ − D(p, q)} + D(e_y, q) − θ_y ≥ 0

In closed form, with 1 + (α−1)(θ_j − τ) = u_j^{α−1} on the active classes and Σ p = 1, every inactive class cancels:

    loss = τ − θ_y + (α−1)/α · Σ_{active} p_j (θ_j − τ) + expm1((1−α) ln q_y) / (α(α−1))

which has no 0/0 as α → 1: the last term tends to −ln q_y and the loss to logsumexp(θ + ln q) − θ_y − ln q_y.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpha_sv.functional.divergence import check_alpha
from alpha_sv.functional.softargmax import check_broadcast, check_logits, log_measure, solve, working_dtype


class _FenchelYoung(torch.autograd.Function):
    """∂loss/∂ln q_j = (p_j u_j^{α−1} − [j=y] q_y^{1−α}) / α, by the envelope theorem: ∂D/∂q = (1 − u^α)/α."""

    @staticmethod
    def forward(ctx, logits, log_q, target, alpha):
        index = target.unsqueeze(-1)
        solution = solve(logits, alpha, log_q)
        p, gap = solution.p, solution.gap
        log_q_target = p.new_zeros(index.shape) if log_q is None else log_q.expand_as(p).gather(-1, index)
        spread = (p * torch.where(p > 0, gap, 0)).sum(-1, keepdim=True)  # where: 0·(−inf) is 0 here
        loss = (alpha - 1) / alpha * spread - gap.gather(-1, index) + vertex_term(log_q_target, alpha)
        ctx.save_for_backward(p, solution.base, index, log_q_target)
        ctx.alpha, ctx.q_shape = alpha, None if log_q is None else log_q.shape
        return loss.squeeze(-1).clamp(min=0)  # ≥ 0 is a theorem; rounding may say −1e-8

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        p, base, index, log_q_target = ctx.saved_tensors
        grad, alpha, grad_q = grad.unsqueeze(-1), ctx.alpha, None
        minus_one = torch.full_like(log_q_target, -1.0)
        grad_logits = grad * p.scatter_add(-1, index, minus_one)
        if ctx.q_shape is not None and ctx.needs_input_grad[1]:
            envelope = p * base
            vertex = -torch.exp((1 - alpha) * log_q_target)
            grad_q = (grad * envelope.scatter_add(-1, index, vertex) / alpha).sum_to_size(ctx.q_shape)
        return grad_logits, grad_q, None, None


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
    loss = _FenchelYoung.apply(logits.to(dtype), log_q, target.long(), alpha)
    return loss.to(working_dtype(logits.dtype, 1.0))


def vertex_term(log_q_target: Tensor, alpha: float) -> Tensor:
    """expm1((1−α) ln q_y) / (α(α−1)), and its limit −ln q_y at α = 1: what is left of D(e_y, q)."""
    if alpha == 1.0:
        return -log_q_target
    return torch.expm1((1 - alpha) * log_q_target) / (alpha * (alpha - 1))


def check_target(target: Tensor, logits: Tensor, wait: bool = False) -> None:
    """Refuse labels that do not index the last axis of `logits`, and say which ones.

    The values of CUDA tensors are looked at only with `wait`, since that waits for the device; gather asserts there.
    """
    check_logits(logits)
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(f"target must hold class indices (an integer dtype), got {target.dtype}")
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"target must have the shape of logits without the class axis, {tuple(logits.shape[:-1])}, "
            f"got {tuple(target.shape)}"
        )
    classes = logits.shape[-1]
    if target.numel() and (wait or not target.is_cuda):
        low, high = int(target.min()), int(target.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"target labels must lie in [0, {classes}), got values from {low} to {high}: the number of classes "
                "of the classifier and the label encoder disagree"
            )
