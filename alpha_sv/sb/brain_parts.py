"""The parts of an experiment: its classes,
development trials and head, and the state that its brain needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from speechbrain.utils.distributed import if_main_process

from alpha_sv.data.audio.speed import class_names
from alpha_sv.data.corpus.manifest import Utterance, manifest_hash, read_manifest
from alpha_sv.data.training_data import TrainingData
from alpha_sv.data.trials.files import read_trials
from alpha_sv.files import read_json, sha256_file
from alpha_sv.heads import PrototypeSGD
from alpha_sv.sb.chunks import RandomChunks
from alpha_sv.sb.datasets import DevelopmentSet, WholeUtterances
from alpha_sv.sb.reinit import Reinitialiser
from alpha_sv.sb.run_folder import RunFolder
from alpha_sv.sb.training_log import TrainingLog

# a row's gradient is of the order scale / batch size;
# with momentum 0.9 that turns it by ~0.1 a step
_PROTOTYPE_LR = 0.1


def classes_of(train: Sequence[Utterance], speeds: Sequence[float]) -> tuple[dict[str, int], dict[str, int]]:
    """(speaker → class at the first speed, class name → row of the head);
    see `alpha_sv.data.audio.speed`."""
    speakers = sorted({utterance.speaker for utterance in train})
    return tuple({name: row for row, name in enumerate(names)} for names in (speakers, class_names(speakers, speeds)))


def speech_data(hparams: Mapping, manifest: Path) -> TrainingData:
    """The training and development utterances of a manifest;
    the development trials lie beside it."""
    utterances = read_manifest(manifest)
    train = [utterance for utterance in utterances if utterance.split == "train"]
    speeds, rate = hparams.get("speeds") or [1.0], hparams["sample_rate"]
    labels, classes = classes_of(train, speeds)
    speakers = torch.tensor([labels[utterance.speaker] for utterance in train])
    trials = manifest.parent / "valid_trials.txt"
    valid, trials_digest = None, ""
    if trials.is_file():
        examples = {utterance.utt_id: utterance for utterance in utterances}
        valid = examples, read_trials(trials), functools.partial(WholeUtterances, sample_rate=rate)
        trials_digest = sha256_file(trials)
    augment, seconds = hparams.get("augment"), hparams["chunk_seconds"]
    modules = hparams.get("wav_augment") or ()
    return TrainingData(
        source=str(manifest),
        train_set=RandomChunks(train, labels, seconds, rate, augment, hparams["seed"], speeds, modules),
        classes=classes,
        people=len(labels),
        whole=WholeUtterances(train, rate, speeds),
        whole_labels=torch.cat([speakers + number * len(labels) for number in range(len(speeds))]),
        valid=valid,
        digest=manifest_hash(utterances),
        trials_digest=trials_digest,
        samples=_samples_of(manifest),
    )


def _samples_of(manifest: Path) -> str:
    """What the preparation says of the samples behind a manifest;
    "" if it is one of another origin."""
    stamp = manifest.parent / "prepare.json"
    found = read_json(stamp, like=dict).get("samples") if stamp.is_file() else ""
    return found if isinstance(found, str) else ""


def development_of(data: TrainingData, hparams: Mapping) -> DevelopmentSet | None:
    """The development trials; None if there are none and the recipe needs none."""
    if data.valid is None and not hparams.get("average"):
        raise ValueError(
            "no development trials. Set num_valid_speakers to hold out some training speakers (of faces: "
            "num_valid_identities), or valid_trials to a list of your own; or set average (to 10, say): the mean "
            "of the last epochs needs none"
        )
    return None if data.valid is None else DevelopmentSet(*data.valid)


def steps_per_epoch(num_examples: int, batch_size: int, run_opts: Mapping, source: str) -> int:
    """Optimizer steps, which all schedules count."""
    batches, accumulation = num_examples // batch_size, int(run_opts.get("grad_accumulation_factor") or 1)
    if batches == 0:
        raise ValueError(
            f"{source} has {num_examples} training examples, fewer than one batch of {batch_size}: "
            "lower batch_size or add data"
        )
    if batches < accumulation:
        raise ValueError(f"an epoch has {batches} batches, fewer than grad_accumulation_factor {accumulation}")
    return batches // accumulation


def state_of(hparams: Mapping, data: TrainingData, valid_set, steps: int, folder: RunFolder, head: str) -> dict:
    """What the brain needs beside the recipe's own keys."""
    events = folder.events if hparams.get("tensorboard") and if_main_process() else None
    state = {
        "train_set": data.train_set,
        "valid_set": valid_set,
        "training_log": TrainingLog(folder.log, events),
        "steps_per_epoch": steps,
        "prototype_opt_class": hparams.get("prototype_opt_class"),
    }
    if head != "dense" and state["prototype_opt_class"] is None:  # its gradient needs one that can
        state["prototype_opt_class"] = functools.partial(PrototypeSGD, lr=_PROTOTYPE_LR)
    if hparams.get("lr_schedule") is not None:
        state["lr_schedule"] = _by_step(hparams["lr_schedule"], steps, hparams)
    means = bool(hparams.get("warm_start")) and hparams.get("warm_start_head") == "means"
    means = means or hparams.get("prototypes") == "means"
    epoch, zero_target = hparams.get("reinit_epoch") or 0, hparams.get("reinit_zero_target") or 0.0
    if means or epoch or zero_target:
        epoch, zero_target = (1, 0.0) if means else (max(epoch, 1), zero_target)
        state["reinitialiser"] = Reinitialiser(
            data.whole, data.whole_labels, hparams["batch_size"], epoch=epoch, zero_target=zero_target
        )
    return state


def loader_options(hparams, device) -> dict:
    """Workers live as long as the training;
    pinned memory makes the copies to a GPU asynchronous."""
    workers = hparams.num_workers
    kept = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    return {"num_workers": workers, "pin_memory": torch.device(device).type == "cuda", **kept}


def _by_step(schedule, steps_per_epoch: int, hparams: Mapping) -> Callable[[torch.optim.Optimizer, int], object]:
    """A recipe's learning rate as a function that sets it before a step (from 1).

    Either a pure function of the epoch (`alpha_sv.schedule`),
    or a class of SpeechBrain's that counts steps.
    """
    if isinstance(schedule, functools.partial):
        return schedule(
            warmup=round(steps_per_epoch * hparams["warmup_epochs"]),
            cooldown=round(steps_per_epoch * hparams["cooldown_epochs"]),
            total_steps=steps_per_epoch * hparams["number_of_epochs"],
        )

    def set_rate(optimizer: torch.optim.Optimizer, step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = schedule((step - 1) / steps_per_epoch)

    return set_rate
