"""The losses as modules: one Fenchel-Young loss, one α,
three places for a margin; every name is a row of one table.

    name          α     place of the margin      α = 1 special case
    NormSoftmax   1     none                     cross-entropy on cosines (NormFace)
    AMSoftmax     1     cosine     s(c_y − m)    CosFace
    AAMSoftmax    1     angle      s cos(φ_y+m)  ArcFace
    Sparsemax     2     none
    Entmax        1.5   none
    QMargin       1.5   reference  q_y = e^{−sm} CosFace
    A3M           1.5   angle      s cos(φ_y+m)  ArcFace

All take `reduction`, `implementation` and the inter-top-K penalty as well, see `MarginLoss`. The
ArcFace of the face toolkits has another gradient: `AAMSoftmax(straight_through=True)`.

Each is a `compute_cost` of a SpeechBrain speaker recipe: called with cosines [N, C] or [N, 1, C],
labels [N] or [N, 1] and, if the recipe passes it, `length`, which has no bearing on one label per
utterance. With `reduction="batch"`, at construction or in the call, it is a metric of
SpeechBrain's `MetricStats`.
"""

from __future__ import annotations

from alpha_sv.margin_loss import KAPPA, MarginLoss  # noqa: F401  what all are rows of


class NormSoftmax(MarginLoss):
    """Cross-entropy on scaled cosines (NormFace, arXiv 1704.06369)."""

    def __init__(self, scale: float = 32.0, **options):
        super().__init__(1.0, scale, **options)


class AMSoftmax(MarginLoss):
    """CosFace / AM-softmax (arXiv 1801.09414, 1801.05599): s(c_y − m)."""

    def __init__(self, scale: float = 32.0, margin: float = 0.2, **options):
        super().__init__(1.0, scale, margin, "cosine", **options)


class AAMSoftmax(MarginLoss):
    """ArcFace / AAM-softmax (arXiv 1801.07698): s cos(φ_y + m), m in radians.

    The gradient is the true one, as in SpeechBrain and WeSpeaker. `straight_through` has the same
    value and leaves the factor sin(φ_y + m)/sin φ_y out of the target's gradient, as insightface
    does: a baseline should say which it is.

    Example
    -------
    >>> import torch
    >>> cosines, target = torch.tensor([[0.5, 0.9]], requires_grad=True), torch.tensor([0])
    >>> for how in (False, True):
    ...     loss = AAMSoftmax(scale=64.0, margin=0.5, straight_through=how)(cosines, target)
    ...     print(round(torch.autograd.grad(loss, cosines)[0][0, 0].item(), 1))
    -73.9
    -64.0
    """

    def __init__(self, scale: float = 32.0, margin: float = 0.2, *, straight_through: bool = False, **options):
        super().__init__(1.0, scale, margin, "angle_straight_through" if straight_through else "angle", **options)


class Sparsemax(MarginLoss):
    """Sparsemax loss (arXiv 1602.02068) on scaled cosines: α = 2, no margin."""

    def __init__(self, scale: float | str = "auto", **options):
        super().__init__(2.0, scale, **options)


class Entmax(MarginLoss):
    """Entmax-type loss (arXiv 1905.05702) on scaled cosines: α > 1, no margin."""

    def __init__(self, alpha: float = 1.5, scale: float | str = "auto", **options):
        super().__init__(alpha, scale, **options)


class QMargin(MarginLoss):
    """Q-Margin (arXiv 2511.13621): the margin sits in the
    reference measure, q_y = exp(−s·m); CosFace at α = 1.

    A sample's loss is exactly zero iff c_y − max_{j≠y} c_j ≥ e^{κm}/κ, κ = s(α−1).
    """

    def __init__(self, alpha: float = 1.5, scale: float | str = 10.0, margin: float = 0.2, **options):
        super().__init__(alpha, scale, margin, "reference", **options)


class A3M(MarginLoss):
    """A3M (arXiv 2511.13621): α-divergence loss with an additive angular margin; ArcFace at α = 1.

    A sample's loss is exactly zero iff cos(φ_y + m) − max_{j≠y} c_j ≥ 1/κ, κ = s(α−1).
    p_y may become exactly 0.
    """

    def __init__(self, alpha: float = 1.5, scale: float | str = 10.0, margin: float = 0.2, **options):
        super().__init__(alpha, scale, margin, "angle", **options)


NAMED = {cls.__name__: cls for cls in (NormSoftmax, AMSoftmax, AAMSoftmax, Sparsemax, Entmax, QMargin, A3M)}
"""Every named loss, as the tests and tables go through them."""
