"""A training run from one recipe file: prepare → data → brain → fit → saved embedder.

`recipes/SpeakerTree/train.py` and `alpha-sv train` are these steps in order.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_init_group, if_main_process
from speechbrain.utils.epoch_loop import EpochCounter

from alpha_sv.data.audio.augment import Augmenter
from alpha_sv.data.corpus.augmentation import audit_augmentation
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.device import keep_memory, pick_device
from alpha_sv.files import folder_lock
from alpha_sv.heads.scan import has_fast_bfloat16
from alpha_sv.sb.arguments import read_command
from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.brain_parts import development_of, loader_options, speech_data, state_of, steps_per_epoch
from alpha_sv.sb.check_hparams import check_hparams
from alpha_sv.sb.checkpointer import SafeCheckpointer
from alpha_sv.sb.chunks import EpochSampler
from alpha_sv.sb.distributed import local_batch_size, main_first, rank, world_size
from alpha_sv.sb.fine_tuning import with_front
from alpha_sv.sb.heads import choose_head, head_of
from alpha_sv.sb.recipe_yaml import build_recipe, compose_recipe
from alpha_sv.sb.run_folder import RunFolder
from alpha_sv.sb.weights import save_trained, warm_start

logger = logging.getLogger(__name__)
_held: dict[str, contextlib.ExitStack] = {}  # folder → its lock


def read_arguments(argv: Sequence[str]) -> tuple[dict, dict]:
    """Command line of a recipe → (hparams, run options); takes the output folder for this process.

    `argv` is `recipe.yaml [--any_key=value …] [--device=… and other options of SpeechBrain]
    [--trust_yaml=True]`. Nothing is written yet but the lock of the folder: a command that is
    refused leaves everything as it was.
    """
    command = read_command(argv)
    run_opts = command.run_opts

    def resolve(number_of_epochs: int | None = None) -> str:
        instead = {} if number_of_epochs is None else {"number_of_epochs": str(number_of_epochs)}
        return compose_recipe(command.recipe, command.yaml(**instead), trust_yaml=command.trust_yaml)

    resolved = resolve()
    hparams = build_recipe(resolved, command.recipe, command.yaml(), command.trust_yaml)
    device = pick_device(run_opts.get("device"))
    found = {"device": device}
    if device == "cpu" and "distributed_backend" not in run_opts.overridden_args:
        found["distributed_backend"] = "gloo"  # SpeechBrain's default, NCCL, knows GPUs only
    run_opts = dataclasses.replace(run_opts, **found, overridden_args={*run_opts.overridden_args, *found})
    if (limit := run_opts.get("optimizer_step_limit")) is not None:  # SpeechBrain keeps it as a text
        run_opts = dataclasses.replace(run_opts, optimizer_step_limit=_whole("optimizer_step_limit", limit))
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # else every process of torchrun would use the first GPU
    else:
        keep_memory()
    ddp_init_group(run_opts)
    if torch.distributed.is_initialized():
        atexit.register(torch.distributed.destroy_process_group)  # else its threads may abort the process at exit
    if not if_main_process():
        logging.getLogger().setLevel(logging.WARNING)  # the others would only say the same
    hparams["output_folder"] = hparams.get("output_folder") or default_output_folder(command.recipe, hparams)
    folder = RunFolder(hparams["output_folder"])
    check_hparams(hparams, run_opts, begun=folder.has_checkpoints)
    if if_main_process():
        hold(folder.path)
    folder.refuse_other_settings(resolve, run_opts)
    if run_opts.get("precision") == "bf16" and not has_fast_bfloat16(torch.device(device)):
        logger.warning("this device has no bfloat16 instructions: --precision=bf16 is far slower here than fp32")
    return {**hparams, "run_folder": folder, "command": command, "resolved_recipe": resolved}, run_opts


def _whole(name: str, text: object) -> int:
    try:
        return int(str(text))
    except ValueError:
        raise ValueError(f"--{name} must be a whole number, got {text!r}") from None


def hold(folder: Path) -> None:
    """Lock the run's folder until `save_best` or the end of
    this process, which may hold it from an earlier try."""
    name = os.path.realpath(folder)
    if name not in _held:
        stack = contextlib.ExitStack()
        stack.enter_context(folder_lock(folder))
        _held[name] = stack


def _release(folder: Path) -> None:
    if (held := _held.pop(os.path.realpath(folder), None)) is not None:
        held.close()


def default_output_folder(recipe: str | os.PathLike, hparams: Mapping) -> str:
    """results/<recipe>_<loss>/<seed>, so that two runs from the defaults do not meet in one folder.

    >>> from alpha_sv.losses import A3M, QMargin
    >>> default_output_folder("hparams/ecapa.yaml", {"loss": QMargin(alpha=1.5), "seed": 1})
    'results/ecapa_q_margin/1'
    >>> default_output_folder("ecapa_c512_a3m.yaml", {"loss": A3M(alpha=1.5), "seed": 1})
    'results/ecapa_c512_a3m/1'
    """
    loss = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(hparams["loss"]).__name__).lower()
    loss = {"am_softmax": "am", "aam_softmax": "aam"}.get(loss, loss)
    name = Path(recipe).stem
    named = f"_{loss}_" in f"_{name}_"
    return f"results/{name if named else f'{name}_{loss}'}/{hparams.get('seed', 0)}"


def prepared_manifest(hparams: dict) -> Path:
    """The manifest of a folder that was prepared before
    (recipes/VoxCeleb/prepare.py, `alpha-sv prepare`)."""
    manifest = Path(hparams["prepared"]) / "manifest.csv"
    if not manifest.is_file():
        raise ValueError(f"{manifest} is not there: prepare the data first, and give that folder as --prepared")
    return manifest


def prepare(hparams: dict) -> Path:
    """Scan, check and split the speech; returns the manifest."""
    folder: RunFolder = hparams["run_folder"]
    task = functools.partial(
        prepare_tree,
        _listed(hparams["data_folder"]),
        folder.path,
        trials=_listed(hparams["trials"]),
        exclude_speakers=_listed(hparams.get("exclude_speakers")),
        valid_trials=hparams.get("valid_trials") or None,
        num_valid_speakers=hparams["num_valid_speakers"],
        sample_rate=hparams["sample_rate"],
        audit=hparams["audit"],
        seed=hparams["seed"],
        resample=bool(hparams.get("resample")),
        check=lambda manifest, trials, samples: folder.refuse_other_data(manifest, trials, samples=samples),
    )
    main_first(task, folder.path / ".prepared")
    return folder.path / "manifest.csv"


def build_brain(hparams: dict, run_opts: dict, manifest: Path | None = None) -> SpeakerBrain:
    """Label the training speakers, build the head for them,
    put all that must survive a kill in checkpoints.

    Without a manifest the examples are those of the recipe's
    `corpus` (`alpha_sv.face.training_data.FaceCorpus`).
    """
    folder: RunFolder = hparams["run_folder"]
    data = hparams["corpus"].read(hparams["seed"]) if manifest is None else speech_data(hparams, manifest)
    if hparams.get("front_cache"):
        data = with_front(data, hparams, folder.path / ".front")
    rows, valid_set = data.classes, development_of(data, hparams)
    hashes = (data.digest, data.trials_digest, audited_augmentation(hparams, folder), data.samples)
    folder.refuse_other_data(*hashes)
    steps = steps_per_epoch(len(data.train_set), hparams["batch_size"], run_opts, data.source)
    prototypes = max(len(rows), hparams.get("num_prototypes") or 0)
    kind, reason = choose_head(hparams, prototypes, folder.begun_head())
    head = head_of(hparams, kind, prototypes)
    state = state_of(hparams, data, valid_set, steps, folder, kind)
    resumed = folder.has_checkpoints and SafeCheckpointer(folder.save).list_checkpoints()
    start, policy = None if resumed else hparams.get("warm_start"), hparams.get("warm_start_head") or "keep"
    if start:
        warm_start(start, policy, hparams["embedder"], head, rows)
    # every check is done: from here on the folder is this run's
    sb.create_experiment_directory(folder.path)  # every process: it waits for all of them
    if if_main_process():
        argv, resolved = hparams["command"].argv, hparams["resolved_recipe"]
        folder.begin(argv, resolved, run_opts, hashes, rows, kind)
    modules = {"embedder": hparams["embedder"], "head": head}
    counter = hparams.get("epoch_counter") or EpochCounter(limit=hparams["number_of_epochs"])
    checkpointer = SafeCheckpointer(folder.save)
    checkpointer.add_recoverables({**modules, "training_log": state["training_log"], "counter": counter})
    if "reinitialiser" in state:
        checkpointer.add_recoverable("reinitialiser", state["reinitialiser"])
    logger.info(
        "%d people to train on, %d classes, %d examples, %d steps per epoch; %d development trials",
        *(data.people, len(rows), len(data.train_set), steps, 0 if valid_set is None else len(valid_set.labels)),
    )
    logger.info("head: %s, %s", kind, reason)
    if start:
        logger.info("begins with the embedder of %s, prototypes: %s", start, policy)
    state = {**hparams, **state, "epoch_counter": counter}
    return SpeakerBrain(modules, hparams["opt_class"], state, run_opts, checkpointer)


def audited_augmentation(hparams: Mapping, folder: RunFolder) -> str:
    """Decode every noise and impulse response once,
    so that none stops the training later; a hash of those in use."""
    augmenter = hparams.get("augment")
    if not isinstance(augmenter, Augmenter):
        return ""
    journal = folder.path / "augment.journal"
    task = functools.partial(audit_augmentation, augmenter, journal, progress=if_main_process())
    main_first(task, folder.path / ".audited")
    if not if_main_process():
        task()
    return augmenter.content_hash()


def fit(brain: SpeakerBrain) -> None:
    """Train, or continue, to the last epoch."""
    hparams, valid = brain.hparams, {}
    if hparams.valid_set is not None:
        batches = hparams.valid_set.batches(hparams.batch_size)[rank() :: world_size()]
        valid = {"batch_sampler": batches, **loader_options(hparams, brain.device)}
    brain.train_sampler = EpochSampler(len(hparams.train_set), hparams.seed)
    brain.fit(
        hparams.epoch_counter,
        hparams.train_set,
        hparams.valid_set,
        train_loader_kwargs={
            "sampler": brain.train_sampler,
            "batch_size": local_batch_size(hparams.batch_size),
            "drop_last": True,
            **loader_options(hparams, brain.device),
        },
        valid_loader_kwargs=valid,
    )
    # The checkpointer keeps the loader in a cycle with the brain. If that is what the garbage
    # collector finds, the queues go before the iterator, whose workers then hear nothing, and it
    # waits five seconds for each.
    for loader in brain.checkpointer.recoverables.values():
        if isinstance(loader, torch.utils.data.DataLoader):
            loader._iterator = loader._speechbrain_iterator = None


def save_best(brain: SpeakerBrain) -> Path:
    """Save the embedder of the checkpoint with the lowest development EER,
    or the mean of the last ones (`average`), to `<output_folder>/model`, and its prototypes.
    """
    hparams = brain.hparams
    brain.keep_checkpoints()  # a run that was killed after its last epoch may have left one too many
    folder = save_trained(brain, hparams.run_folder, brain.average)
    if getattr(hparams, "corpus", None) is not None:
        logger.info("embedder saved to %s. Next: alpha-sv face pairs %s PAIRS -o scores.txt", folder, folder)
    else:
        manifest = "MANIFEST" if getattr(hparams, "prepared", None) else hparams.run_folder.path / "manifest.csv"
        logger.info(
            "embedder saved to %s. Next: alpha-sv extract %s %s -o %s",
            *(folder, folder, manifest, hparams.run_folder.path / "embeddings"),
        )
    _release(hparams.run_folder.path)
    return folder


def run(argv: Sequence[str]) -> Path:
    """The whole experiment; returns the folder of the saved embedder."""
    hparams, run_opts = read_arguments(argv)
    if hparams.get("corpus") is not None:
        manifest = None
    else:
        manifest = prepared_manifest(hparams) if hparams.get("prepared") else prepare(hparams)
    brain = build_brain(hparams, run_opts, manifest)
    fit(brain)
    return save_best(brain)


def _listed(value) -> list:
    """A key of a recipe may hold nothing, one entry or a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, Path)) else list(value)
