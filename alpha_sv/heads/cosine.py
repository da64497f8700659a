"""Dense prototypes and a loss in one module: the readable head, and the oracle of every faster one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alpha_sv.losses import MarginLoss, QMargin


class CosineHead(nn.Module):
    """Cosines to C speaker prototypes, then the loss.

    Parameters
    ----------
    embedding_dim : int
        D.
    num_classes : int
        C, the number of speakers.
    loss : MarginLoss, optional
        Default QMargin().

    Attributes
    ----------
    weight : Parameter [C, D]
        Prototypes, not normalised; initialised with unit-norm rows in expectation.

    Example
    -------
    >>> head = CosineHead(embedding_dim=4, num_classes=3)
    >>> head(torch.ones(2, 4), torch.tensor([0, 2])).shape
    torch.Size([])
    """

    def __init__(self, embedding_dim: int, num_classes: int, loss: MarginLoss | None = None):
        super().__init__()
        if embedding_dim < 1 or num_classes < 1:
            raise ValueError(f"embedding_dim and num_classes must be >= 1, got {embedding_dim} and {num_classes}")
        self.loss = QMargin() if loss is None else loss
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim) / embedding_dim**0.5)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """[N, D] or [N, 1, D] → cosines [N, C], in float32 or better also under autocast.

        bfloat16 cosines would carry 0.12 of rounding in a logit at s = 30.
        """
        embeddings = embeddings.squeeze(1) if embeddings.ndim == 3 else embeddings
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.weight.dtype)
            return F.linear(F.normalize(embeddings), F.normalize(self.weight))

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Scalar mean loss of embeddings [N, D] (or [N, 1, D]) with labels [N] (or [N, 1])."""
        return self.loss(self.cosines(embeddings), targets)

    @torch.no_grad()
    def statistics(self, embeddings: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy (of the nearest prototype, no margin) and the loss's sparsity figures on one batch."""
        cosines, targets = self.cosines(embeddings), targets.reshape(-1)
        accuracy = (cosines.argmax(-1) == targets).double().mean().item()
        return {"accuracy": accuracy, **self.loss.sparsity(cosines, targets)}
