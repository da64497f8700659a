"""Before fine-tuning: how many samples would have a gradient,
with each published pair of scale and α.

With κ = s(α − 1), a sample has p = e_y, no loss and no gradient, iff

    Q-Margin   c_y − max c_j ≥ e^{κm} / κ        A3M   cos(φ_y + m) − max c_j ≥ 1 / κ        (j ≠ y)

(docs/losses.md). So the share depends on κ and m alone: the published pairs (20, 1.25), (10, 1.5)
and (5, 2) have one κ = 5 and hence one share, and differ in how large the gradient of the other
samples is. A pre-trained model that tells its training speakers apart is beyond that threshold on
most samples when the margin is 0; then a sparse loss has nothing to teach it ("starvation",
Mošner et al., Odyssey 2026).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alpha_sv.functional.solver import Active
from alpha_sv.losses import MarginLoss, QMargin
from alpha_sv.monitor import STARVED, sparsity_figures

GOOD_PAIRS = ((20.0, 1.25), (10.0, 1.5), (5.0, 2.0))
"""(s, α) of the papers."""

_ENOUGH = 0.5  # the share of samples with a gradient that a remedy is to give back


@dataclass(frozen=True)
class Regime:
    """What a loss makes of the samples; shares are in [0, 1].

    Parameters
    ----------
    loss : MarginLoss
    zero_loss : float
        p = e_y: no loss and no gradient.
    one_hot : float
        p is one-hot, on the right class or on another.
    zero_target : float
        p_y = 0: the target does not take part in the posterior,
        and its gradient is the largest there is.
    gradient : float
        Mean of 1 − p_y, the size of the gradient at the target's logit.
    """

    loss: MarginLoss
    zero_loss: float
    one_hot: float
    zero_target: float
    gradient: float

    @property
    def kappa(self) -> float:
        return self.loss.scale * (self.loss.alpha - 1)


def regime(loss: MarginLoss, cosines: Tensor, targets: Tensor) -> Regime:
    """Shares of samples [N] with cosines [N, C] to the prototypes, under a loss as it is now.

    Example
    -------
    >>> cosines = torch.tensor([[0.9, 0.1], [0.1, 0.5], [0.4, 0.3], [0.9, 0.1]])
    >>> found = regime(QMargin(alpha=2, scale=5, margin=0), cosines, torch.tensor([0, 0, 0, 1]))
    >>> (
    ...     found.zero_loss,
    ...     found.one_hot,
    ...     found.zero_target,
    ... )  # gaps of 0.8, −0.4, 0.1 and −0.8; 1/κ = 0.2
    (0.25, 0.75, 0.5)
    """
    if loss.alpha == 1.0:  # a softmax is never sparse
        return Regime(loss, 0.0, 0.0, 0.0, 1 - loss.sparsity(cosines, targets)["target_probability"])
    seen: list[Active] = []
    with torch.no_grad():
        loss.per_example(cosines, targets, seen.append)
    figures = sparsity_figures(seen[0])
    one_hot = (seen[0].row_sums((seen[0].p > 0).double()) == 1).double().mean().item()
    return Regime(loss, figures["zero_loss"], one_hot, figures["zero_target"], 1 - figures["target_probability"])


@dataclass(frozen=True)
class Diagnosis:
    """The regimes of the published pairs and of the chosen loss,
    without the margin and with it; what to do.

    `str` of it is a table and the advice.
    """

    samples: int
    classes: int
    regimes: tuple[Regime, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{'loss':<36} {'κ':>5} {'no loss':>8} {'one-hot':>8} {'p_y = 0':>8} {'1 − p_y':>8}"
        lines = [f"{self.samples} samples, {self.classes} classes", head]
        for found in self.regimes:
            shares = (found.zero_loss, found.one_hot, found.zero_target)
            cells = " ".join(f"{100 * share:>6.1f} %" for share in shares)
            lines.append(f"{shown(found.loss):<36} {found.kappa:>5.3g} {cells} {found.gradient:>8.3f}")
        return "\n".join([*lines, *self.advice])

    def to_json(self) -> dict:
        """Plain numbers."""
        rows = [
            {
                "loss": shown(found.loss),
                "alpha": found.loss.alpha,
                "scale": found.loss.scale,
                "margin": found.loss.margin,
                "zero_loss": found.zero_loss,
                "one_hot": found.one_hot,
                "zero_target": found.zero_target,
                "gradient": found.gradient,
            }
            for found in self.regimes
        ]
        return {"samples": self.samples, "classes": self.classes, "regimes": rows, "advice": list(self.advice)}


def diagnose(
    cosines: Tensor,
    targets: Tensor,
    chosen: MarginLoss | None = None,
    margin: float = 0.2,
    pairs: Sequence[tuple[float, float]] = GOOD_PAIRS,
) -> Diagnosis:
    """What fine-tuning would start with.

    Parameters
    ----------
    cosines : Tensor [N, C]
        Of training samples, as training cuts them, to the prototypes it begins with.
    targets : integer Tensor [N]
        Their classes.
    chosen : MarginLoss, optional
        The loss that is to be used, which the advice is about; by default Q-Margin with (10, 1.5).
    margin : float
        That a schedule arrives at.
    pairs : sequence of (scale, α)
        Looked at with Q-Margin.

    Raises
    ------
    ValueError
        There is no sample or fewer than two classes.

    Example
    -------
    >>> cosines = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.8, 0.2], [0.3, 0.2, 0.4]])
    >>> found = diagnose(cosines, torch.tensor([0, 1, 2]), margin=0.1)
    >>> [
    ...     round(row.zero_loss, 2) for row in found.regimes if row.loss.alpha == 2
    ... ]  # m = 0, m = 0.1
    [0.67, 0.67]
    """
    if cosines.ndim != 2 or not len(cosines) or cosines.shape[1] < 2:
        raise ValueError(f"a diagnosis needs samples and at least two classes, got cosines {tuple(cosines.shape)}")
    chosen = copy.deepcopy(QMargin() if chosen is None else chosen)
    losses = [QMargin(alpha=alpha, scale=scale, margin=0.0) for scale, alpha in pairs]
    alike = [(type(loss), loss.scale, loss.alpha) for loss in losses]
    if (type(chosen), chosen.scale, chosen.alpha) not in alike:
        losses.append(chosen)
    margins = [0.0, margin] if margin and chosen.place != "none" else [0.0]
    regimes = [regime(at_margin(loss, m), cosines, targets) for loss in losses for m in margins]
    advice = [_advice(regime(at_margin(chosen, m), cosines, targets), cosines, targets) for m in margins]
    if chosen.alpha > 1 and len({round(scale * (alpha - 1), 9) for scale, alpha in pairs}) == 1:
        advice.append(
            "The published pairs have one κ = s(α − 1), on which alone the share without loss depends: another of them "
            "changes the size of the gradient, not who has one."
        )
    return Diagnosis(len(cosines), cosines.shape[1], tuple(regimes), tuple(advice))


def shown(loss: MarginLoss) -> str:
    """A loss in few words.

    Example
    -------
    >>> shown(QMargin(alpha=2, scale=5, margin=0.1))
    'QMargin (s = 5, α = 2, m = 0.1)'
    """
    return f"{type(loss).__name__} (s = {loss.scale:g}, α = {loss.alpha:g}, m = {loss.margin:.3g})"


def gaps(cosines: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(c_y, max over j ≠ y of c_j), each [N] in double precision."""
    cosines = cosines.double()
    index = targets.long().unsqueeze(1)
    return cosines.gather(1, index).squeeze(1), cosines.scatter(1, index, -math.inf).amax(dim=1)


