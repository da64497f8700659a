"""A margin that grows during training: a pure function of the epoch, so there is nothing to checkpoint.

The keys are WeSpeaker's, so that a schedule can be carried over:

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
    increase_type : {"linear", "exp"}
        "exp" approaches the final margin as WeSpeaker does: 1 − e^{−x·ln 1000}, rescaled to end exactly there.

    Example
    -------
    >>> ramp = MarginSchedule(0.0, 0.2, increase_start_epoch=20, fix_start_epoch=40, increase_type="linear")
    >>> [ramp(epoch) for epoch in (0, 20, 30, 40, 150)]
    [0.0, 0.0, 0.1, 0.2, 0.2]
    """

    initial_margin: float = 0.0
    final_margin: float = 0.2
    increase_start_epoch: float = 0.0
    fix_start_epoch: float = 0.0
    increase_type: str = "exp"

    def __post_init__(self):
        for name in ("initial_margin", "final_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not 0 <= self.increase_start_epoch <= self.fix_start_epoch:
            raise ValueError(
                f"need 0 <= increase_start_epoch <= fix_start_epoch, got {self.increase_start_epoch} and "
                f"{self.fix_start_epoch}"
            )
        if self.increase_type not in ("linear", "exp"):
            raise ValueError(f"increase_type must be 'linear' or 'exp', got {self.increase_type!r}")

    def __call__(self, epoch: float) -> float:
        """The margin at `epoch` (0 at the first step of training, 1 after one pass, fractions in between)."""
        if epoch < self.increase_start_epoch:
            return self.initial_margin
        if epoch >= self.fix_start_epoch:
            return self.final_margin
        x = (epoch - self.increase_start_epoch) / (self.fix_start_epoch - self.increase_start_epoch)
        if self.increase_type == "exp":
            x = -math.expm1(-x * math.log(1000)) / (1 - 1e-3)
        return self.initial_margin + (self.final_margin - self.initial_margin) * x
