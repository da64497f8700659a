"""Three places to put a margin: the cosine, the angle, or the reference measure.

    place                    target's logit   ln q_y  with α = 1          with α > 1
    none                     s·c_y            0       NormFace            Sparsemax, Entmax
    cosine                   s·(c_y − m)      0       CosFace             (not published)
    angle                    s·cos(φ_y + m)   0       ArcFace             A3M
    angle_straight_through   s·cos(φ_y + m)   0       face kits' ArcFace  (not published)
    reference                s·c_y            −s·m    CosFace             Q-Margin

Each place is a function of the target's cosine alone. "angle_straight_through" has the value of
"angle", and the derivative s in place of the true s·sin(φ_y + m)/sin φ_y: the code of many face
papers adds the margin outside of the graph. An inter-top-K penalty (`raise_hardest`) is a margin on
the other side, at the hardest of the other classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PLACES = ("none", "cosine", "angle", "angle_straight_through", "reference")
ANGULAR = ("angle", "angle_straight_through")
_MAX_LOG_VERTEX = 80.0  # the vertex term grows as e^{(α−1)sm}; float32 ends at e^88


def target_cosine(cosine: Tensor, *, margin: float, place: str) -> Tensor:
    """What stands for the target's cosine: c − m (CosFace, arXiv 1801.09414; AM-softmax,
    arXiv 1801.05599), cos(φ + m) (ArcFace, arXiv 1801.07698; m in radians), or the cosine itself.
    """
    if place == "cosine":
        return cosine - margin
    if place == "angle_straight_through":
        return cosine + (add_angle(cosine, margin) - cosine).detach()
    return add_angle(cosine, margin) if place == "angle" else cosine


def target_slope(cosine: Tensor, *, margin: float, place: str) -> Tensor | None:
    """Derivative of `target_cosine`; None where it is 1."""
    return add_angle_slope(cosine, margin) if place == "angle" else None


def log_measure_of_target(*, scale: float, margin: float, place: str) -> float:
    """ln q_y: −s·m for Q-Margin (arXiv 2511.13621), else 0."""
    return -scale * margin if place == "reference" else 0.0


def check_growth(alpha: float, *, scale: float, margin: float, place: str) -> None:
    """Refuse a margin so large that the loss overflows float32."""
    growth = (alpha - 1) * scale * margin
    if place == "reference" and growth > _MAX_LOG_VERTEX:
        raise ValueError(
            f"(alpha−1)·scale·margin = {growth:.4g} makes the loss e^{growth:.4g}, beyond float32; "
            f"keep it below {_MAX_LOG_VERTEX:g} by a smaller margin or scale"
        )


def margin_logits(
    cosines: Tensor, target: Tensor, *, scale: float, margin: float, place: str
) -> tuple[Tensor, Tensor | None]:
    """Cosines [..., C] and target [...] → (logits, ln q) [..., C]; ln q is None where q = 1."""
    index = target.unsqueeze(-1)
    value = target_cosine(cosines.gather(-1, index), margin=margin, place=place)
    log_q_target = log_measure_of_target(scale=scale, margin=margin, place=place)
    log_q = torch.zeros_like(cosines).scatter(-1, index, log_q_target) if place == "reference" else None
    return scale * cosines.scatter(-1, index, value), log_q


def raise_hardest(cosines: Tensor, target: Tensor, *, top_k: int, margin: float) -> Tensor:
    """The inter-top-K penalty (Zhao, Chen, Wang:
    the SpeakIn system for VoxSRC 2021, arXiv 2109.01989).

    Of the classes other than the target, the `top_k` of the largest cosine are brought
    nearer by an angle of `margin`: cos(φ_j − m), the mirror of ArcFace's cos(φ_y + m).

    Parameters
    ----------
    cosines : Tensor [N, C]
    target : int64 Tensor [N]
    top_k : int
        How many; all others, if there are fewer.
    margin : float
        Radians, 0 ≤ m ≤ π/2.

    Returns
    -------
    Tensor [N, C]
        Continuous in the cosines: where two classes change
        places in the order, they have the same cosine.

    Example
    -------
    >>> raise_hardest(torch.tensor([[0.9, 0.5, 0.0]]), torch.tensor([0]), top_k=1, margin=0.1)
    tensor([[0.9000, 0.5840, 0.0000]])
    """
    others = cosines.detach().scatter(1, target.unsqueeze(1), -torch.inf)
    hardest = others.topk(min(top_k, cosines.shape[1] - 1), dim=1).indices
    return cosines.scatter(1, hardest, -add_angle(-cosines.gather(1, hardest), margin))


def add_angle(cosine: Tensor, margin: float) -> Tensor:
    """cos(arccos(cosine) + margin), with a finite gradient everywhere, ±1 included.

    cos(φ + m) = c cos m − sin φ sin m with sin φ = sqrt((1−c)(1+c)), whose derivative −c/sin φ is
    unbounded at c = ±1. There sin φ is a constant 0. In between, the smallest sin φ that float32
    can hold is 3.5e-4. Beyond φ + m > π, that is c < −cos m, the logit continues as c − m sin m,
    which keeps it decreasing in φ.
    """
    cosine = cosine.clamp(-1.0, 1.0)
    sine, _ = _sine(cosine)
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, cosine - margin * math.sin(margin))


def add_angle_slope(cosine: Tensor, margin: float) -> Tensor:
    """d/dc cos(arccos(c) + m) = cos m + c/sin φ · sin m, with the conventions of `add_angle`."""
    sine, inside = _sine(cosine.clamp(-1.0, 1.0))
    slope = math.cos(margin) + torch.where(inside, cosine / torch.where(inside, sine, 1), 0) * math.sin(margin)
    slope = torch.where(cosine > -math.cos(margin), slope, 1)
    return torch.where(cosine.abs() <= 1, slope, 0)


def _sine(cosine: Tensor) -> tuple[Tensor, Tensor]:
    squared = (1 - cosine) * (1 + cosine)
    inside = squared > 0
    return torch.where(inside, torch.where(inside, squared, 1).sqrt(), 0), inside
