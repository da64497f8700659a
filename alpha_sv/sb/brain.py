"""The training loop: SpeechBrain's Brain with an embedder,
a head, a margin schedule and validation by EER.

Whatever is random or scheduled is a function of the number of optimizer steps taken,
which the checkpoint holds. A run that was killed and resumed therefore takes the same
steps as one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead
from alpha_sv.sb.checkpointer import ends_an_epoch
from alpha_sv.sb.diagnosing import diagnose_run
from alpha_sv.sb.distributed import mean_over_processes, merged, rank, with_common_batch_norm
from alpha_sv.sb.heads import add_head
from alpha_sv.sb.weights import save_trained

logger = logging.getLogger(__name__)


class SpeakerBrain(sb.Brain):
    """Trains `modules["embedder"]` and `modules["head"]`
    on batches (waveforms [N, T] or images, labels [N]).

    `hparams` needs: seed, steps_per_epoch, log_interval, number_of_epochs, training_log
    (TrainingLog), valid_set (DevelopmentSet), run_folder (RunFolder). It may have lr_schedule
    (called before each step with the optimizer and the step's number, from 1), margin_schedule
    (MarginSchedule), alpha_schedule (AlphaSchedule), reinitialiser (Reinitialiser), valid_interval
    and average (see the recipes) and, for prototypes that are trained apart, prototype_opt_class;
    their learning rate then keeps its ratio to that of the rest. rate_factors says by how much
    slower or faster parts of the embedder learn, {beginning of a parameter's name: factor}.
    """

    def compute_forward(self, batch, stage):
        waveforms = batch[0].to(self.device)
        if stage == sb.Stage.TRAIN:
            return self.modules.embedder(waveforms)
        return self.embed_whole(waveforms)

    @torch.no_grad()
    def embed_whole(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Embeddings [N, D], float32, of waveforms [N, T] as they are,
        in evaluation mode; each process for itself.

        Not compiled: utterances have many lengths, each of which would be compiled anew.
        """
        self.embedder.eval()
        with self.evaluation_ctx, torch.compiler.set_stance("force_eager"):
            return self.embedder(waveforms.to(self.device)).float()

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
        self.optimizer = self.opt_class(rate_groups(self.embedder, getattr(self.hparams, "rate_factors", None)))
        for group in self.optimizer.param_groups[1:]:
            group["lr"] *= group["factor"]
        self.prototype_optimizer = prototype_opt_class(self.head.parameters())
        self.optimizers_dict = {"opt_class": self.optimizer, "prototypes": self.prototype_optimizer}
        self.lr_ratio = self.prototype_optimizer.param_groups[0]["lr"] / self.optimizer.param_groups[0]["lr"]
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)
            if isinstance(self.head, (SparseHead, ShardedHead)):
                add_head(self.checkpointer, self.head, self.prototype_optimizer)
            else:
                self.checkpointer.add_recoverable("prototype_optimizer", self.prototype_optimizer)

    def optimizers_step(self):
        """Clipped by the norm over all prototypes,
        and left out on all ranks if the gradient of one is not finite."""
        if isinstance(self.head, ShardedHead):
            norm = self.head.clip_grad_norm_(self.max_grad_norm)
            if self.skip_nonfinite_grads and not norm.isfinite():
                self.head.weight.grad = None
        super().optimizers_step()

    def _compile(self):
        """`--compile`: the network between features and embeddings, in training.
        Parameters keep their names."""
        if self.compile:
            self.embedder.backbone.compile(mode=self.compile_mode)

    def check_loss_isfinite(self, loss):
        """Stops at once: a step with this gradient would make
        every weight NaN, and the next checkpoint with them.

        SpeechBrain's patience is for the two cases in which the step is not taken:
        a scaled fp16 loss, and `--skip_nonfinite_grads`.
        """
        if self.scaler.is_enabled() or self.skip_nonfinite_grads:
            super().check_loss_isfinite(loss)
        elif not torch.isfinite(loss):
            raise ValueError(
                f"the loss of step {self.optimizer_step + 1} is {loss.item()}: the training has diverged, or a file or "
                "an augmentation is not finite. Lower the learning rate or warm up longer, in another output_folder"
            )

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """Not between the batches of one step: a checkpoint holds no gradients."""
        whole_step = self.step % self.grad_accumulation_factor == 0
        return whole_step and super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def _save_intra_epoch_ckpt(self):
        # one process writes its mean loss so far for all of them
        self.avg_train_loss = mean_over_processes({"loss": float(self.avg_train_loss)}, self.device)["loss"]
        super()._save_intra_epoch_ckpt()

    def _wrap_distributed(self):
        """Of several processes, each with its share of the batch; see `alpha_sv.sb.distributed`."""
        if not self.distributed_launch:
            return
        for name, module in self.modules.items():
            if isinstance(module, ShardedHead):
                continue  # each process has prototypes of its own, and their whole gradient
            if any(parameter.requires_grad for parameter in module.parameters()):
                module = with_common_batch_norm(module, torch.device(self.device))
                devices = None if torch.device(self.device).type == "cpu" else [self.device]
                self.modules[name] = torch.nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def on_fit_batch_start(self, batch, should_step):
        torch.manual_seed(self.hparams.seed + 1_000_003 * self.optimizer_step + self.step + 7_368_787 * rank())
        for name in ("margin", "alpha"):
            if (schedule := getattr(self.hparams, f"{name}_schedule", None)) is not None:
                setattr(self.head.loss, name, schedule(self.optimizer_step / self.hparams.steps_per_epoch))
        if getattr(self.hparams, "lr_schedule", None) is not None and should_step:
            self.hparams.lr_schedule(self.optimizer, self.optimizer_step + 1)
            lr = self.optimizer.param_groups[0]["lr"]
            if not 0 <= lr < float("inf"):
                raise ValueError(f"the learning rate of step {self.optimizer_step + 1} is {lr}: mend lr_schedule")
            for group in self.optimizer.param_groups[1:]:
                group["lr"] = lr * group["factor"]
            if self.prototype_optimizer is not self.optimizer:
                self.prototype_optimizer.param_groups[0]["lr"] = self.lr_ratio * lr

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        if not should_step or self.optimizer_step % self.hparams.log_interval:
            return
        head = self.head
        figures = mean_over_processes({"loss": loss.item(), **self.statistics}, self.device)
        if getattr(self.hparams, "reinitialiser", None) is not None:
            self.hparams.reinitialiser.observe(figures["zero_target"])
        record = {
            "kind": "train",
            "step": self.optimizer_step,
            "epoch": self.optimizer_step / self.hparams.steps_per_epoch,
            "loss": figures.pop("loss"),
            "lr": self.optimizer.param_groups[0]["lr"],
            "alpha": head.loss.alpha,
            "margin": head.loss.margin,
            "scale": head.loss.scale,
            **figures,
        }
        if if_main_process():
            self.hparams.training_log.append(record)

    @property
    def head(self):
        """The head itself, also when it is wrapped for distributed training."""
        return getattr(self.modules.head, "module", self.modules.head)

    @property
    def embedder(self):
        """The embedder itself."""
        return getattr(self.modules.embedder, "module", self.modules.embedder)

    def on_stage_start(self, stage, epoch):
        if stage == sb.Stage.VALID:
            self.valid_embeddings = {}
        elif self.step == 0 and getattr(self.hparams, "reinitialiser", None) is not None:  # not resumed in mid-epoch
            self.hparams.reinitialiser(self, epoch)
        if stage == sb.Stage.TRAIN and self.optimizer_step == 0 and getattr(self.hparams, "diagnose", 0):
            diagnose_run(self, self.hparams.diagnose)

    def evaluate_batch(self, batch, stage):
        """Collect the embeddings of a batch (waveforms [N, T], utterance numbers [N])."""
        embeddings = self.compute_forward(batch, stage).cpu()
        self.valid_embeddings.update(zip(batch[1].tolist(), embeddings.numpy(), strict=True))
        return torch.zeros(())

    def _fit_valid(self, valid_set, epoch, enable):
        """Every `valid_interval` epochs and after the last
        the development trials; after every epoch a checkpoint.

        A run that ends early leaves a model too: it is saved whenever the development EER is
        the lowest so far, or, where the last epochs are averaged, every `valid_interval` epochs.
        """
        interval = getattr(self.hparams, "valid_interval", 1)
        meta = {}
        looks = epoch % interval == 0 or epoch == self.hparams.number_of_epochs
        if valid_set is not None and looks:
            super()._fit_valid(valid_set, epoch, enable)
            meta = {"eer": self.valid_result["eer"]}
        else:
            logger.info("epoch %d, step %d: train loss %.4f", epoch, self.optimizer_step, self.train_loss)
        if self.checkpointer is not None:
            self.checkpointer.save_checkpoint(meta=meta, verbosity=logging.DEBUG)
            newest = self.checkpointer.find_checkpoint()  # only the process that saved was told which it is
            self.keep_checkpoints()
            best = None if self.average else self.checkpointer.find_checkpoint(min_key="eer")
            if looks and (self.average or (best is not None and best.path == newest.path)):
                save_trained(self, self.hparams.run_folder, self.average)

    @property
    def average(self) -> int:
        """How many of the last epochs' weights are averaged;
        0: those of the best epoch are taken."""
        return getattr(self.hparams, "average", 0) or 0

    def keep_checkpoints(self):
        """Delete the checkpoints that nothing needs any more."""
        self.checkpointer.delete_checkpoints(
            num_to_keep=0, ckpt_predicate=lambda c: not ends_an_epoch(c), verbosity=logging.DEBUG
        )
        self.checkpointer.delete_checkpoints(  # the one before the newest is there in case that is damaged
            num_to_keep=max(self.average, 2), verbosity=logging.DEBUG, min_keys=None if self.average else ["eer"]
        )

    def on_stage_end(self, stage, stage_loss, epoch):
        if stage == sb.Stage.TRAIN:
            self.train_loss = mean_over_processes({"loss": float(stage_loss)}, self.device)["loss"]
            if isinstance(self.prototype_optimizer, PrototypeSGD):  # rows without a gradient lag behind their momentum
                self.prototype_optimizer.catch_up()
        elif stage == sb.Stage.VALID:
            result = self.valid_result = self.hparams.valid_set.evaluate(merged(self.valid_embeddings))
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
                self.hparams.training_log.append({**record, "train_loss": self.train_loss})


def rate_groups(module: torch.nn.Module, factors: Mapping[str, float] | None) -> list:
    """Parameter groups of an optimiser:
    first what learns at the common rate, then one group for each factor."""
    if not factors:
        return list(module.parameters())
    names, groups = dict(module.named_parameters()), []
    for beginning, factor in factors.items():
        own = [name for name in names if name == beginning or name.startswith(f"{beginning}.")]
        if not own:
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ValueError(f"rate_factors: no parameter begins with {beginning!r}; there are {', '.join(parts)}")
        groups.append({"params": [names.pop(name) for name in own], "factor": float(factor)})
    if not names:
        raise ValueError("rate_factors leaves nothing that learns at the common rate: set lr instead")
    return [{"params": list(names.values()), "factor": 1.0}, *groups]