def margin_for(loss: MarginLoss, cosines: Tensor, targets: Tensor, share: float) -> float | None:
    """The smallest margin with which at most `share` of
    the samples have no loss; None where no margin does it.

    From the conditions at the head of this module, solved for m.
    """
    own, other = gaps(cosines, targets)
    kappa = loss.scale * (loss.alpha - 1)
    if loss.place == "reference":
        critical = (kappa * (own - other)).clamp(min=1e-9).log() / kappa
    elif loss.place == "angle":
        reach = 1 / kappa + other
        critical = reach.clamp(-1, 1).acos() - own.clamp(-1, 1).acos()
        critical[reach > 1] = -math.inf
    else:
        return None
    needed = max(_above(critical, share), 0.0)
    return needed if needed <= 1.0 else None


def kappa_for(loss: MarginLoss, cosines: Tensor, targets: Tensor, share: float) -> float | None:
    """The largest κ below the loss's own with which at most
    `share` of the samples have no loss, at its margin."""
    own, other = gaps(cosines, targets)
    if loss.place == "angle":
        own = (own.clamp(-1, 1).acos() + loss.margin).cos()
    threshold = _above(own - other, share)
    margin, kappa = loss.margin if loss.place == "reference" else 0.0, loss.scale * (loss.alpha - 1)
    low, high = 0.0, min(kappa, 1 / margin) if margin else kappa  # e^{κm}/κ falls until κ = 1/m
    if threshold <= 0 or math.exp(high * margin) / high > threshold:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.exp(middle * margin) / middle > threshold else (low, middle)
    return low or None


def _above(values: Tensor, share: float) -> float:
    """A little more than the value that more than `share`
    of the values reach: at most `share` are ≥ it."""
    ordered = values.sort(descending=True).values
    rank = int(share * len(ordered))
    return ordered[min(rank, len(ordered) - 1)].item() + 1e-6


def at_margin(loss: MarginLoss, margin: float) -> MarginLoss:
    """The same loss with another margin."""
    loss = copy.deepcopy(loss)
    loss.margin = margin
    return loss


def _advice(found: Regime, cosines: Tensor, targets: Tensor) -> str:
    name, percent = shown(found.loss), f"{100 * found.zero_loss:.0f} %"
    if found.loss.alpha == 1.0:
        return f"{name} is a softmax: every sample has a gradient, of {found.gradient:.3f} on average."
    if found.zero_target > _ENOUGH:
        return (
            f"{100 * found.zero_target:.0f} % have p_y = 0 with {name}: the prototypes are not where their speakers "
            "are. Begin with the class means (prototypes: means)."
        )
    if found.zero_loss <= _ENOUGH:
        return f"{percent} have no gradient with {name}: the others are enough to learn from."
    verdict = "fine-tuning will starve" if found.zero_loss > STARVED else "most samples teach nothing"
    remedies = []
    if (margin := margin_for(found.loss, cosines, targets, _ENOUGH)) is not None:
        remedies.append(f"raise the margin to {math.ceil(1000 * margin) / 1000:g}")
    if (kappa := kappa_for(found.loss, cosines, targets, _ENOUGH)) is not None:
        scale, alpha = kappa / (found.loss.alpha - 1), 1 + kappa / found.loss.scale
        remedies.append(
            f"lower κ = s(α − 1) from {found.kappa:.3g} to {kappa:.3g} (s = {scale:.3g} with this α, or α = "
            f"{alpha:.3g} with this s)"
        )
    cure = f": {'; or '.join(remedies)}; then half of them have a gradient" if remedies else ""
    return f"{percent} have no gradient with {name}: {verdict}{cure}."
