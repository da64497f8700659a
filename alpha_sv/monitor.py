"""How sparse the training is: figures of one batch,
and a watch that warns when the gradient starves."""

from __future__ import annotations

import logging
from collections import deque

import torch
from torch import Tensor

from alpha_sv.functional.solver import Active

logger = logging.getLogger(__name__)

STARVED = 0.9
"""Fraction of zero-loss samples from which sparse
training was published to starve (arXiv 2606.31664)."""


@torch.no_grad()
def sparsity_figures(found: Active) -> dict[str, float]:
    """Figures of one batch, from what the solver found for it.

    Returns
    -------
    dict
        support: mean number of speakers with p > 0.
        zero_loss: fraction of samples with p = e_y, that is no loss and no gradient.
        zero_target: fraction with p_y = 0, where the target is beyond the threshold.
        target_probability: mean p_y.
        candidates: classes the last solve ran over, for each active one.
    """
    return figures_of_rows(found.row_sums((found.p > 0).double()), found.p.index_select(0, found.at), len(found.p))


def figures_of_rows(support: Tensor, p_target: Tensor, candidates: Tensor | int) -> dict[str, float]:
    """As `sparsity_figures`, from each sample's number of
    active speakers and p_y [N], and all that were solved for."""
    values = torch.stack(
        [
            support.mean(),
            ((support == 1) & (p_target > 0)).to(support.dtype).mean(),
            (p_target == 0).to(support.dtype).mean(),
            p_target.mean(),
            candidates / support.sum(),
        ]
    ).tolist()
    names = ("support", "zero_loss", "zero_target", "target_probability", "candidates")
    return dict(zip(names, values, strict=True))


class SparsityMonitor:
    """Looks at every 20th training batch,
    and warns once when the samples with zero loss are too many.

    Attributes
    ----------
    figures : dict
        `sparsity_figures` of the batch last looked at; empty before.
    zero_loss : float
        Mean fraction of zero-loss samples over the last ten looks; NaN before the tenth.
    """

    EVERY, LOOKS = 20, 10

    def __init__(self):
        self.figures: dict[str, float] = {}
        self.warned = False
        self._calls, self._recent = 0, deque(maxlen=self.LOOKS)

    @property
    def zero_loss(self) -> float:
        return sum(self._recent) / self.LOOKS if len(self._recent) == self.LOOKS else float("nan")

    def due(self) -> bool:
        """Count one batch; whether to look at it."""
        self._calls += 1
        return (self._calls - 1) % self.EVERY == 0

    def look(self, found: Active) -> None:
        self.note(sparsity_figures(found))

    def note(self, figures: dict[str, float]) -> None:
        """Take in the figures of a batch that was due."""
        self.figures = figures
        self._recent.append(self.figures["zero_loss"])
        if self.zero_loss > STARVED and not self.warned:
            self.warned = True
            logger.warning(
                "%.0f %% of the last samples have zero loss, so no gradient, and the embedder hardly learns (gradient "
                "starvation): lower scale·(alpha − 1), that is alpha or scale; or raise the margin, or augment more",
                100 * self.zero_loss,
            )
