"""A3M-I in a training run: at the start of one epoch, the prototypes move to where their speakers are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks

from alpha_sv.data.manifest import Utterance
from alpha_sv.heads import class_means, reinitialise
from alpha_sv.sb.brain import SpeakerBrain, WholeUtterances

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class Reinitialiser:
    """Sets the prototypes anew when `epoch` (from 1) begins, once, also if the run is killed and resumed.

    Parameters
    ----------
    epoch : int
        Before which epoch.
    utterances : sequence of Utterance
        The training utterances; they are embedded whole, without augmentation.
    labels : mapping
        Speaker → class.
    """

    def __init__(
        self, epoch: int, utterances: Sequence[Utterance], labels: Mapping[str, int], batch_size: int, sample_rate: int
    ):
        self.epoch, self.done = epoch, False
        self.dataset = WholeUtterances(utterances, sample_rate)
        self.labels = torch.tensor([labels[utterance.speaker] for utterance in utterances])
        self.batch_size = batch_size

    def __call__(self, brain: SpeakerBrain, epoch: int) -> None:
        if self.done or epoch != self.epoch:
            return
        brain.modules.eval()
        means, classes = class_means(self._embeddings(brain), len(brain.head.weight))
        brain.modules.train()
        reinitialise(brain.head, brain.prototype_optimizer, means, classes)
        self.done = True
        logger.info("epoch %d: %d prototypes set to their speakers' mean embedding (A3M-I)", epoch, len(classes))

    @torch.no_grad()
    def _embeddings(self, brain: SpeakerBrain):
        loader = torch.utils.data.DataLoader(self.dataset, batch_sampler=self.dataset.batches(self.batch_size))
        for batch in loader:
            with brain.evaluation_ctx:
                embeddings = brain.modules.embedder(batch[0].to(brain.device))
            yield embeddings.float(), self.labels[batch[1]]

    @mark_as_saver
    def _save(self, path):
        Path(path).write_text(str(self.done), encoding="utf-8")

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        self.done = Path(path).read_text(encoding="utf-8") == "True"
