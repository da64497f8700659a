"""A3M-I in a training run: at the start of one epoch,
the prototypes move to where their speakers are."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import if_main_process

from alpha_sv.files import InputError, read_json
from alpha_sv.heads import ShardedHead, class_means, reinitialise
from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.distributed import rank, summed, world_size

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class Reinitialiser:
    """Sets the prototypes anew once, at the beginning of an epoch,
    also if the run is killed and resumed.

    Parameters
    ----------
    dataset : dataset of (input, number) with `batches`
        The training examples, whole and without augmentation, such as `WholeUtterances`.
    labels : int64 [N]
        The class of each.
    epoch : int
        Before which epoch, from 1; with `zero_target` the earliest.
    zero_target : float
        If not 0: before the first epoch from `epoch` on that follows one
        in which more than this fraction of the logged samples had p_y = 0.
    """

    def __init__(
        self,
        dataset: torch.utils.data.Dataset,
        labels: torch.Tensor,
        batch_size: int,
        epoch: int = 1,
        zero_target: float = 0.0,
    ):
        if not 0 <= zero_target < 1:
            raise ValueError(f"reinit_zero_target is a fraction in [0, 1), got {zero_target}")
        self.epoch, self.zero_target, self.done = epoch, zero_target, False
        self.dataset, self.labels, self.batch_size = dataset, labels, batch_size
        self._zero_targets: list[float] = []

    def observe(self, zero_target: float) -> None:
        """Take note of the fraction of a batch that had p_y = 0."""
        if not self.done:
            self._zero_targets.append(zero_target)

    def __call__(self, brain: SpeakerBrain, epoch: int) -> None:
        seen, self._zero_targets = self._zero_targets, []
        if self.done or epoch < self.epoch:
            return
        fraction = sum(seen) / max(len(seen), 1)
        if fraction <= self.zero_target if self.zero_target else epoch != self.epoch:
            return
        means, classes = self._means(brain)
        reinitialise(brain.head, brain.prototype_optimizer, means, classes)
        self.done = True
        count = len(classes)
        if isinstance(brain.head, ShardedHead):
            count = int(summed(torch.tensor(count), brain.device))
        logger.info(
            "epoch %d: %d prototypes set to their speakers' mean embedding (A3M-I); before it p_y = 0 for %.1f %%",
            *(epoch, count, 100 * fraction),
        )

    def _means(self, brain: SpeakerBrain) -> tuple[torch.Tensor, torch.Tensor]:
        """Of all classes, or, where the prototypes are
        split over processes, of those of this one."""
        batches, (count, dim) = self.dataset.batches(self.batch_size), brain.head.weight.shape
        embeddings = self._embeddings(brain, batches[rank() :: world_size()])
        if not isinstance(brain.head, ShardedHead):
            return class_means(embeddings, count, combine=lambda s: summed(s, brain.device), embedding_dim=dim)
        own = brain.head.own_samples(embeddings, rounds=-(-len(batches) // world_size()))
        means, rows = class_means(own, count, embedding_dim=dim, may_be_empty=True)
        return means, rows + brain.head.classes.start

    def _embeddings(self, brain: SpeakerBrain, batches: list[list[int]]):
        for batch in torch.utils.data.DataLoader(
            self.dataset, batch_sampler=batches, num_workers=brain.hparams.num_workers
        ):
            yield brain.embed_whole(batch[0]), self.labels[batch[1]]

    @mark_as_saver
    def _save(self, path):
        if if_main_process():
            Path(path).write_text(json.dumps([self.done, self._zero_targets]), encoding="utf-8")

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        state = read_json(path, like=[(bool, [float])])
        if list(map(type, state)) != [bool, list]:
            raise InputError(f"{path} is not the state of a reinitialiser; delete that checkpoint")
        self.done, self._zero_targets = state
