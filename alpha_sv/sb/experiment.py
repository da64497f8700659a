"""A training run from one recipe file: prepare → data → brain → fit → saved embedder.

`recipes/SpeakerTree/train.py` and `alpha-sv train` are these steps in order.
"""

from __future__ import annotations

import atexit
import functools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_init_group, if_main_process, run_on_main

from alpha_sv.data.chunks import EpochSampler, RandomChunks
from alpha_sv.data.files import atomic_write, sha256_file
from alpha_sv.data.manifest import manifest_hash, read_manifest
from alpha_sv.data.speed import class_names
from alpha_sv.data.trees import prepare_tree
from alpha_sv.data.trials import read_trials
from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead
from alpha_sv.heads.scan import has_fast_bfloat16
from alpha_sv.losses import MarginLoss
from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.datasets import ValidationSet
from alpha_sv.sb.distributed import local_batch_size, rank, world_size
from alpha_sv.sb.recipe_yaml import load_recipe
from alpha_sv.sb.reinit import Reinitialiser
from alpha_sv.sb.same_run import refuse_other_data, refuse_other_settings
from alpha_sv.sb.training_log import TrainingLog
from alpha_sv.sb.weights import HEAD_POLICIES, save_trained, warm_start

HEADS = {"dense": CosineHead, "sparse": SparseHead}
# a row's gradient is of the order scale / batch size; with momentum 0.9 that turns it by ~0.1 a step
_PROTOTYPE_LR = 0.1

logger = logging.getLogger(__name__)


def read_arguments(argv: Sequence[str]) -> tuple[dict, dict]:
    """Command line of a recipe → (hparams, run options); makes the output folder.

    `argv` is `recipe.yaml [--any_key=value …] [--device=… and other options of SpeechBrain] [--trust_yaml=True]`.
    """
    trust = [argument for argument in argv if argument.split("=")[0] == "--trust_yaml"]
    hparams_file, run_opts, overrides = sb.parse_arguments([a for a in argv if a not in trust])
    trusted = any(argument.lower() in ("--trust_yaml", "--trust_yaml=true") for argument in trust)
    hparams, resolved = load_recipe(hparams_file, overrides, trust_yaml=trusted)
    ddp_init_group(run_opts)
    if torch.distributed.is_initialized():
        atexit.register(torch.distributed.destroy_process_group)  # else its threads may abort the process at exit
    if not if_main_process():
        logging.getLogger().setLevel(logging.WARNING)  # the others would only say the same
    _check(hparams, run_opts)
    output = Path(hparams["output_folder"])
    refuse_other_settings(output, resolved)
    sb.create_experiment_directory(output)
    if if_main_process():
        with atomic_write(output / "hyperparams.yaml") as file:
            file.write(f"# {' '.join(argv)}\n{resolved}")
    device = torch.device(_device(run_opts))
    if run_opts.get("precision") == "bf16" and device.type == "cpu" and not has_fast_bfloat16(device):
        logger.warning("this CPU has no bfloat16 instructions: --precision=bf16 is far slower here than fp32")
    return hparams, run_opts


def prepared_manifest(hparams: dict) -> Path:
    """The manifest of a folder that was prepared before (recipes/VoxCeleb/prepare.py, `alpha-sv prepare`)."""
    manifest = Path(hparams["prepared"]) / "manifest.csv"
    if not manifest.is_file():
        raise ValueError(f"{manifest} is not there: prepare the data first, and give that folder as --prepared")
    return manifest


def prepare(hparams: dict) -> Path:
    """Scan, check and split the speech; returns the manifest."""
    run_on_main(
        prepare_tree,
        kwargs={
            "data_folders": _listed(hparams["data_folder"]),
            "output_folder": hparams["output_folder"],
            "trials": _listed(hparams["trials"]),
            "exclude_speakers": _listed(hparams.get("exclude_speakers")),
            "valid_trials": hparams.get("valid_trials") or None,
            "num_valid_speakers": hparams["num_valid_speakers"],
            "sample_rate": hparams["sample_rate"],
            "audit": hparams["audit"],
            "seed": hparams["seed"],
        },
    )
    return Path(hparams["output_folder"]) / "manifest.csv"


