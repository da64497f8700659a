"""A3M-I: prototypes set anew, once in mid-training,
to the mean direction of their speakers' embeddings.

A3M can drive p_y to exactly 0 while the prototypes are poor: the target no longer takes part in the
posterior. The published cure (Mošner et al., Odyssey 2026) puts each prototype where its speaker
is: at the L2-normalised mean of the speaker's L2-normalised embeddings, of the current network and
without augmentation, and forgets the prototypes' optimiser state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from alpha_sv.functional.checks import check_labels
from alpha_sv.heads.cosine import unit


@torch.no_grad()
def class_means(
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    combine: Callable[[Tensor], Tensor] | None = None,
    embedding_dim: int | None = None,
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean directions, from batches of (embeddings [N, D], labels [N]).

    Parameters
    ----------
    batches : iterable
        Consumed one at a time.
    num_classes : int
        C.
    combine : callable, optional
        From the sums over these batches to those over the batches of all processes: an
        all-reduce. Every process comes to it, also one without batches, or one that
        fails: then all of them raise.
    embedding_dim : int, optional
        D, needed with `combine`, where a process may have no batch to tell it.
    may_be_empty : bool
        Without batches return [0, D] and [0]:
        of the classes of one rank of a `ShardedHead` none may have samples.

    Returns
    -------
    (Tensor [S, D], int64 [S])
        Unit vectors, and the classes they belong to:
        those that had samples and whose embeddings do not cancel out.

    Raises
    ------
    ValueError
        There is no batch anywhere, a label outside [0,
        num_classes), or an embedding that is not finite.

    Example
    -------
    >>> means, classes = class_means(
    ...     [(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([3, 3]))], num_classes=5
    ... )
    >>> classes.tolist(), [round(x, 4) for x in means[0].tolist()]
    ([3], [0.7071, 0.7071])
    """
    if combine is not None and embedding_dim is None:
        raise ValueError("class_means: with `combine`, `embedding_dim` says what a process without batches sends")
    sums, problem = None, None
    try:
        for embeddings, labels in batches:
            sums = _added(sums, embeddings, labels, num_classes)
    except Exception as error:
        if combine is None:
            raise
        problem = error  # raised below: a process that stopped here would leave the others waiting in `combine`
    if combine is not None:
        empty = torch.zeros(num_classes, embedding_dim, dtype=torch.float64)
        sums = combine(empty.fill_(torch.nan) if problem else empty if sums is None else sums)
        if problem:
            raise problem
        if sums.isnan().any():
            raise ValueError("class_means: another process failed, see its message")
    if may_be_empty and sums is None:
        sums = torch.zeros(num_classes, embedding_dim, dtype=torch.float64)
    elif sums is None or not sums.any():
        raise ValueError("class_means: there is no batch, so no class has a mean")
    classes = (torch.linalg.vector_norm(sums, dim=1) > 1e-6).nonzero().squeeze(1)
    return F.normalize(sums[classes]), classes


def _added(sums: Tensor | None, embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    if not embeddings.isfinite().all():
        raise ValueError("class_means: an embedding is not finite; the network has diverged, lower the learning rate")
    labels = labels.cpu()  # on a GPU their values would not be looked at
    check_labels(labels, embeddings.shape[:1], num_classes)
    if sums is None:
        sums = torch.zeros(num_classes, embeddings.shape[1], dtype=torch.float64)
    return sums.index_add_(0, labels.long(), unit(embeddings.double().cpu()))


@torch.no_grad()
def reinitialise(head, optimizer: torch.optim.Optimizer, means: Tensor, classes: Tensor) -> None:
    """Set the prototypes of `classes` to `means`,
    and drop what `optimizer` remembers of the head's weight.

    A class without a mean keeps its prototype. A `ShardedHead` takes those of its own classes.
    """
    weight = head.weight
    own = getattr(head, "classes", range(len(weight)))
    here = (classes >= own.start) & (classes < own.stop)
    weight.index_copy_(0, (classes[here] - own.start).to(weight.device), means[here].to(weight))
    optimizer.state.pop(weight, None)
