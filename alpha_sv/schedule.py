"""Margin, α and learning rate as pure functions of the epoch, so there is nothing to checkpoint.

Epochs are fractional: 0 at the first step of training, 1 after one pass.
The keys of the margin are WeSpeaker's, so that a schedule can be carried over:

    epoch < increase_start_epoch                   initial_margin
    increase_start_epoch ≤ epoch < fix_start_epoch  grows, "linear" or "exp"
    epoch ≥ fix_start_epoch                         final_margin
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MarginSchedule:
    """Margin as a function of the (fractional) epoch.

    Parameters
    ----------
    initial_margin, final_margin : float
        Ends of the schedule, in the units of the loss; ≥ 0.
    increase_start_epoch, fix_start_epoch : float
        Where the growth begins and ends, in epochs counted from 0; start ≤ fix. Equal means a jump.
    increase_type : {"linear", "exp", "measure"}
        "exp" approaches the final margin as WeSpeaker does: 1 − e^{−x·ln 1000}, rescaled to end
        exactly there. "measure" lets the q_y = e^{−s·m} of Q-Margin fall linearly instead: slower
        at first, faster towards the end.
    scale : float
        s of the loss, in nats, which "measure" needs.

    Example
    -------
    >>> ramp = MarginSchedule(
    ...     0.0, 0.2, increase_start_epoch=20, fix_start_epoch=40, increase_type="linear"
    ... )
    >>> [ramp(epoch) for epoch in (0, 20, 30, 40, 150)]
    [0.0, 0.0, 0.1, 0.2, 0.2]
    """

    initial_margin: float = 0.0
    final_margin: float = 0.2
    increase_start_epoch: float = 0.0
    fix_start_epoch: float = 0.0
    increase_type: str = "exp"
    scale: float = 0.0

    def __post_init__(self):
        for name in ("initial_margin", "final_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        _check_ramp(self)
        if self.increase_type not in ("linear", "exp", "measure"):
            raise ValueError(f"increase_type must be 'linear', 'exp' or 'measure', got {self.increase_type!r}")
        if (self.increase_type == "measure") != (self.scale > 0):
            raise ValueError(f"increase_type 'measure', and only it, needs the loss's scale > 0, got {self.scale}")

    def __call__(self, epoch: float) -> float:
        """The margin at `epoch` (0 at the first step of training,
        1 after one pass, fractions in between)."""
        x = _ramp(self, epoch)
        if x in (0, 1):
            return (self.initial_margin, self.final_margin)[int(x)]
        if self.increase_type == "measure":
            before, after = (math.exp(-self.scale * margin) for margin in (self.initial_margin, self.final_margin))
            return -math.log(before + (after - before) * x) / self.scale
        if self.increase_type == "exp":
            x = -math.expm1(-x * math.log(1000)) / (1 - 1e-3)
        return self.initial_margin + (self.final_margin - self.initial_margin) * x


@dataclass(frozen=True)
class AlphaSchedule:
    """α as a function of the epoch: from a dense posterior to a sparse one, linearly.

    A loss with scale "auto" keeps κ = s(α−1) on the way, so that s falls as α rises; one with a
    number as its scale keeps s, so that κ grows and the first loss may be α = 1, the softmax
    (CosFace for Q-Margin, ArcFace for A3M).

    Parameters
    ----------
    initial_alpha, final_alpha : float
        ≥ 1; the first > 1 if the loss has scale "auto".
    increase_start_epoch, fix_start_epoch : float
        Where the change begins and ends, as in MarginSchedule.

    Example
    -------
    >>> anneal = AlphaSchedule(1.0, 1.5, increase_start_epoch=2, fix_start_epoch=6)
    >>> [anneal(epoch) for epoch in (0, 2, 4, 6, 10)]
    [1.0, 1.0, 1.25, 1.5, 1.5]
    """

    initial_alpha: float = 1.0
    final_alpha: float = 1.5
    increase_start_epoch: float = 0.0
    fix_start_epoch: float = 0.0

    def __post_init__(self):
        for name in ("initial_alpha", "final_alpha"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        _check_ramp(self)

    def __call__(self, epoch: float) -> float:
        """α at `epoch`."""
        x = _ramp(self, epoch)
        return (1 - x) * self.initial_alpha + x * self.final_alpha


def _check_ramp(schedule) -> None:
    start, end = schedule.increase_start_epoch, schedule.fix_start_epoch
    if not 0 <= start <= end:
        raise ValueError(f"need 0 <= increase_start_epoch <= fix_start_epoch, got {start} and {end}")


def _ramp(schedule, epoch: float) -> float:
    """Fraction of the way at `epoch`: exactly 0 before the start, exactly 1 from the end on."""
    start, end = schedule.increase_start_epoch, schedule.fix_start_epoch
    return float(epoch >= end) if epoch < start or epoch >= end else (epoch - start) / (end - start)


@dataclass(frozen=True)
class ExponentialRate:
    """Learning rate initial_lr · (final_lr / initial_lr)^(epoch / number_of_epochs), times
    epoch / warmup_epochs in the warm-up: WeSpeaker's ExponentialDecrease with
    warm_from_zero and scale_ratio 1.

    WeSpeaker multiplies all of it by scale_ratio = processes ·
    batch size of each / 64: put that into both rates.

    Parameters
    ----------
    initial_lr, final_lr : float
        Positive. With a warm-up, initial_lr is never reached, as the decay begins at once.
    warmup_epochs, number_of_epochs : float
        0 ≤ warmup_epochs ≤ number_of_epochs. After number_of_epochs the rate stays.

    Example
    -------
    >>> rate = ExponentialRate(
    ...     initial_lr=0.1, final_lr=0.00005, warmup_epochs=6, number_of_epochs=150
    ... )
    >>> [f"{rate(epoch):.5f}" for epoch in (0, 3, 6, 75, 150)]
    ['0.00000', '0.04295', '0.07378', '0.00224', '0.00005']
    """

    initial_lr: float
    final_lr: float
    warmup_epochs: float
    number_of_epochs: float

    def __post_init__(self):
        if not (self.initial_lr > 0 and self.final_lr > 0):
            raise ValueError(f"initial_lr and final_lr must be positive, got {self.initial_lr} and {self.final_lr}")
        if not (0 <= self.warmup_epochs <= self.number_of_epochs and self.number_of_epochs > 0):
            raise ValueError(
                f"need 0 <= warmup_epochs <= number_of_epochs and number_of_epochs > 0, got {self.warmup_epochs} and "
                f"{self.number_of_epochs}"
            )

    def __call__(self, epoch: float) -> float:
        """The rate at `epoch`."""
        x = min(epoch / self.number_of_epochs, 1.0)
        warmup = epoch / self.warmup_epochs if epoch < self.warmup_epochs else 1.0
        return warmup * self.initial_lr * (self.final_lr / self.initial_lr) ** x


@dataclass(frozen=True)
class PolynomialRate:
    """Learning rate initial_lr · (1 − epoch / number_of_epochs)^power,
    after a linear warm-up; insightface's for faces.

    Parameters
    ----------
    initial_lr : float
        Positive.
    number_of_epochs : float
        Where the rate is 0.
    warmup_epochs : float
        0 ≤ warmup_epochs < number_of_epochs; the decay counts from their end.
    power : float
        Positive; 1 is a straight line.

    Example
    -------
    >>> rate = PolynomialRate(initial_lr=0.1, number_of_epochs=20)
    >>> [round(rate(epoch), 6) for epoch in (0, 10, 20)]
    [0.1, 0.025, 0.0]
    """

    initial_lr: float
    number_of_epochs: float
    warmup_epochs: float = 0.0
    power: float = 2.0

    def __post_init__(self):
        if not (self.initial_lr > 0 and self.power > 0 and 0 <= self.warmup_epochs < self.number_of_epochs):
            raise ValueError(f"need initial_lr > 0, power > 0 and 0 <= warmup_epochs < number_of_epochs, got {self}")

    def __call__(self, epoch: float) -> float:
        """The rate at `epoch`."""
        if epoch < self.warmup_epochs:
            return self.initial_lr * epoch / self.warmup_epochs
        x = (epoch - self.warmup_epochs) / (self.number_of_epochs - self.warmup_epochs)
        return self.initial_lr * max(1 - x, 0.0) ** self.power


@dataclass(frozen=True)
class TriangularRate:
    """Learning rate that goes from base_lr to max_lr and back, over and over: SpeechBrain's
    CyclicLRScheduler in mode "triangular" (Smith, "Cyclical learning rates for training
    neural networks", 2017).

    Parameters
    ----------
    base_lr, max_lr : float
        0 ≤ base_lr ≤ max_lr.
    half_period : float
        Epochs from one to the other; SpeechBrain's step_size is half_period · steps per epoch.

    Example
    -------
    >>> rate = TriangularRate(base_lr=0.0, max_lr=0.001, half_period=2)
    >>> [rate(epoch) for epoch in (0, 1, 2, 3, 4, 6)]
    [0.0, 0.0005, 0.001, 0.0005, 0.0, 0.001]
    """

    base_lr: float
    max_lr: float
    half_period: float

    def __post_init__(self):
        if not 0 <= self.base_lr <= self.max_lr:
            raise ValueError(f"need 0 <= base_lr <= max_lr, got {self.base_lr} and {self.max_lr}")
        if not self.half_period > 0:
            raise ValueError(f"half_period must be positive (epochs), got {self.half_period}")

    def __call__(self, epoch: float) -> float:
        """The rate at `epoch`."""
        height = 1 - abs(epoch / self.half_period % 2 - 1)
        return self.base_lr + (self.max_lr - self.base_lr) * height
