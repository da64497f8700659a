"""SGD with momentum that touches only prototypes with a gradient,
and owes the others what momentum would have done.

Dense SGD moves a row on after its gradient has stopped: k steps later its velocity is μ^k v, and it
has moved by lr·v·(μ + μ² + … + μ^k). Here a row without gradient is left alone, and that much is
made up for in one go when it next has one. So with gradients that do not depend on it, a row that
is touched is where dense SGD would have it (at a constant learning rate); in between it lags by
less than lr·v·μ/(1 − μ). A row that is never touched costs nothing.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook


class PrototypeSGD(torch.optim.Optimizer):
    """Row-sparse SGD + momentum for the weight of a head.

    There is no weight decay: prototypes are normalised before use,
    so it would only change their length.

    Parameters
    ----------
    params : iterable of Parameter [C, D]
        Gradients may be sparse (the rows given are touched)
        or dense (the rows that are not all zero are).
    lr : float
        Learning rate, > 0.
    momentum : float
        μ in [0, 1). With 0 there is no state at all.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.zeros(3, 1))
    >>> optimizer = PrototypeSGD([weight], lr=1.0, momentum=0.5)
    >>> weight.grad = torch.tensor([[1.0], [0.0], [0.0]]).to_sparse(1)
    >>> optimizer.step()
    >>> weight.data.flatten().tolist()
    [-1.0, 0.0, 0.0]
    """

    def __init__(self, params, lr: float, momentum: float = 0.9):
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        """One step over the rows that have a gradient.

        `closure`, if given, computes the loss and its gradients first; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, *_touched(weight.grad), group["lr"], group["momentum"])
        return loss

    @torch.no_grad()
    def catch_up(self) -> None:
        """Move every row to where dense SGD would have it by now.

        Call it before the prototypes are read for anything but training: exported, or handed to
        other losses. In a loop that is resumed, call it at fixed steps, such as the end of an
        epoch, and not whenever it saves.
        """
        for group in self.param_groups:
            for weight in group["params"]:
                if "velocity" in self.state[weight]:
                    state, rows = self.state[weight], torch.arange(len(weight), device=weight.device)
                    owed, velocity = _settled(state, rows, group["momentum"])
                    state["velocity"].copy_(velocity)
                    state["current"].fill_(state["step"])
                    weight.sub_(owed, alpha=group["lr"])

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for state in self.state.values():  # PyTorch casts all state to the type of the weight
            if "current" in state:
                state["current"] = state["current"].round().long()

    def _update(self, weight: Tensor, rows: Tensor, grad: Tensor, lr: float, momentum: float) -> None:
        if momentum == 0:
            weight.index_add_(0, rows, grad, alpha=-lr)
            return
        state = self.state[weight]
        if not state:
            # zeros come from the system untouched: rows that never have a gradient cost no memory
            state["velocity"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
            state["current"] = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
            state["step"] = 0
        owed, velocity = _settled(state, rows, momentum)
        state["step"] += 1
        velocity.mul_(momentum).add_(grad)
        state["velocity"].index_copy_(0, rows, velocity)
        state["current"].index_fill_(0, rows, state["step"])
        weight.index_add_(0, rows, owed.add_(velocity), alpha=-lr)


def _settled(state: dict, rows: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """By how much momentum has not yet moved the rows,
    in units of lr, and what their velocity has decayed to."""
    steps = (state["step"] - state["current"].index_select(0, rows)).unsqueeze(1)
    velocity = state["velocity"].index_select(0, rows)
    decay = torch.pow(torch.full_like(steps, momentum, dtype=velocity.dtype), steps)
    decayed = velocity * decay
    return velocity.mul_((1 - decay).mul_(momentum / (1 - momentum))), decayed


def _touched(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a gradient, and their gradients."""
    if grad.is_sparse:
        grad = grad.coalesce()
        return grad.indices()[0], grad.values()
    rows = grad.any(1).nonzero().squeeze(1)
    return rows, grad.index_select(0, rows)


def announce_sparse_gradient(weight: Tensor) -> None:
    """Have an optimizer of torch that cannot take the
    sparse gradient of this weight told so in plain words."""
    weight.row_sparse = True
    _explain()


@functools.cache
def _explain() -> None:
    register_optimizer_step_pre_hook(_refuse_unfit)
    for backend in ("SparseCPU", "SparseCUDA"):  # where PyTorch has none: "Could not run 'aten::clamp_min_'"
        for name in ("clamp_", "clamp_min_"):  # one gradient at a time, or all of them
            _LIBRARY.impl(name, _refuse_clamp, backend)
    try:
        torch.linalg.vector_norm(torch.zeros(1).to_sparse())
    except NotImplementedError:  # before torch 2.14, and `torch.nn.utils.clip_grad_norm_` needs it
        for backend in ("SparseCPU", "SparseCUDA"):
            _LIBRARY.impl("linalg_vector_norm", _norm_of_values, backend)


_LIBRARY = torch.library.Library("aten", "IMPL")  # what it registers lasts as long as it does


def _norm_of_values(grad: Tensor, ord=2, dim=None, keepdim=False, *, dtype=None) -> Tensor:
    if dim is not None or ord <= 0:
        raise NotImplementedError("of a sparse tensor there is only the norm of all its values, of an order above 0")
    return torch.linalg.vector_norm(grad.coalesce().values(), ord, dtype=dtype)


def _refuse_clamp(grad: Tensor, *_, **__) -> Tensor:
    raise ValueError(
        "a sparse gradient (of SparseHead or ShardedHead) cannot be clipped by value: use "
        "torch.nn.utils.clip_grad_norm_, or clip the parameters of the embedder only"
    )


def _refuse_unfit(optimizer: torch.optim.Optimizer, arguments: tuple, options: dict) -> None:
    closure = options.get(
        "closure", next(iter(arguments[1:]), None)
    )  # it makes the gradients later: Lightning gives one
    fit = (torch.optim.SGD, torch.optim.SparseAdam, torch.optim.Adagrad)
    ours = not type(optimizer).__module__.startswith("torch.")  # somebody else's may well be able to
    for group in optimizer.param_groups:
        decay = group.get("weight_decay", 0)
        if ours or isinstance(optimizer, fit) and not decay:
            continue
        sparse = (p for p in group["params"] if getattr(p, "row_sparse", False) and p.requires_grad)
        if any(closure if p.grad is None else p.grad.is_sparse for p in sparse):
            raise ValueError(
                f"{type(optimizer).__name__}{' with weight_decay' if decay else ''} cannot take the sparse gradient of "
                "SparseHead or ShardedHead: give head.parameters() to alpha_sv.heads.PrototypeSGD (or SparseAdam) of "
                "their own. Prototypes need no weight decay: they are normalised before use"
            )
