"""The training loop: SpeechBrain's Brain with an embedder, a head, a margin schedule and validation by EER.

Whatever is random or scheduled is a function of the number of optimizer steps taken, which the checkpoint holds. A
run that was killed and resumed therefore takes the same steps as one that was not.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import if_main_process

from alpha_sv.data.files import atomic_write
from alpha_sv.data.manifest import Utterance
from alpha_sv.data.trials import Trials
from alpha_sv.embedding.embedders import length_batches
from alpha_sv.embedding.extract import read_whole
from alpha_sv.embedding.features import whole_length
from alpha_sv.metrics import eer, min_dcf
from alpha_sv.scoring import cosine_scores

logger = logging.getLogger(__name__)


class SpeakerBrain(sb.Brain):
    """Trains `modules["embedder"]` and `modules["head"]` on batches (waveforms [N, T], labels [N]).

    `hparams` needs: seed, steps_per_epoch, log_interval, training_log (TrainingLog), valid_set (ValidationSet), and may
    have lr_schedule (called before each step with the optimizer and the step's number, from 1), margin_schedule
    (MarginSchedule), reinitialiser (Reinitialiser) and, for prototypes that are trained apart, prototype_opt_class;
    their learning rate then keeps its ratio to that of the rest.
    """

    def compute_forward(self, batch, stage):
        return self.modules.embedder(batch[0].to(self.device))

    def compute_objectives(self, embeddings, batch, stage):
        labels = batch[1].to(self.device)
        if self._logs_next_step():  # before the step, so that the figures belong to this loss
            self.statistics = self.head.statistics(embeddings.detach(), labels)
        return self.modules.head(embeddings, labels)

    def _logs_next_step(self) -> bool:
        return (self.optimizer_step + 1) % self.hparams.log_interval == 0

    def init_optimizers(self):
        prototype_opt_class = getattr(self.hparams, "prototype_opt_class", None)
        if prototype_opt_class is None:
            super().init_optimizers()
            self.prototype_optimizer = self.optimizer
            return
        self.optimizer = self.opt_class(self.modules.embedder.parameters())
        self.prototype_optimizer = prototype_opt_class(self.head.parameters())
        self.optimizers_dict = {"opt_class": self.optimizer, "prototypes": self.prototype_optimizer}
        self.lr_ratio = self.prototype_optimizer.param_groups[0]["lr"] / self.optimizer.param_groups[0]["lr"]
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)
            self.checkpointer.add_recoverable("prototype_optimizer", self.prototype_optimizer)

    def on_fit_batch_start(self, batch, should_step):
        torch.manual_seed(self.hparams.seed + 1_000_003 * self.optimizer_step + self.step)
        if getattr(self.hparams, "margin_schedule", None) is not None:
            epoch = self.optimizer_step / self.hparams.steps_per_epoch
            self.head.loss.margin = self.hparams.margin_schedule(epoch)
        if getattr(self.hparams, "lr_schedule", None) is not None and should_step:
            self.hparams.lr_schedule(self.optimizer, self.optimizer_step + 1)
            if self.prototype_optimizer is not self.optimizer:
                lr = self.optimizer.param_groups[0]["lr"]
                self.prototype_optimizer.param_groups[0]["lr"] = self.lr_ratio * lr

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if not should_step or self.optimizer_step % self.hparams.log_interval:
            return
        head = self.head
        record = {
            "kind": "train",
            "step": self.optimizer_step,
            "epoch": self.optimizer_step / self.hparams.steps_per_epoch,
            "loss": loss.item(),
            "lr": self.optimizer.param_groups[0]["lr"],
            "margin": head.loss.margin,
            "scale": head.loss.scale,
            **self.statistics,
        }
        if if_main_process():
            self.hparams.training_log.append(record)

    @property
    def head(self):
        """The head itself, also when it is wrapped for distributed training."""
        return getattr(self.modules.head, "module", self.modules.head)

    def on_stage_start(self, stage, epoch):
        if stage == sb.Stage.VALID:
            self.valid_embeddings = {}
        elif stage == sb.Stage.TRAIN and getattr(self.hparams, "reinitialiser", None) is not None:
            self.hparams.reinitialiser(self, epoch)

    @torch.no_grad()
    def evaluate_batch(self, batch, stage):
        """Collect the embeddings of a batch (waveforms [N, T], utterance numbers [N])."""
        with self.evaluation_ctx:
            embeddings = self.compute_forward(batch, stage).float().cpu()
        self.valid_embeddings.update(zip(batch[1].tolist(), embeddings.numpy(), strict=True))
        return torch.zeros(())

    def on_stage_end(self, stage, stage_loss, epoch):
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        elif stage == sb.Stage.VALID:
            result = self.hparams.valid_set.evaluate(self.valid_embeddings)
            logger.info(
                "epoch %d, step %d: train loss %.4f, development EER %.2f %%, minDCF(0.01) %.3f",
                epoch,
                self.optimizer_step,
                self.train_loss,
                100 * result["eer"],
                result["min_dcf"],
            )
            if if_main_process():
                record = {"kind": "valid", "step": self.optimizer_step, "epoch": epoch, **result}
                self.hparams.training_log.append({**record, "train_loss": float(self.train_loss)})
            if self.checkpointer is not None:
                self.checkpointer.save_and_keep_only(
                    meta={"eer": result["eer"]}, min_keys=["eer"], verbosity=logging.DEBUG
                )


class WholeUtterances(torch.utils.data.Dataset):
    """Utterances as they are, whole and without augmentation: map-style dataset of (waveform, utterance number)."""

    def __init__(self, utterances: Sequence[Utterance], sample_rate: int = 16000):
        self.utterances, self.sample_rate = list(utterances), sample_rate

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return read_whole(self.utterances[number], self.sample_rate), number

    def batches(self, batch_size: int) -> list[list[int]]:
        """Numbers of utterances of equal length, at most `batch_size` together."""
        lengths = [whole_length(utterance.num_samples, self.sample_rate) for utterance in self.utterances]
        return [rows.tolist() for rows in length_batches(lengths, batch_size)]


class ValidationSet(WholeUtterances):
    """Development trials and the utterances they name.

    Parameters
    ----------
    utterances : sequence of Utterance
        At least those that the trials name.
    trials : Trials
        With labels.
    """

    def __init__(self, utterances: Sequence[Utterance], trials: Trials, sample_rate: int = 16000):
        if trials.labels is None or trials.labels.all() or not trials.labels.any():
            raise ValueError("development trials need labels, with at least one target and one nontarget trial")
        used = sorted(set(trials.enroll.tolist()) | set(trials.test.tolist()))
        by_id = {utterance.utt_id: utterance for utterance in utterances}
        if missing := [utt_id for utt_id in used if utt_id not in by_id]:
            raise ValueError(
                f"{len(missing)} utterances of the development trials are not in the manifest: {', '.join(missing[:5])}"
            )
        super().__init__([by_id[utt_id] for utt_id in used], sample_rate)
        number = {utt_id: i for i, utt_id in enumerate(used)}
        self.enroll = np.array([number[utt_id] for utt_id in trials.enroll.tolist()])
        self.test = np.array([number[utt_id] for utt_id in trials.test.tolist()])
        self.labels = np.asarray(trials.labels, dtype=bool)

    def evaluate(self, embeddings: dict[int, np.ndarray]) -> dict[str, float]:
        """EER and minDCF(0.01) of cosine scores, from utterance number → embedding."""
        there = np.isin(self.enroll, list(embeddings)) & np.isin(self.test, list(embeddings))  # few with --debug
        rows = [np.stack([embeddings[i] for i in side[there]]) for side in (self.enroll, self.test)]
        scores, labels = cosine_scores(*rows), self.labels[there]
        target, nontarget = scores[labels], scores[~labels]
        return {"eer": float(eer(target, nontarget)[0]), "min_dcf": float(min_dcf(target, nontarget)[0])}


@register_checkpoint_hooks
class TrainingLog:
    """One JSON object a line; a checkpoint holds the number of lines, so a resumed run never repeats one.

    Example
    -------
    >>> import tempfile
    >>> log = TrainingLog(os.path.join(tempfile.mkdtemp(), "train_log.jsonl"))
    >>> log.append({"kind": "train", "step": 1})
    >>> log.path.read_text()
    '{"kind": "train", "step": 1}\\n'
    """

    def __init__(self, path: str | os.PathLike):
        self.path, self.lines, self._trimmed = Path(path), 0, False

    def append(self, record: dict) -> None:
        if not self._trimmed:
            self._trim()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.lines += 1

    def _trim(self) -> None:
        kept = self.path.read_bytes().splitlines(keepends=True)[: self.lines] if self.path.exists() else []
        with atomic_write(self.path, "wb") as file:
            file.write(b"".join(kept))
        self._trimmed = True

    @mark_as_saver
    def _save(self, path):
        Path(path).write_text(str(self.lines), encoding="utf-8")

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        self.lines, self._trimmed = int(Path(path).read_text(encoding="utf-8")), False