def build_brain(hparams: dict, run_opts: dict, manifest: Path) -> SpeakerBrain:
    """Label the training speakers, build the head for them, put all that must survive a kill in checkpoints."""
    utterances = read_manifest(manifest)
    train = [utterance for utterance in utterances if utterance.split == "train"]
    speakers = sorted({utterance.speaker for utterance in train})
    speeds = hparams.get("speeds") or [1.0]
    names = class_names(speakers, speeds)
    labels, rows = ({name: row for row, name in enumerate(listed)} for listed in (speakers, names))
    output = Path(hparams["output_folder"])
    steps = len(train) // hparams["batch_size"]
    if steps == 0:
        raise ValueError(
            f"{manifest} has {len(train)} training utterances, fewer than one batch of {hparams['batch_size']}: "
            "lower batch_size or add data"
        )
    trials_file, rate = manifest.parent / "valid_trials.txt", hparams["sample_rate"]
    valid_set = ValidationSet(utterances, read_trials(trials_file), rate) if trials_file.is_file() else None
    if valid_set is None and not hparams.get("average"):
        raise ValueError(
            "no development trials. Set num_valid_speakers to hold out some training speakers, or valid_trials to a "
            "list of your own; or set average (to 10, say): the mean of the last epochs needs none"
        )
    refuse_other_data(output, manifest_hash(utterances), sha256_file(trials_file) if valid_set else "")
    if if_main_process():
        with atomic_write(output / "labels.json") as file:
            json.dump(rows, file, indent=0)
    head = HEADS[hparams["head"]](
        embedding_dim=hparams["embedding_dim"],
        num_classes=max(len(names), hparams.get("num_prototypes") or 0),
        loss=hparams["loss"],
    )
    accumulation = int(run_opts.get("grad_accumulation_factor") or 1)  # schedules count optimizer steps
    if steps < accumulation:
        raise ValueError(f"an epoch has {steps} batches, fewer than grad_accumulation_factor {accumulation}")
    events = output / "tensorboard" if hparams.get("tensorboard") else None
    state = {
        "train_set": RandomChunks(
            train, labels, hparams["chunk_seconds"], rate, hparams.get("augment"), hparams["seed"], speeds
        ),
        "valid_set": valid_set,
        "training_log": TrainingLog(output / "train_log.jsonl", events if if_main_process() else None),
        "steps_per_epoch": steps // accumulation,
        "prototype_opt_class": hparams.get("prototype_opt_class"),
    }
    if hparams["head"] == "sparse" and state["prototype_opt_class"] is None:  # its gradient needs one that can
        state["prototype_opt_class"] = functools.partial(PrototypeSGD, lr=_PROTOTYPE_LR)
    if hparams.get("lr_schedule") is not None:
        state["lr_schedule"] = _by_step(hparams["lr_schedule"], state["steps_per_epoch"], hparams)
    modules = {"embedder": hparams["embedder"], "head": head}
    checkpointer = hparams["checkpointer"]
    checkpointer.add_recoverables(
        {**modules, "training_log": state["training_log"], "counter": hparams["epoch_counter"]}
    )
    policy = hparams.get("warm_start_head") or "keep"
    if hparams.get("warm_start") and not checkpointer.list_checkpoints():
        warm_start(hparams["warm_start"], policy, hparams["embedder"], head, rows)
    means = bool(hparams.get("warm_start")) and policy == "means"
    epoch, zero_target = hparams.get("reinit_epoch") or 0, hparams.get("reinit_zero_target") or 0.0
    if means or epoch or zero_target:
        state["reinitialiser"] = Reinitialiser(
            train,
            labels,
            hparams["batch_size"],
            rate,
            speeds,
            epoch=1 if means else max(epoch, 1),
            zero_target=0.0 if means else zero_target,
        )
        checkpointer.add_recoverable("reinitialiser", state["reinitialiser"])
    logger.info(
        "%d training speakers, %d classes, %d utterances, %d steps an epoch; %d development trials",
        len(speakers),
        len(names),
        len(train),
        state["steps_per_epoch"],
        0 if valid_set is None else len(valid_set.labels),
    )
    return SpeakerBrain(modules, hparams["opt_class"], {**hparams, **state}, run_opts, checkpointer)


