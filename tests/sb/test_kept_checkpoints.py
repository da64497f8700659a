"""What a run keeps and saves: the best epoch on the
development trials, or the mean of the last ones."""

import json
import re
import shutil

import pytest
import safetensors.torch
import torch

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.sb.checkpointer import SafeCheckpointer
from alpha_sv.sb.datasets import DevelopmentSet
from alpha_sv.sb.experiment import run
from tests.fixtures.replaced import counted
from tests.fixtures.training_runs import OFTEN, arguments, checkpoints, column, stored

pytestmark = pytest.mark.usefixtures("in_recipe")


@pytest.mark.parametrize("development", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_average_saves_the_mean_of_the_last_epochs(development, tree, tmp_path):
    """Also where checkpoints inside the epochs come between those of the epochs' ends."""
    keys = {"average": 2, "number_of_epochs": 4, "num_valid_speakers": development, **OFTEN, "ckpt_interval_steps": 3}
    model = run(arguments(tree, tmp_path, **keys))
    kept = checkpoints(tmp_path)
    assert [c.meta["end-of-epoch"] for c in kept] == [True, True], "nothing else fills the disk"
    steps = column(tmp_path, "step")[-1]
    for expected, checkpoint in zip((steps * 3 // 4, steps), kept, strict=True):
        assert f"optimizer_step: {expected}\n" in checkpoint.paramfiles["brain"].read_text()
    saved = SpeakerEmbedder.load(model).state_dict()
    one, other = (stored(checkpoint, "embedder") for checkpoint in kept)
    averaged = [name for name in saved if saved[name].is_floating_point()]
    assert any("running_mean" in name for name in averaged) and any("running_var" in name for name in averaged)
    for name in averaged:
        torch.testing.assert_close(saved[name], (one[name] + other[name]) / 2, msg=name)
    assert any((one[name] != other[name]).any() for name in averaged)


def test_average_of_more_epochs_than_there_are_says_so(tree, tmp_path):
    run(arguments(tree, tmp_path, average=5, number_of_epochs=2))
    assert "only 2 of the 5 epochs to average are there" in (tmp_path / "log.txt").read_text()


@pytest.mark.slow
def test_valid_interval_scores_every_other_epoch_and_the_last_and_keeps_the_best_of_them(tree, tmp_path):
    with counted(SafeCheckpointer, "save_checkpoint") as ends:
        model = run(arguments(tree, tmp_path, valid_interval=2, number_of_epochs=5))
    assert column(tmp_path, "epoch", "valid") == [2, 4, 5] and len(ends) == 5
    best = min(
        (c for c in checkpoints(tmp_path) if "eer" in c.meta), key=lambda c: (c.meta["eer"], -c.meta["unixtime"])
    )
    assert best.meta["eer"] == min(column(tmp_path, "eer", "valid"))
    saved = SpeakerEmbedder.load(model).state_dict()
    torch.testing.assert_close(saved, stored(best, "embedder"), rtol=0, atol=0)


def test_a_finished_run_started_again_leaves_everything_as_it_is(tree, tmp_path):
    argv = arguments(tree, tmp_path, average=2, **OFTEN)
    files = [run(argv) / "embedder.safetensors", tmp_path / "prototypes.safetensors", tmp_path / "train_log.jsonl"]
    before = [file.read_bytes() for file in files]
    run(argv)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.slow
def test_what_a_kill_left_of_old_checkpoints_goes_although_the_run_is_done(tree, tmp_path):
    """Killed after the last checkpoint was written,
    before or within the deletion of the one it replaces."""
    argv = arguments(tree, tmp_path, average=2, number_of_epochs=2)
    run(argv)
    kept = [checkpoint.path for checkpoint in checkpoints(tmp_path)]
    for name, lacking in (("CKPT+2020-01-01+00-00-00+00", ""), ("CKPT+2020-01-01+00-00-01+00", "CKPT.yaml")):
        old = shutil.copytree(kept[0], kept[0].with_name(name))
        meta = (old / "CKPT.yaml").read_text()
        (old / "CKPT.yaml").write_text(re.sub("unixtime: [0-9.]+", "unixtime: 1.0", meta))
        (old / lacking).unlink() if lacking else None
    run(argv)
    assert sorted(kept[0].parent.glob("*CKPT*")) == sorted(kept)


def test_a_finished_run_whose_best_checkpoint_is_damaged_keeps_its_model(tree, tmp_path, caplog, monkeypatch):
    argv, eers = arguments(tree, tmp_path, number_of_epochs=3), iter((0.3, 0.1, 0.2))
    result = {"min_dcf": 1.0, "fnr_at_fpr_1e-2": 1.0}
    monkeypatch.setattr(DevelopmentSet, "evaluate", lambda *_: {"eer": next(eers), **result})
    files = [run(argv) / "embedder.safetensors", tmp_path / "prototypes.safetensors"]
    before, kept = [file.read_bytes() for file in files], checkpoints(tmp_path)
    best = min(kept, key=lambda c: (c.meta["eer"], -c.meta["unixtime"]))
    assert best.meta["unixtime"] < max(c.meta["unixtime"] for c in kept), "the run got worse in the end"
    best.paramfiles["embedder"].write_bytes(b"")
    run(argv)
    assert [file.read_bytes() for file in files] == before
    assert "has lost its checkpoint" in caplog.text or "has lost its checkpoint" in (tmp_path / "log.txt").read_text()


def test_the_saved_prototypes_are_those_of_the_saved_embedder(tree, tmp_path):
    run(arguments(tree, tmp_path, average=2, speeds="[1.0, 1.1]"))
    weight = safetensors.torch.load_file(tmp_path / "prototypes.safetensors")["weight"]
    parts = [stored(checkpoint, "head")["weight"] for checkpoint in checkpoints(tmp_path)]
    torch.testing.assert_close(weight, sum(parts) / 2)
    assert len(json.loads((tmp_path / "labels.json").read_text())) == len(weight) == 12
