"""Three places to put a margin: the cosine, the angle, or the reference measure.

Each function maps cosines [..., C], target [...], margin and scale to (logits, ln q). ln q is None where q = 1.

    place        logits of the target      ln q_y     with α = 1        with α > 1
    none         s·c_y                     0          NormFace          Sparsemax, Entmax on cosines
    cosine       s·(c_y − m)               0          CosFace           (not published)
    angle        s·cos(φ_y + m)            0          ArcFace           A3M
    reference    s·c_y                     −s·m       CosFace           Q-Margin
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Logits = tuple[Tensor, "Tensor | None"]


def no_margin(cosines: Tensor, target: Tensor, margin: float, scale: float) -> Logits:
    """logits = s·c."""
    return scale * cosines, None


def cosine_margin(cosines: Tensor, target: Tensor, margin: float, scale: float) -> Logits:
    """logits_y = s·(c_y − m): additive margin of CosFace (arXiv 1801.09414) and AM-softmax (arXiv 1801.05599)."""
    index = target.unsqueeze(-1)
    shift = torch.full_like(cosines[..., :1], -margin).expand(index.shape)
    return scale * cosines.scatter_add(-1, index, shift), None


def angle_margin(cosines: Tensor, target: Tensor, margin: float, scale: float) -> Logits:
    """logits_y = s·cos(φ_y + m): additive angular margin of ArcFace (arXiv 1801.07698); m in radians."""
    index = target.unsqueeze(-1)
    penalised = add_angle(cosines.gather(-1, index), margin)
    return scale * cosines.scatter(-1, index, penalised), None


def reference_margin(cosines: Tensor, target: Tensor, margin: float, scale: float) -> Logits:
    """logits = s·c and q_y = exp(−s·m): Q-Margin (arXiv 2511.13621)."""
    index = target.unsqueeze(-1)
    log_q = torch.zeros_like(cosines).scatter(-1, index, -scale * margin)
    return scale * cosines, log_q


def add_angle(cosine: Tensor, margin: float) -> Tensor:
    """cos(arccos(cosine) + margin), with a finite gradient everywhere, ±1 included.

    cos(φ + m) = c cos m − sin φ sin m with sin φ = sqrt((1−c)(1+c)), whose derivative −c/sin φ is unbounded at c = ±1.
    There sin φ is a constant 0. In between, the smallest sin φ that float32 can hold is 3.5e-4.
    Beyond φ + m > π, that is c < −cos m, the logit continues as c − m sin m, which keeps it decreasing in φ.
    """
    cosine = cosine.clamp(-1.0, 1.0)
    squared = (1 - cosine) * (1 + cosine)
    inside = squared > 0
    sine = torch.where(inside, torch.where(inside, squared, 1).sqrt(), 0)
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, cosine - margin * math.sin(margin))


PLACES = {"none": no_margin, "cosine": cosine_margin, "angle": angle_margin, "reference": reference_margin}
