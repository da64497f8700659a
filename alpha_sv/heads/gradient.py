"""From the gradient of a few cosines to that of embeddings and prototypes, a block of pairs at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8192  # (sample, speaker) pairs, or prototypes, gathered at a time


def prototype_gradients(
    embeddings: Tensor, weight: Tensor, rows: Tensor, classes: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor]:
    """With cosines c_ij = e_i·ŵ_j, ŵ = w/|w|, and g_ij = ∂loss/∂c_ij on the n pairs (rows, classes), zero elsewhere,

        ∂e_i = Σ_j g_ij ŵ_j        and        ∂w_j = (I − ŵ_j ŵ_jᵀ) Σ_i g_ij e_i / |w_j|.

    Parameters
    ----------
    embeddings : Tensor [N, D]
        Unit vectors.
    weight : Tensor [C, D]
        Prototypes of any length.
    rows, classes : int64 [n]
        The pairs.
    residual : Tensor [n]
        g_ij.

    Returns
    -------
    (Tensor [N, D], sparse Tensor [C, D])
        The second with one row for each class that occurs.
    """
    touched, place = classes.unique(return_inverse=True)
    grad_embeddings = torch.zeros_like(embeddings)
    pulled = embeddings.new_zeros(len(touched), embeddings.shape[1])
    for row, cls, at, g in zip(*(x.split(_BLOCK) for x in (rows, classes, place, residual)), strict=True):
        g = g.unsqueeze(1)
        grad_embeddings.index_add_(0, row, F.normalize(weight.index_select(0, cls)).mul_(g))
        pulled.index_add_(0, at, embeddings.index_select(0, row).mul_(g))
    for start in range(0, len(touched), _BLOCK):
        own, block = weight.index_select(0, touched[start : start + _BLOCK]), pulled[start : start + _BLOCK]
        norm = torch.linalg.vector_norm(own, dim=1, keepdim=True).clamp_(min=1e-12)
        own.div_(norm)
        block.addcmul_(own, (own * block).sum(1, keepdim=True), value=-1).div_(norm)
    grad_weight = torch.sparse_coo_tensor(
        touched.unsqueeze(0), pulled, weight.shape, is_coalesced=True, check_invariants=False
    )
    return grad_embeddings, grad_weight
