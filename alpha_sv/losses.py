"""The losses as modules: one Fenchel-Young loss, one α, three places for a margin; every name is a row of one table.

    name          α     place of the margin      α = 1 special case
    NormSoftmax   1     none                     cross-entropy on cosines (NormFace)
    AMSoftmax     1     cosine     s(c_y − m)    CosFace
    AAMSoftmax    1     angle      s cos(φ_y+m)  ArcFace
    Sparsemax     2     none
    Entmax        1.5   none
    QMargin       1.5   reference  q_y = e^{−sm} CosFace
    A3M           1.5   angle      s cos(φ_y+m)  ArcFace

Each is a `compute_cost` of a SpeechBrain speaker recipe: called with cosines [N, C] or [N, 1, C], labels [N] or
[N, 1] and, if the recipe passes it, `length`, which has no bearing on one label per utterance.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from alpha_sv.functional import margins
from alpha_sv.functional.active import Active
from alpha_sv.functional.checks import check_target
from alpha_sv.functional.divergence import check_alpha
from alpha_sv.functional.fenchel_young import margin_loss
from alpha_sv.monitor import SparsityMonitor, sparsity_figures

KAPPA = 5.0
"""κ = s(α−1) shared by all published good settings: (s, α) = (20, 1.25), (10, 1.5), (5, 2)."""

_NO_AUTO = "scale 'auto' is κ/(α−1) and needs alpha > 1; for alpha = 1 give a number, 30 say"
_MAX_LOG_VERTEX = 80.0  # the vertex term grows as e^{(α−1)sm}; float32 ends at e^88


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

    Attributes
    ----------
    alpha, scale, margin : float
        Live: a schedule may set them at any step.

    Raises
    ------
    ValueError
        For parameters out of range; scale "auto" with α = 1; a margin so large that the loss overflows float32.

    Example
    -------
    >>> loss = MarginLoss(alpha=1.5, scale="auto", margin=0.2, place="reference")
    >>> loss.scale
    10.0
    >>> cosines = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.3, 0.2]])
    >>> round(loss(cosines, torch.tensor([0, 1])).item(), 4)
    1.6509
    """

    def __init__(self, alpha: float, scale: float | str, margin: float = 0.0, place: str = "none"):
        super().__init__()
        if place not in margins.PLACES:
            raise ValueError(f"place must be one of {margins.PLACES}, got {place!r}")
        self.place = place
        self.alpha = alpha
        self.scale = scale
        self.margin = margin
        self.monitor = SparsityMonitor()
        self._range_checked = False

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
            raise ValueError("scale 'auto' is κ/(α−1) and needs alpha > 1; for alpha = 1 give a number, 30 say")
        return KAPPA / (self.alpha - 1)

    @scale.setter
    def scale(self, value: float | str) -> None:
        if value != "auto":
            value = float(value)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"scale must be a positive number or 'auto', got {value}")
        self._scale = value
        _ = self.scale

    @property
    def margin(self) -> float:
        return self._margin

    @margin.setter
    def margin(self, value: float) -> None:
        value = float(value)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"margin must be a finite number >= 0, got {value}")
        if self.place == "angle" and value > math.pi / 2:  # beyond ~2.3 the continuation would rise again
            raise ValueError(f"an angular margin is in radians and at most π/2, got {value}")
        self._margin = value

    @torch.compiler.disable  # the work depends on the data
    def forward(self, outputs: Tensor, targets: Tensor, length: Tensor | None = None) -> Tensor:
        """Scalar mean loss, in nats.

        Parameters
        ----------
        outputs : Tensor [N, C] or [N, 1, C]
            Cosines in [−1, 1], any float dtype.
        targets : integer Tensor [N] or [N, 1]
            Speaker labels, 0 ≤ label < C.
        length : Tensor, optional
            Relative lengths, as SpeechBrain passes them; unused.

        Raises
        ------
        ValueError
            For labels outside [0, C), shapes that do not match, or outputs that are not cosines.
        """
        cosines, targets = self._check(outputs, targets)
        return self.per_example(cosines, targets, self.watch()).mean()

    def watch(self) -> Callable[[Active], None] | None:
        """What is to look at this training batch, if it is one of those that the monitor looks at."""
        return self.monitor.look if self.training and self.alpha > 1 and self.monitor.due() else None

    def per_example(self, cosines: Tensor, targets: Tensor, watch: Callable | None = None) -> Tensor:
        """Loss [N] of cosines [N, C] and labels [N], which are taken as they are; `watch` sees what is active."""
        self.check_growth()
        return margin_loss(cosines, targets, self.alpha, self.scale, self.margin, self.place, watch)

    @torch.no_grad()
    def sparsity(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What the sparse regime does on this batch: `alpha_sv.monitor.sparsity_figures`; arguments as `forward`."""
        self._range_checked = False
        cosines, targets = self._check(outputs, targets)
        if self.alpha == 1.0:
            logits, log_q = margins.margin_logits(self.place, cosines.float(), targets, self.margin, self.scale)
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
        return margins.log_measure_of_target(self.place, self.margin, self.scale)

    def target_cosine(self, cosine: Tensor) -> Tensor:
        """What stands for the target's cosine [N], with the margin where it has one."""
        return margins.target_cosine(cosine, self.place, self.margin)

    def target_slope(self, cosine: Tensor) -> Tensor | None:
        """Derivative of `target_cosine`; None where it is 1."""
        return margins.target_slope(cosine, self.place, self.margin)

    def check_growth(self) -> None:
        """Refuse a margin so large that the loss overflows float32."""
        growth = (self.alpha - 1) * self.scale * self.margin
        if self.place == "reference" and growth > _MAX_LOG_VERTEX:
            raise ValueError(
                f"(alpha−1)·scale·margin = {growth:.4g} makes the loss e^{growth:.4g}, beyond float32; "
                f"keep it below {_MAX_LOG_VERTEX:g} by a smaller margin or scale"
            )

    def _check(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if outputs.ndim == 3 and outputs.shape[1] == 1:
            outputs = outputs.squeeze(1)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets.squeeze(1)
        if outputs.ndim != 2 or targets.ndim != 1:
            raise ValueError(
                "expected cosines [N, C] or [N, 1, C] and labels [N] or [N, 1], "
                f"got {tuple(outputs.shape)} and {tuple(targets.shape)}"
            )
        if outputs.shape[0] == 0:
            raise ValueError("the batch is empty")
        check_target(targets, outputs)
        if not self._range_checked:  # once: a classifier either normalises or it does not
            self._range_checked = True
            largest = outputs.detach().abs().amax().item()
            if largest > 1.01:  # NaN passes on purpose: it shows in the loss, where SpeechBrain handles it
                raise ValueError(
                    f"outputs must be cosines in [−1, 1], found |value| = {largest:.4g}: the classifier must normalise "
                    "its input and its weight (speechbrain.lobes.models.ECAPA_TDNN.Classifier does)"
                )
        return outputs, targets.long()

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, scale={self._scale}, margin={self.margin}, place={self.place!r}"


class NormSoftmax(MarginLoss):
    """Cross-entropy on scaled cosines (NormFace, arXiv 1704.06369)."""

    def __init__(self, scale: float = 32.0):
        super().__init__(1.0, scale)


class AMSoftmax(MarginLoss):
    """CosFace / AM-softmax (arXiv 1801.09414, 1801.05599): s(c_y − m)."""

    def __init__(self, scale: float = 32.0, margin: float = 0.2):
        super().__init__(1.0, scale, margin, "cosine")


class AAMSoftmax(MarginLoss):
    """ArcFace / AAM-softmax (arXiv 1801.07698): s cos(φ_y + m), m in radians."""

    def __init__(self, scale: float = 32.0, margin: float = 0.2):
        super().__init__(1.0, scale, margin, "angle")


class Sparsemax(MarginLoss):
    """Sparsemax loss (arXiv 1602.02068) on scaled cosines: α = 2, no margin."""

    def __init__(self, scale: float | str = "auto"):
        super().__init__(2.0, scale)


class Entmax(MarginLoss):
    """Entmax-type loss (arXiv 1905.05702) on scaled cosines: α > 1, no margin."""

    def __init__(self, alpha: float = 1.5, scale: float | str = "auto"):
        super().__init__(alpha, scale)


class QMargin(MarginLoss):
    """Q-Margin (arXiv 2511.13621): the margin sits in the reference measure, q_y = exp(−s·m); CosFace at α = 1.

    A sample's loss is exactly zero iff c_y − max_{j≠y} c_j ≥ e^{κm}/κ, κ = s(α−1).
    """

    def __init__(self, alpha: float = 1.5, scale: float | str = 10.0, margin: float = 0.2):
        super().__init__(alpha, scale, margin, "reference")


class A3M(MarginLoss):
    """A3M (arXiv 2511.13621): α-divergence loss with an additive angular margin; ArcFace at α = 1.

    A sample's loss is exactly zero iff cos(φ_y + m) − max_{j≠y} c_j ≥ 1/κ, κ = s(α−1). p_y may become exactly 0.
    """

    def __init__(self, alpha: float = 1.5, scale: float | str = 10.0, margin: float = 0.2):
        super().__init__(alpha, scale, margin, "angle")


NAMED = {cls.__name__: cls for cls in (NormSoftmax, AMSoftmax, AAMSoftmax, Sparsemax, Entmax, QMargin, A3M)}
"""Every named loss, as the tests and tables go through them."""
