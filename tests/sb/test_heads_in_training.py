"""The heads inside a recipe: one key chooses the sparse one,
which trains as the dense one does; A3M-I acts once."""

import numpy as np
import torch

from alpha_sv.sb.experiment import run
from tests.fixtures.training_runs import RECIPE, arguments, log_of

APART = "!name:alpha_sv.heads.PrototypeSGD {lr: 0.1, momentum: 0.9}"


def column(log, key):
    return [row[key] for row in log if row["kind"] == "train"]


def test_sparse_head_repeats_the_loss_curve_of_the_dense_one(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    same = {"margin_schedule": "{increase_start_epoch: 0, fix_start_epoch: 2}"}  # live in both
    # a bias before a batch normalisation has no gradient;
    # Adam would make whole steps of its rounding
    same["opt_class"] = "!name:torch.optim.SGD {lr: 0.003}"
    logs = []
    for name, overrides in (("dense", {"prototype_opt_class": APART}), ("sparse", {"head": "sparse"})):
        run(arguments(tree, tmp_path / name, number_of_epochs=3, **same, **overrides))
        logs.append(log_of(tmp_path / name))
    for key in ("loss", "support", "zero_loss", "target_probability", "accuracy", "margin", "lr"):
        np.testing.assert_allclose(column(logs[1], key), column(logs[0], key), rtol=2e-4, atol=1e-6, err_msg=key)
    assert len(set(column(logs[0], "margin"))) > 3, "else the schedule was not tried"


def test_more_prototypes_than_speakers(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    run(arguments(tree, tmp_path, number_of_epochs=1, head="sparse", num_prototypes=5000))
    weight = torch.load(next((tmp_path / "save").glob("CKPT*")) / "head.ckpt", weights_only=True)["weight"]
    assert len(weight) == 5000


def test_reinitialisation_puts_prototypes_at_their_speakers_once(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    overrides = {"reinit_epoch": 2, "loss": "!new:alpha_sv.losses.A3M", "lr": 1e-9, "margin": 0.0}
    run(arguments(tree, tmp_path, number_of_epochs=3, **overrides))
    assert (tmp_path / "log.txt").read_text().count("6 prototypes set to their speakers' mean embedding (A3M-I)") == 1
    last = max((tmp_path / "save").glob("CKPT*/head.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    weight = torch.load(last, weights_only=True)["weight"]
    # nothing else moves at this learning rate, so the prototypes are still unit vectors
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(6), rtol=0, atol=1e-4)
    log = log_of(tmp_path)
    before, after = (
        np.mean([r["target_probability"] for r in log if r["kind"] == "train" and r["step"] in steps])
        for steps in (range(1, 7), range(7, 13))
    )
    assert after > before, "a speaker's samples are nearer to their mean than to a random prototype"
