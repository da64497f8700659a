"""One Fenchel-Young loss of cosines, one α, three places for a margin:
what every loss of `alpha_sv.losses` is.

Called with cosines [N, C] or [N, 1, C], labels [N] or [N, 1] and,
if the recipe passes it, `length`, which has no bearing on one label per utterance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from alpha_sv.functional import margins
from alpha_sv.functional.checks import (
    check_alpha,
    check_batch,
    check_range,
    check_reduction,
    check_target,
    check_third,
    number,
    reduced,
    refuse_tensors,
    transformed,
    use_plain,
    working_dtype,
)
from alpha_sv.functional.fenchel_young import margin_loss
from alpha_sv.functional.solver import Active
from alpha_sv.monitor import SparsityMonitor, sparsity_figures

KAPPA = 5.0
"""κ = s(α−1) shared by all published good settings: (s, α) = (20, 1.25), (10, 1.5), (5, 2)."""

_NO_AUTO = "scale 'auto' is κ/(α−1) and needs alpha > 1; for alpha = 1 give a number, 30 say"


class MarginLoss(nn.Module):
    """Mean Fenchel-Young loss of cosines with a margin (arXiv 2511.13621).

    Parameters
    ----------
    alpha : float
        Order of the divergence, ≥ 1. Above 1 the posterior is sparse.
    scale : float or "auto"
        s > 0, the logits are s·cosine, in nats. "auto" is κ/(α−1) with κ = 5, and follows `alpha`.
    margin : float
        m ≥ 0: radians for place "angle", cosine units for "cosine" and "reference".
    place : {"none", "cosine", "angle", "reference"}
        Where the margin goes, see `alpha_sv.functional.margins`.
    reduction : {"mean", "sum", "batch", "none", "batchmean"}
        What a call returns: the mean ("batchmean" is the same), the sum, or ("batch",
        "none") the loss of each example, which
        `MetricStats(metric=QMargin(reduction="batch"))` and your own weights need.
    implementation : {"fast", "plain"}
        "plain" computes by `alpha_sv.functional.plain`,
        the readable page; slower, the same numbers.
    inter_top_k : int
        Of the other classes, bring so many, the hardest, nearer by `inter_margin` before all else
        (`margins.raise_hardest`): WeSpeaker's and SpeakIn's recipes take 5.
        0, the default, is none. For dense heads.
    inter_margin : float
        Radians, 0 to π/2; 0.06 in those recipes.

    Attributes
    ----------
    alpha, scale, margin : float
        Live: a schedule may set them at any step.

    Raises
    ------
    ValueError
        For parameters out of range; scale "auto" with α = 1;
        a margin so large that the loss overflows float32.

    Example
    -------
    >>> loss = MarginLoss(alpha=1.5, scale="auto", margin=0.2, place="reference")
    >>> loss.scale
    10.0
    >>> cosines = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.3, 0.2]])
    >>> round(loss(cosines, torch.tensor([0, 1])).item(), 4)
    1.6509
    """

    def __new__(cls, *arguments, **options):
        refuse_tensors(cls, arguments)
        return super().__new__(cls)

    def __init__(
        self,
        alpha: float,
        scale: float | str,
        margin: float = 0.0,
        place: str = "none",
        *,
        reduction: str = "mean",
        implementation: str = "fast",
        inter_top_k: int = 0,
        inter_margin: float = 0.06,
    ):
        super().__init__()
        inter_margin = number(inter_margin, "inter_margin")
        whole = isinstance(inter_top_k, Integral) and not isinstance(inter_top_k, bool)
        if not whole or inter_top_k < 0 or not 0 <= inter_margin <= math.pi / 2:
            raise ValueError(
                "inter_top_k must be a whole number >= 0 and inter_margin in radians from 0 to π/2, got "
                f"{inter_top_k!r}, {inter_margin}"
            )
        self.inter_top_k, self.inter_margin = inter_top_k, inter_margin
        if place not in margins.PLACES:
            raise ValueError(f"place must be one of {margins.PLACES}, got {place!r}")
        use_plain(implementation)  # refuses another word
        self.implementation = implementation
        self.reduction = check_reduction(reduction)
        self.place = place
        self.alpha = alpha
        self.scale = scale
        self.margin = margin
        self.monitor = SparsityMonitor()

    @property
    def alpha(self) -> float:
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        value = check_alpha(value)
        if value == 1.0 and getattr(self, "_scale", None) == "auto":
            raise ValueError(_NO_AUTO)
        self._alpha = value

    @property
    def scale(self) -> float:
        if self._scale != "auto":
            return self._scale
        if self.alpha == 1.0:
            raise ValueError(_NO_AUTO)
        return KAPPA / (self.alpha - 1)

    @scale.setter
    def scale(self, value: float | str) -> None:
        if not (isinstance(value, str) and value == "auto"):
            value = number(value, "scale")
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"scale must be a positive number or 'auto', got {value}")
        self._scale = value
        _ = self.scale

    @property
    def margin(self) -> float:
        return self._margin

    @margin.setter
    def margin(self, value: float) -> None:
        value = number(value, "margin")
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"margin must be a finite number >= 0, got {value}")
        if self.place in margins.ANGULAR and value > math.pi / 2:  # beyond ~2.3 the continuation would rise again
            raise ValueError(f"an angular margin is in radians and at most π/2, got {value}")
        self._margin = value

    @torch.compiler.disable  # the work depends on the data
    def forward(
        self, outputs: Tensor, targets: Tensor, length: Tensor | None = None, *, reduction: str | None = None
    ) -> Tensor:
        """Loss in nats: its mean, a scalar, or what `reduction` says.

        Parameters
        ----------
        outputs : Tensor [N, C] or [N, 1, C]
            Cosines in [−1, 1], any float dtype.
        targets : integer Tensor [N] or [N, 1]
            Speaker labels, 0 ≤ label < C.
        length : Tensor, optional
            Relative lengths, as SpeechBrain passes them; unused.
        reduction : str, optional
            Instead of that of the constructor.

        Raises
        ------
        ValueError
            For labels outside [0, C), shapes that do not match,
            outputs that are not cosines, or the mean of an empty batch.
        """
        check_third(length)
        cosines, targets = self._check(outputs, targets)
        watch = self.watch()
        if watch is not None or not self._trains():
            check_range(cosines)
        watch = watch if self.alpha > 1 else None
        return self.reduce(self.per_example(cosines, targets, watch), reduction)

    def watch(self) -> Callable[[Active], None] | None:
        """What is to look at this batch, if it is of the
        training and one of those that the monitor looks at."""
        return self.monitor.look if self._trains() and self.monitor.due() else None

    def _trains(self) -> bool:
        """A `compute_cost` stays in training mode also during validation,
        but nothing wants a gradient there."""
        return self.training and torch.is_grad_enabled() and not transformed()

    def per_example(self, cosines: Tensor, targets: Tensor, watch: Callable | None = None) -> Tensor:
        """Loss [N] of cosines [N, C] and labels [N],
        which are taken as they are; `watch` sees what is active."""
        cosines = self._raised(cosines, targets)
        how = {"watch": watch, "implementation": self.implementation}
        return margin_loss(cosines, targets, alpha=self.alpha, **self.with_margin(), **how)

    def with_margin(self) -> dict:
        """Scale, margin and place as of now;
        refuses a margin so large that the loss overflows float32."""
        how = {"scale": self.scale, "margin": self.margin, "place": self.place}
        margins.check_growth(self.alpha, **how)
        return how

    def reduce(self, values: Tensor, reduction: str | None = None) -> Tensor:
        """The mean, the sum, or all of the losses [N] of the examples."""
        return reduced(values, self.reduction if reduction is None else reduction)

    @torch.no_grad()
    def sparsity(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What the sparse regime does on this batch:
        `alpha_sv.monitor.sparsity_figures`; arguments as `forward`."""
        cosines, targets = self._check(outputs, targets)
        if not len(targets):
            raise ValueError("the batch is empty: it has no sparsity")
        check_range(cosines)
        if self.alpha == 1.0:
            values = self._raised(cosines.float(), targets)
            logits, log_q = margins.margin_logits(values, targets, **self.with_margin())
            p = torch.softmax(logits if log_q is None else logits + log_q, -1)
            probability = p.gather(1, targets.unsqueeze(1)).double().mean().item()
            dense = {"support": float(cosines.shape[1]), "zero_loss": 0.0, "zero_target": 0.0}
            return {**dense, "target_probability": probability, "candidates": 1.0}
        seen: list[Active] = []
        self.per_example(cosines, targets, seen.append)
        return sparsity_figures(seen[0])

    @property
    def log_q_target(self) -> float:
        """ln q_y: −s·m where the margin is in the reference measure, else 0."""
        return margins.log_measure_of_target(scale=self.scale, margin=self.margin, place=self.place)

    def _raised(self, cosines: Tensor, targets: Tensor) -> Tensor:
        if not self.inter_top_k:
            return cosines
        cosines = cosines.to(working_dtype(cosines.dtype, self.alpha))
        return margins.raise_hardest(cosines, targets, top_k=self.inter_top_k, margin=self.inter_margin)

    def _check(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        outputs, targets = check_batch(outputs, targets, "cosines")
        check_target(targets, outputs)
        return outputs, targets.long()

    def extra_repr(self) -> str:
        inter = f", inter_top_k={self.inter_top_k}, inter_margin={self.inter_margin}" if self.inter_top_k else ""
        return f"alpha={self.alpha}, scale={self._scale}, margin={self.margin}, place={self.place!r}{inter}"
