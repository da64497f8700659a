"""Several prototypes for each speaker, of which the nearest counts:
sub-center ArcFace, and any other loss."""

from __future__ import annotations

from torch import Tensor

from alpha_sv.heads.cosine import CosineHead
from alpha_sv.losses import MarginLoss


class SubCenterHead(CosineHead):
    """A dense head with K prototypes for each speaker (Deng et al., Sub-center ArcFace, ECCV 2020).

    The cosine of a speaker is the largest of those to his K prototypes, so a few wrong labels or a
    second recording condition may have a prototype of their own. With K = 1 it is `CosineHead`. The
    losses see cosines as always, hence every α and every place of the margin keeps its theorems.

    Parameters
    ----------
    embedding_dim, num_classes, loss
        As `CosineHead`.
    sub_centers : int
        K ≥ 1; 3 is usual where labels are noisy, 1 where they are clean. Memory grows with it.

    Attributes
    ----------
    weight : Parameter [K·C, D]
        Prototype k of speaker c is row k·C + c.
        `reinitialise` (A3M-I) moves the first one of a speaker.

    Raises
    ------
    ValueError
        As `CosineHead`; sub_centers below 1.

    Example
    -------
    >>> import torch
    >>> head = SubCenterHead(embedding_dim=4, num_classes=3, sub_centers=2)
    >>> head.weight.shape, head.cosines(torch.ones(5, 4)).shape
    (torch.Size([6, 4]), torch.Size([5, 3]))
    """

    def __init__(self, embedding_dim: int, num_classes: int, loss: MarginLoss | None = None, *, sub_centers: int = 3):
        if sub_centers < 1:
            raise ValueError(f"sub_centers must be >= 1, got {sub_centers}")
        super().__init__(embedding_dim, num_classes * sub_centers, loss)
        self.sub_centers = sub_centers

    def cosines(self, embeddings: Tensor) -> Tensor:
        """[N, D] or [N, 1, D] → the largest cosine to each speaker's prototypes [N, C]."""
        return super().cosines(embeddings).unflatten(1, (self.sub_centers, -1)).amax(1)