def fit(brain: SpeakerBrain) -> None:
    """Train, or continue, to the last epoch."""
    hparams, valid = brain.hparams, {}
    if hparams.valid_set is not None:
        batches = hparams.valid_set.batches(hparams.batch_size)[rank() :: world_size()]
        valid = {"batch_sampler": batches, "num_workers": hparams.num_workers}
    brain.train_sampler = EpochSampler(len(hparams.train_set), hparams.seed)
    brain.fit(
        hparams.epoch_counter,
        hparams.train_set,
        hparams.valid_set,
        train_loader_kwargs={
            "sampler": brain.train_sampler,
            "batch_size": local_batch_size(hparams.batch_size),
            "drop_last": True,
            "num_workers": hparams.num_workers,
        },
        valid_loader_kwargs=valid,
    )


def save_best(brain: SpeakerBrain) -> Path:
    """Save the embedder of the checkpoint with the lowest development EER, or the mean of the last ones (`average`), to
    `<output_folder>/model`, and its prototypes.
    """
    hparams = brain.hparams
    folder = save_trained(brain, Path(hparams.output_folder), getattr(hparams, "average", 0) or 0)
    logger.info("embedder saved to %s", folder)
    return folder


def run(argv: Sequence[str]) -> Path:
    """The whole experiment; returns the folder of the saved embedder."""
    hparams, run_opts = read_arguments(argv)
    manifest = prepare(hparams)
    brain = build_brain(hparams, run_opts, manifest)
    fit(brain)
    return save_best(brain)


def _check(hparams: dict, run_opts: dict) -> None:
    """What would otherwise fail only after the preparation, or late in training."""
    if not isinstance(hparams["loss"], MarginLoss):
        raise ValueError(
            f"loss is {hparams['loss']!r}, not a loss of alpha_sv; write "
            "--loss='!new:alpha_sv.losses.A3M {alpha: 1.5}'"
        )
    if hparams["head"] not in HEADS:
        raise ValueError(f"head must be {' or '.join(HEADS)}, got {hparams['head']!r}")
    local_batch_size(hparams["batch_size"])
    if world_size() > 1 and hparams["head"] == "sparse":
        raise ValueError("head: sparse trains in one process; with several use head: dense")
    policy = hparams.get("warm_start_head") or "keep"
    if policy not in HEAD_POLICIES:
        raise ValueError(f"warm_start_head must be one of {', '.join(HEAD_POLICIES)}, got {policy!r}")
    if hparams.get("warm_start") and hparams.get("warm_start_head") == "means":
        if hparams.get("reinit_epoch") or hparams.get("reinit_zero_target"):
            raise ValueError(
                "warm_start_head: means already sets the prototypes, to their speakers' means; use reinit_epoch: 0 "
                "and reinit_zero_target: 0 with it, or warm_start_head: keep or new"
            )
    for key, least in (("number_of_epochs", 1), ("valid_interval", 1), ("average", 0), ("reinit_epoch", 0)):
        if not (isinstance(value := hparams.get(key, least), int) and value >= least):
            raise ValueError(f"{key} must be a whole number, at least {least}, got {value}")
    if run_opts.get("ckpt_interval_steps") or hparams.get("ckpt_interval_steps"):
        hparams["ckpt_interval_minutes"] = 0  # SpeechBrain takes one of the two
    device = _device(run_opts)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device={device}, but torch finds no CUDA device here; use --device=cpu")


def _device(run_opts: dict) -> str:
    return str(run_opts.get("device") or "cpu")


def _by_step(schedule, steps_per_epoch: int, hparams: dict) -> Callable[[torch.optim.Optimizer, int], object]:
    """A recipe's learning rate as a function that sets it before a step (from 1).

    Either a pure function of the epoch (`alpha_sv.schedule`), or a class of SpeechBrain's that counts steps.
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


def _listed(value) -> list:
    """A key of a recipe may hold nothing, one entry or a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, Path)) else list(value)
