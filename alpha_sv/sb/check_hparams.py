"""What a recipe's keys must be, checked before anything is written or prepared."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

from alpha_sv.losses import MarginLoss
from alpha_sv.sb.distributed import local_batch_size, world_size
from alpha_sv.sb.fine_tuning import check_front
from alpha_sv.sb.heads import HEADS, choose_head
from alpha_sv.sb.recipe_objects import check_seed, which_are_texts
from alpha_sv.sb.weights import HEAD_POLICIES


def check_hparams(hparams: dict, run_opts: Mapping, begun: bool = False) -> None:
    """Refuse what would otherwise fail only after the preparation,
    or late in training, or train something else.

    Parameters
    ----------
    hparams : dict
        The recipe's keys; changed in place where SpeechBrain takes one of two.
    run_opts : mapping
        SpeechBrain's options.
    begun : bool
        Whether a run is continued: its schedules are then as they were begun,
        even if they do not fit (as was allowed until version 0.1).

    Raises
    ------
    ValueError
        Naming the key, its value and the remedy.
    """
    if not isinstance(hparams["loss"], MarginLoss):
        raise ValueError(
            f"loss is {hparams['loss']!r}, not a loss of alpha_sv; write "
            "--loss='!new:alpha_sv.losses.A3M {alpha: 1.5}'"
        )
    if hparams["head"] not in HEADS:
        raise ValueError(f"head must be {', '.join(HEADS[:-1])} or {HEADS[-1]}, got {hparams['head']!r}")
    for key, least in (
        ("batch_size", 1),
        ("number_of_epochs", 1),
        ("valid_interval", 1),
        ("log_interval", 1),
        ("average", 0),
        ("reinit_epoch", 0),
        ("num_workers", 0),
        ("num_valid_speakers", 0),
        ("num_valid_identities", 0),
        ("num_prototypes", 0),
        ("sub_centers", 1),
        ("diagnose", 0),
    ):
        value = hparams.get(key, least)
        value = 0 if value is None and least == 0 else value
        if not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            raise ValueError(f"{key} must be a whole number, at least {least}, got {value!r}")
    check_seed(hparams.get("seed", 0))
    _check_kinds(hparams)
    if (factor := run_opts.get("grad_accumulation_factor")) is not None and int(factor) < 1:
        raise ValueError(f"--grad_accumulation_factor must be at least 1, got {factor}")
    local_batch_size(hparams["batch_size"])
    if hparams["head"] != "auto":
        choose_head(hparams, world_size())  # of classes there are enough, as far as is known by now
    if world_size() > 1 and run_opts.get("precision") == "fp16" and hparams["head"] not in ("auto", "dense"):
        raise ValueError(f"head: {hparams['head']} over processes trains in fp32 or bf16: use --precision=bf16")
    policy = hparams.get("warm_start_head") or "keep"
    if policy not in HEAD_POLICIES:
        raise ValueError(f"warm_start_head must be one of {', '.join(HEAD_POLICIES)}, got {policy!r}")
    reinitialised = hparams.get("reinit_epoch") or hparams.get("reinit_zero_target")
    if hparams.get("warm_start") and policy == "means" and reinitialised:
        raise ValueError(
            "warm_start_head: means already sets the prototypes, to their speakers' means; use reinit_epoch: 0 "
            "and reinit_zero_target: 0 with it, or warm_start_head: keep or new"
        )
    if (start := hparams.get("prototypes", "new")) not in ("means", "new"):
        raise ValueError(f"prototypes must be means or new, got {start!r}")
    check_front(hparams)
    if hparams.get("rate_factors") and hparams.get("prototype_opt_class") is None:
        raise ValueError("rate_factors are of the embedder: give the prototypes an optimiser by prototype_opt_class")
    if not begun:
        _check_schedules(hparams)
    if run_opts.get("ckpt_interval_steps") or hparams.get("ckpt_interval_steps"):
        hparams["ckpt_interval_minutes"] = 0  # SpeechBrain takes one of the two


def _check_kinds(hparams: Mapping) -> None:
    """What is a number, a switch, a list, or something that can be called;
    and that the optimizers can be built."""
    for key, least, most in (("chunk_seconds", 0.0, 3600.0), ("reinit_zero_target", 0.0, 1.0)):
        value = hparams.get(key) or 0.0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise ValueError(f"{key} must be a number from {least:g} to {most:g}, got {value!r}")
    if (seconds := hparams.get("chunk_seconds")) and isinstance(hparams["embedder"], torch.nn.Module):
        _check_chunk(hparams["embedder"], seconds, hparams["sample_rate"])
    for key in ("tensorboard", "resample"):
        if not isinstance(hparams.get(key) or False, bool):
            raise ValueError(f"{key} must be True or False, got {hparams[key]!r}")
    if not isinstance(hparams["embedder"], torch.nn.Module):
        raise ValueError(f"embedder is {hparams['embedder']!r}, not a network; see the recipes that come with alpha_sv")
    for key in ("wav_augment", "speeds"):
        value = hparams.get(key) or []
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{key} must be a list, got {value!r}; write [ ] around it")
    for module in hparams.get("wav_augment") or []:
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"wav_augment must be a list of modules, such as SpeechBrain's DropFreq, got {module!r}")
    for key in ("augment", "margin_schedule", "alpha_schedule", "lr_schedule", "opt_class", "prototype_opt_class"):
        value = hparams.get(key)
        if value is not None and not callable(value):
            raise ValueError(f"{key} is {value!r}, which cannot be called; see the recipes that come with alpha_sv")
    rate, arguments = hparams.get("lr_schedule"), {"warmup": 0, "cooldown": 0, "total_steps": 1}
    for key, build in (
        ("opt_class", lambda: hparams["opt_class"]([torch.nn.Parameter(torch.zeros(1, 1))])),
        ("prototype_opt_class", lambda: hparams["prototype_opt_class"]([torch.nn.Parameter(torch.zeros(1, 1))])),
        ("lr_schedule", lambda: rate(**arguments) if isinstance(rate, functools.partial) else None),
    ):
        if hparams.get(key) is not None:
            try:
                build()
            except (TypeError, ValueError) as error:
                given = getattr(hparams[key], "keywords", {})
                why = f"{error}{which_are_texts(error, given)}"
                raise ValueError(f"{key} cannot be built: {why}; mend its arguments") from error


def _check_chunk(embedder: torch.nn.Module, seconds: float, rate: int) -> None:
    try:
        embedder.length(round(seconds * rate))
    except ValueError as error:
        raise ValueError(f"chunk_seconds is {seconds:g}: {error}; take a longer chunk") from error


def _check_schedules(hparams: Mapping) -> None:
    """Every part of a schedule must lie within the training:
    one that does not trains another loss, silently."""
    epochs = hparams["number_of_epochs"]
    remedy = "give a part of the training, such as !ref <number_of_epochs> * 0.2, or train longer"
    for key in ("margin_schedule", "alpha_schedule"):
        end = getattr(hparams.get(key), "fix_start_epoch", 0)
        if end > epochs:
            raise ValueError(
                f"{key} reaches its end at epoch {end:g}, after the {epochs:g} epochs of number_of_epochs; {remedy}"
            )
    warmup, cooldown = hparams.get("warmup_epochs") or 0, hparams.get("cooldown_epochs") or 0
    for key, value in (("warmup_epochs", warmup), ("cooldown_epochs", cooldown)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= epochs:
            raise ValueError(f"{key} must be from 0 to number_of_epochs ({epochs:g}), got {value!r}; {remedy}")
    if warmup + cooldown > epochs:
        raise ValueError(
            f"warmup_epochs {warmup:g} and cooldown_epochs {cooldown:g} do not fit into the {epochs:g} epochs of "
            f"number_of_epochs; {remedy}"
        )
    planned = getattr(hparams.get("lr_schedule"), "number_of_epochs", epochs)
    if planned != epochs:
        raise ValueError(
            f"lr_schedule is for {planned:g} epochs, number_of_epochs is {epochs:g}; write number_of_epochs: "
            "!ref <number_of_epochs> in the schedule"
        )
    if (reinit := hparams.get("reinit_epoch") or 0) > epochs:
        raise ValueError(f"reinit_epoch {reinit} is after the last epoch, {epochs}; {remedy}")
