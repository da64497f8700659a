"""A training run from one recipe file: prepare → data → brain → fit → saved embedder.

`recipes/SpeakerTree/train.py` and `alpha-sv train` are these steps in order.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from speechbrain.utils.distributed import run_on_main

from alpha_sv.data.chunks import EpochSampler, RandomChunks
from alpha_sv.data.files import atomic_write
from alpha_sv.data.manifest import read_manifest
from alpha_sv.data.trees import prepare_tree
from alpha_sv.data.trials import read_trials
from alpha_sv.sb.brain import SpeakerBrain, TrainingLog, ValidationSet
from alpha_sv.sb.recipe_yaml import compose_recipe

logger = logging.getLogger(__name__)


def read_arguments(argv: Sequence[str]) -> tuple[dict, dict]:
    """Command line of a recipe → (hparams, run options); makes the output folder.

    `argv` is `recipe.yaml [--any_key=value …] [--device=… and other options of SpeechBrain] [--trust_yaml=True]`.
    """
    trust = [argument for argument in argv if argument.split("=")[0] == "--trust_yaml"]
    hparams_file, run_opts, overrides = sb.parse_arguments([a for a in argv if a not in trust])
    trusted = any(argument.lower() in ("--trust_yaml", "--trust_yaml=true") for argument in trust)
    recipe = compose_recipe(hparams_file, overrides, trust_yaml=trusted)
    hparams = load_hyperpyyaml(recipe)
    resolved = resolve_references(recipe).read()
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
            "num_valid_speakers": hparams["num_valid_speakers"],
            "sample_rate": hparams["sample_rate"],
            "audit": hparams["audit"],
            "seed": hparams["seed"],
        },
    )
    return Path(hparams["output_folder"]) / "manifest.csv"


def build_brain(hparams: dict, run_opts: dict, manifest: Path) -> SpeakerBrain:
    """Label the training speakers, build the head for them, and put everything that must survive a kill in checkpoints."""
    train = read_manifest(manifest, split="train")
    speakers = sorted({utterance.speaker for utterance in train})
    labels = {speaker: label for label, speaker in enumerate(speakers)}
    output = Path(hparams["output_folder"])
    with atomic_write(output / "labels.json") as file:
        json.dump(labels, file, indent=0)
    steps = len(train) // hparams["batch_size"]
    if steps == 0:
        raise ValueError(
            f"{manifest} has {len(train)} training utterances, fewer than one batch of {hparams['batch_size']}: "
            "lower batch_size or add data"
        )
    trials_file = hparams.get("valid_trials") or output / "valid_trials.txt"
    if not Path(trials_file).is_file():
        raise ValueError(
            f"no development trials: {trials_file} does not exist. Set num_valid_speakers to hold out some training "
            "speakers, or valid_trials to a list of your own"
        )
    rate = hparams["sample_rate"]
    head = hparams["head"](num_classes=len(speakers))
    state = {
        "train_set": RandomChunks(train, labels, hparams["chunk_seconds"], rate, hparams.get("augment"), hparams["seed"]),
        "valid_set": ValidationSet(read_manifest(manifest), read_trials(trials_file), rate),
        "training_log": TrainingLog(output / "train_log.jsonl"),
        "steps_per_epoch": steps,
    }
    if hparams.get("lr_schedule") is not None:
        state["lr_schedule"] = hparams["lr_schedule"](
            warmup=round(steps * hparams["warmup_epochs"]),
            cooldown=round(steps * hparams["cooldown_epochs"]),
            total_steps=steps * hparams["number_of_epochs"],
        )
    modules = {"embedder": hparams["embedder"], "head": head}
    checkpointer = hparams["checkpointer"]
    recoverables = {"embedder": modules["embedder"], "head": head, "training_log": state["training_log"]}
    recoverables["counter"] = hparams["epoch_counter"]
    checkpointer.add_recoverables(recoverables)
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
            "worker_init_fn": _one_thread if hparams.num_workers else None,
        },
        valid_loader_kwargs={
            "batch_sampler": hparams.valid_set.batches(hparams.batch_size),
            "num_workers": hparams.num_workers,
            "worker_init_fn": _one_thread if hparams.num_workers else None,
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


def _refuse_other_settings(output: Path, resolved: str) -> None:
    """A folder with checkpoints is continued only with the settings it was begun with."""
    before = output / "hyperparams.yaml"
    if not (before.is_file() and any((output / "save").glob("CKPT*"))):
        return
    old, new = _settings(before.read_text(encoding="utf-8")), _settings(resolved)
    if changed := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        raise ValueError(
            f"{output} holds a run with other settings ({', '.join(changed)}): continuing it would mix the two. Choose "
            "another output_folder, or delete this one"
        )


_FREE_SETTINGS = ("num_workers", "log_interval", "ckpt_interval_minutes", "ckpt_interval_steps", "number_of_epochs")


def _settings(resolved: str) -> dict[str, str]:
    """Top-level key → its text, comments and the settings that may change between two sittings left out."""
    keys: dict[str, str] = {}
    for line in resolved.splitlines():
        if line[:1] in ("#", "") or line.startswith("%") or line == "---":
            continue
        if not line.startswith((" ", "-")):
            key = line.split(":")[0]
            keys[key] = ""
        keys[key] += line.split(" #")[0].rstrip() + "\n"
    return {key: text for key, text in keys.items() if key not in (*_FREE_SETTINGS, "epoch_counter")}


def _listed(value) -> list:
    """A key of a recipe may hold nothing, one entry or a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, Path)) else list(value)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    run(sys.argv[1:])
