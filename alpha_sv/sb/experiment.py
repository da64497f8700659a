"""A training run from one recipe file: prepare → data → brain → fit → saved embedder.

`recipes/SpeakerTree/train.py` and `alpha-sv train` are these steps in order.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import run_on_main

from alpha_sv.data.chunks import EpochSampler, RandomChunks
from alpha_sv.data.files import atomic_write, sha256_file
from alpha_sv.data.manifest import manifest_hash, read_manifest
from alpha_sv.data.trees import prepare_tree
from alpha_sv.data.trials import read_trials
from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead
from alpha_sv.losses import MarginLoss
from alpha_sv.sb.brain import SpeakerBrain, TrainingLog, ValidationSet
from alpha_sv.sb.recipe_yaml import compose_recipe
from alpha_sv.sb.reinit import Reinitialiser

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
    resolved = compose_recipe(hparams_file, overrides, trust_yaml=trusted)
    try:
        hparams = load_hyperpyyaml(resolved)
    except TypeError as error:  # an argument that the class named in the recipe does not have
        raise ValueError(f"{hparams_file}: {'; '.join(map(str, error.args))}") from error
    _check(hparams, run_opts)
    output = Path(hparams["output_folder"])
    _refuse_other_settings(output, resolved)
    sb.create_experiment_directory(output)
    with atomic_write(output / "hyperparams.yaml") as file:
        file.write(f"# {' '.join(argv)}\n{resolved}")
    return hparams, run_opts


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
    labels = {speaker: label for label, speaker in enumerate(speakers)}
    classes = max(len(speakers), hparams.get("num_prototypes") or 0)
    output = Path(hparams["output_folder"])
    steps = len(train) // hparams["batch_size"]
    if steps == 0:
        raise ValueError(
            f"{manifest} has {len(train)} training utterances, fewer than one batch of {hparams['batch_size']}: "
            "lower batch_size or add data"
        )
    trials_file = output / "valid_trials.txt"
    if not trials_file.is_file():
        raise ValueError(
            "no development trials. Set num_valid_speakers to hold out some training speakers, or valid_trials to a "
            "list of your own"
        )
    _refuse_other_data(output, manifest_hash(utterances), sha256_file(trials_file))
    with atomic_write(output / "labels.json") as file:
        json.dump(labels, file, indent=0)
    rate = hparams["sample_rate"]
    accumulation = int(run_opts.get("grad_accumulation_factor") or 1)  # schedules count optimizer steps
    head = HEADS[hparams["head"]](embedding_dim=hparams["embedding_dim"], num_classes=classes, loss=hparams["loss"])
    state = {
        "train_set": RandomChunks(
            train, labels, hparams["chunk_seconds"], rate, hparams.get("augment"), hparams["seed"]
        ),
        "valid_set": ValidationSet(utterances, read_trials(trials_file), rate),
        "training_log": TrainingLog(output / "train_log.jsonl"),
        "steps_per_epoch": max(steps // accumulation, 1),
        "prototype_opt_class": hparams.get("prototype_opt_class"),
    }
    if hparams["head"] == "sparse" and state["prototype_opt_class"] is None:  # its gradient needs one that can
        state["prototype_opt_class"] = functools.partial(PrototypeSGD, lr=_PROTOTYPE_LR)
    if hparams.get("lr_schedule") is not None:
        state["lr_schedule"] = hparams["lr_schedule"](
            warmup=round(state["steps_per_epoch"] * hparams["warmup_epochs"]),
            cooldown=round(state["steps_per_epoch"] * hparams["cooldown_epochs"]),
            total_steps=state["steps_per_epoch"] * hparams["number_of_epochs"],
        )
    modules = {"embedder": hparams["embedder"], "head": head}
    checkpointer = hparams["checkpointer"]
    checkpointer.add_recoverables(
        {**modules, "training_log": state["training_log"], "counter": hparams["epoch_counter"]}
    )
    if hparams.get("reinit_epoch"):
        state["reinitialiser"] = Reinitialiser(hparams["reinit_epoch"], train, labels, hparams["batch_size"], rate)
        checkpointer.add_recoverable("reinitialiser", state["reinitialiser"])
    logger.info(
        "%d training speakers, %d utterances, %d steps an epoch; %d development trials",
        len(speakers),
        len(train),
        steps,
        len(state["valid_set"].labels),
    )
    return SpeakerBrain(modules, hparams["opt_class"], {**hparams, **state}, run_opts, checkpointer)


def fit(brain: SpeakerBrain) -> None:
    """Train, or continue, to the last epoch."""
    hparams = brain.hparams
    brain.train_sampler = EpochSampler(len(hparams.train_set), hparams.seed)
    brain.fit(
        hparams.epoch_counter,
        hparams.train_set,
        hparams.valid_set,
        train_loader_kwargs={
            "sampler": brain.train_sampler,
            "batch_size": hparams.batch_size,
            "drop_last": True,
            "num_workers": hparams.num_workers,
        },
        valid_loader_kwargs={
            "batch_sampler": hparams.valid_set.batches(hparams.batch_size),
            "num_workers": hparams.num_workers,
        },
    )


def save_best(brain: SpeakerBrain) -> Path:
    """Save the embedder of the checkpoint with the lowest development EER to `<output_folder>/model`."""
    checkpoint = brain.checkpointer.recover_if_possible(min_key="eer")
    folder = Path(brain.hparams.output_folder) / "model"
    embedder = getattr(brain.modules.embedder, "module", brain.modules.embedder)
    run_on_main(embedder.save, args=[folder])
    logger.info("development EER %.2f %%: embedder saved to %s", 100 * checkpoint.meta["eer"], folder)
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
    if hparams["number_of_epochs"] < 1:
        raise ValueError(f"number_of_epochs must be at least 1, got {hparams['number_of_epochs']}")
    device = str(run_opts.get("device") or "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device={device}, but torch finds no CUDA device here; use --device=cpu")


def _has_checkpoints(output: Path) -> bool:
    return any((output / "save").glob("CKPT*"))


def _refuse_other_data(output: Path, manifest: str, trials: str) -> None:
    """With other files or speakers a prototype would change its speaker, or a test speaker turn up in training."""
    stamp, now = output / "save" / "data.json", {"manifest": manifest, "development trials": trials}
    if stamp.is_file() and _has_checkpoints(output):
        before = json.loads(stamp.read_text(encoding="utf-8"))
        if changed := [name for name in now if now[name] != before.get(name)]:
            raise ValueError(
                f"{output} holds a run on other data (changed: {', '.join(changed)}): its prototypes belong to other "
                "speakers. Choose another output_folder, or delete this one"
            )
    with atomic_write(stamp) as file:
        json.dump(now, file, indent=1)


def _refuse_other_settings(output: Path, resolved: str) -> None:
    """A folder with checkpoints is continued only with the settings it was begun with."""
    before = output / "hyperparams.yaml"
    if not (before.is_file() and _has_checkpoints(output)):
        return
    old, new = _settings(before.read_text(encoding="utf-8")), _settings(resolved)
    if changed := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        raise ValueError(
            f"{output} holds a run with other settings ({', '.join(changed)}): continuing it would mix the two. Choose "
            "another output_folder, or delete this one"
        )


# may change between two sittings: the machine's side of a run, and where its inputs and outputs lie (the data are
# compared themselves)
_FREE_SETTINGS = {
    *("num_workers", "log_interval", "ckpt_interval_minutes", "ckpt_interval_steps"),
    *("output_folder", "checkpointer", "data_folder", "trials", "valid_trials", "exclude_speakers"),
    *("noise_folder", "rir_folder"),
}


def _settings(resolved: str) -> dict[str, str]:
    """Top-level key → its text, without comments and free settings."""
    keys: dict[str, str] = {}
    for line in resolved.splitlines():
        if line[:1] in ("#", "%", "") or line == "---" or line.split(":")[0].strip() in _FREE_SETTINGS:
            continue
        if not line.startswith((" ", "-")):
            key = line.split(":")[0]
            keys[key] = ""
        keys[key] += line.split(" #")[0].rstrip() + "\n"
    return keys


def _listed(value) -> list:
    """A key of a recipe may hold nothing, one entry or a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, Path)) else list(value)
