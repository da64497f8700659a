"""What a recipe's keys must be, checked before anything is written or prepared."""

from __future__ import annotations

from collections.abc import Mapping

from alpha_sv.losses import MarginLoss
from alpha_sv.sb.adapted import check_front
from alpha_sv.sb.brain_parts import HEADS
from alpha_sv.sb.distributed import local_batch_size, world_size
from alpha_sv.sb.weights import HEAD_POLICIES


def check_hparams(hparams: dict, run_opts: Mapping, begun: bool = False) -> None:
    """Refuse what would otherwise fail only after the preparation, or late in training, or train something else.

    Parameters
    ----------
    hparams : dict
        The recipe's keys; changed in place where SpeechBrain takes one of two.
    run_opts : mapping
        SpeechBrain's options.
    begun : bool
        Whether a run is continued: its schedules are then as they were begun, even if they do not fit (as was allowed
        until version 0.1).

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
        raise ValueError(f"head must be {' or '.join(HEADS)}, got {hparams['head']!r}")
    for key, least in (
        ("batch_size", 1),
        ("number_of_epochs", 1),
        ("valid_interval", 1),
        ("log_interval", 1),
        ("average", 0),
        ("reinit_epoch", 0),
        ("num_workers", 0),
        ("diagnose", 0),
    ):
        value = hparams.get(key, least)
        if not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            raise ValueError(f"{key} must be a whole number, at least {least}, got {value!r}")
    local_batch_size(hparams["batch_size"])
    if world_size() > 1 and hparams["head"] == "sparse":
        raise ValueError("head: sparse trains in one process; with several use head: dense")
    policy = hparams.get("warm_start_head") or "keep"
    if policy not in HEAD_POLICIES:
        raise ValueError(f"warm_start_head must be one of {', '.join(HEAD_POLICIES)}, got {policy!r}")
    if hparams.get("warm_start") and policy == "means":
        if hparams.get("reinit_epoch") or hparams.get("reinit_zero_target"):
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


def _check_schedules(hparams: Mapping) -> None:
    """Every part of a schedule must lie within the training: one that does not trains another loss, silently."""
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
