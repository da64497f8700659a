"""The training run as a user starts it: on a tiny tree,
in a process of its own, killed and resumed."""

import json
import multiprocessing
import shutil
import time

import numpy as np
import pytest
import torch

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.sb.datasets import DevelopmentSet
from alpha_sv.sb.experiment import run
from alpha_sv.sb.training_log import TrainingLog
from alpha_sv.schedule import ExponentialRate
from tests.fixtures.speech_tree import make_tree, voice
from tests.fixtures.training_runs import RECIPE, Training, arguments, column, log_of, run_killed


@pytest.mark.parametrize("model", ["ecapa", *(pytest.param(m, marks=pytest.mark.slow) for m in ("campplus", "resnet"))])
def test_recipe_trains_validates_and_saves_a_model(model, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    model_folder = run(arguments(tree, tmp_path, model, number_of_epochs=6, margin=0.0, lr=0.005))
    log = log_of(tmp_path)
    train, valid = ([row for row in log if row["kind"] == kind] for kind in ("train", "valid"))
    assert [row["step"] for row in train] == list(range(1, len(train) + 1))
    epoch_losses = [row["train_loss"] for row in valid]
    assert epoch_losses[-1] < 0.8 * epoch_losses[0], epoch_losses
    assert len(valid) == 6 and all(0 <= row["eer"] <= 1 for row in valid)
    for row in train:
        assert 1 <= row["support"] <= 6 and 0 <= row["zero_loss"] <= 1 and 0 <= row["zero_target"] <= 1
    assert SpeakerEmbedder.load(model_folder).embed([voice(0, 0)]).shape == (1, 16)
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert len(labels) == 10 - 2 - 2, "neither trial nor development speakers have a prototype"
    assert not {"spk8", "spk9"} & labels.keys()


SPARSE = {"head": "sparse", "reinit_epoch": 2, "loss": "!new:alpha_sv.losses.A3M"}


@pytest.mark.parametrize(
    "overrides", [pytest.param({}, marks=pytest.mark.slow), SPARSE], ids=["dense", "sparse with A3M-I"]
)
def test_kill_9_in_mid_epoch_and_resume_takes_the_same_steps(overrides, tree, tmp_path):
    same = {"ckpt_interval_steps": 2, "ckpt_interval_minutes": 0, "num_workers": 1, "number_of_epochs": 3, **overrides}
    Training(arguments(tree, tmp_path / "whole", **same)).finish()
    expected = log_of(tmp_path / "whole")
    steps_per_epoch = next(row["step"] for row in expected if row["kind"] == "valid")
    argv = arguments(tree, tmp_path / "killed", **same)
    # inside the second epoch, past a checkpoint at +2
    Training(argv).kill_at(steps_per_epoch + 3, tmp_path / "killed" / "train_log.jsonl")
    assert "Loading a checkpoint" in Training(argv).finish()
    resumed = log_of(tmp_path / "killed")
    assert resumed == expected, "every line of the log: loss, learning rate, sparsity, EER"
    first, second = (
        SpeakerEmbedder.load(tmp_path / name / "model").embed([voice(0, 0)]) for name in ("whole", "killed")
    )
    np.testing.assert_array_equal(first, second)


def test_same_seed_same_run_whatever_the_workers_and_another_seed_another(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    logs = []
    for name, overrides in [("a", {}), ("b", {"num_workers": 2}), ("c", {"seed": 7})]:
        run(arguments(tree, tmp_path / name, number_of_epochs=1, **overrides))
        logs.append(log_of(tmp_path / name))
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]
    assert not multiprocessing.active_children(), "loaders have ended with their runs"


def test_a_finished_run_with_other_settings_in_its_folder_is_refused(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    run(arguments(tree, tmp_path, number_of_epochs=1))
    with pytest.raises(ValueError, match="batch_size.*another output_folder"):
        run(arguments(tree, tmp_path, number_of_epochs=1, batch_size=4))


def test_a_run_is_not_continued_on_other_data(tmp_path, monkeypatch):
    """Renaming a speaker would give prototypes new owners;
    changed trials could put test speakers into training."""
    monkeypatch.chdir(RECIPE)
    tree = make_tree(tmp_path / "tree", speakers=8, utterances=6)
    out = tmp_path / "out"
    run(arguments(tree, out, number_of_epochs=1))
    (tree / "wav" / "spk0").rename(tree / "wav" / "zoe")
    with pytest.raises(ValueError, match="run on other data .*manifest"):
        run(arguments(tree, out, number_of_epochs=1))
    (tree / "wav" / "zoe").rename(tree / "wav" / "spk0")
    run(arguments(tree, out, number_of_epochs=1))
    (tree / "trials.txt").write_text("1 spk0/s0/00.wav spk0/s1/01.wav\n0 spk0/s0/00.wav spk1/s0/00.wav\n")
    with pytest.raises(ValueError, match="run on other data"):
        run(arguments(tree, out, number_of_epochs=1))


def test_development_trials_of_ones_own_keep_their_speakers_out_of_training(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    trials = tmp_path / "dev.txt"
    trials.write_text("1 spk0/s0/00.wav spk0/s1/01.wav\n0 spk0/s0/00.wav spk1/s0/00.wav\n")
    run(arguments(tree, tmp_path / "out", number_of_epochs=1, valid_trials=trials))
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels.keys() == {f"spk{i}" for i in range(2, 8)}
    trials.write_text("1 spk9/s0/00.wav spk9/s1/01.wav\n0 spk9/s0/00.wav spk1/s0/00.wav\n")
    with pytest.raises(ValueError, match="spk9.*has seen the test"):
        run(arguments(tree, tmp_path / "leak", number_of_epochs=1, valid_trials=trials))


def test_schedules_count_optimizer_steps_under_gradient_accumulation(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    schedule = {"margin_schedule": "{increase_start_epoch: 0, fix_start_epoch: 2}", "cooldown_epochs": 1}
    run(arguments(tree, tmp_path, grad_accumulation_factor=2, number_of_epochs=3, **schedule))
    last = [row for row in log_of(tmp_path) if row["kind"] == "train"][-1]
    assert last["step"] == 9 and last["epoch"] == pytest.approx(3)
    assert last["margin"] == pytest.approx(0.2) and last["lr"] == 0


def test_starved_training_is_warned_about_once(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr("alpha_sv.monitor.SparsityMonitor.EVERY", 1)
    monkeypatch.setattr("alpha_sv.monitor.SparsityMonitor.LOOKS", 2)
    for limit, warnings in (
        (1.0, 0),
        (-1.0, 1),
    ):  # no batch is above the first, every batch is above the second
        monkeypatch.setattr("alpha_sv.monitor.STARVED", limit)
        run(arguments(tree, tmp_path / str(limit), number_of_epochs=1))
        text = (tmp_path / str(limit) / "log.txt").read_text()
        assert text.count("gradient starvation") == warnings


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"batch_size": 1000}, "fewer than one batch of 1000: lower batch_size"),
        ({"num_valid_speakers": 0}, "Set num_valid_speakers"),
        ({"noise_folder": "/nowhere"}, "/nowhere does not exist"),
        ({"noise_folder": RECIPE}, "holds no audio"),
        ({"data_folder": "/nowhere"}, "/nowhere"),
        ({"loss": "A3M"}, "not a loss of alpha_sv"),
        ({"loss": "!new:alpha_sv.losses.A3M {alfa: 1.5}"}, "alfa"),
        ({"number_of_epochs": 0}, "at least 1, got 0"),
        ({"head": "thick"}, "head must be auto, dense, sparse or sharded, got 'thick'"),
        ({"chunk_seconds": "x"}, "chunk_seconds must be a number from 0 to 3600, got 'x'"),
        ({"chunk_seconds": 1e9}, "chunk_seconds must be a number from 0 to 3600"),
        ({"chunk_seconds": 0.02}, "chunk_seconds is 0.02: .*longer chunk"),
        ({"num_valid_speakers": "x"}, "num_valid_speakers must be a whole number"),
        ({"num_prototypes": "x"}, "num_prototypes must be a whole number"),
        ({"n_mels": 0}, "n_mels must be numbers from 1"),
        ({"speeds": 3}, "speeds must be a list, got 3"),
        ({"wav_augment": 3}, "wav_augment must be a list, got 3"),
        ({"wav_augment": [3]}, "wav_augment must be a list of modules"),
        ({"embedder": 3}, "embedder is 3, not a network"),
        ({"lr_schedule": 3}, "lr_schedule is 3, which cannot be called"),
        ({"augment": 3}, "augment is 3, which cannot be called"),
        ({"opt_class": 3}, "opt_class is 3, which cannot be called"),
        ({"opt_class": "!name:torch.optim.SGD {lr: x}"}, "opt_class cannot be built: .*this is a text: lr = 'x'"),
        ({"opt_class": "!name:torch.optim.SGD {foo: 1}"}, "opt_class cannot be built: .*'foo'"),
        (
            {"lr_schedule": "!name:speechbrain.nnet.schedulers.WarmCoolDecayLRSchedule {foo: 1}"},
            "lr_schedule cannot be",
        ),
        ({"tensorboard": "x"}, "tensorboard must be True or False, got 'x'"),
        ({"grad_accumulation_factor": 0}, "--grad_accumulation_factor must be at least 1, got 0"),
        ({"optimizer_step_limit": "x"}, "--optimizer_step_limit must be a whole number"),
        pytest.param(
            {"device": "cuda"},
            "--device=cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_a_recipe_that_cannot_work_says_why_and_what_to_do(overrides, message, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    with pytest.raises(ValueError, match=message):
        run(arguments(tree, tmp_path, **overrides))


def test_development_trials_need_labels_and_their_utterances():
    from alpha_sv.data.trials.files import Trials

    with pytest.raises(ValueError, match="one target and one nontarget"):
        DevelopmentSet({}, Trials(np.array(["a"]), np.array(["b"]), np.array([True])), list)
    with pytest.raises(ValueError, match="2 names .* not in the corpus: a, b"):
        DevelopmentSet({}, Trials(np.array(["a", "a"]), np.array(["b", "a"]), np.array([True, False])), list)


def test_a_run_is_not_continued_without_the_noise_it_was_begun_with(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    run(arguments(tree, tmp_path, number_of_epochs=1))
    moved = shutil.copytree(tree / "noise", tmp_path / "moved")
    run(arguments(tree, tmp_path, number_of_epochs=1, noise_folder=moved))  # the path may change
    with pytest.raises(ValueError, match="other settings .*noise_folder"):
        run(arguments(tree, tmp_path, number_of_epochs=1, noise_folder=""))


def test_training_log_drops_lines_after_the_checkpoint_and_a_torn_last_line(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    for step in range(3):
        log.append({"step": step})
    log._save(tmp_path / "ckpt")
    log.append({"step": 3})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    resumed = TrainingLog(tmp_path / "log.jsonl")
    resumed._load(tmp_path / "ckpt", end_of_epoch=False)
    resumed.append({"step": 3})
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        0,
        1,
        2,
        3,
    ]


def test_a_second_training_in_a_folder_is_refused_while_the_first_runs(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    first = Training(arguments(tree, tmp_path, number_of_epochs=200))
    while not (tmp_path / "train_log.jsonl").exists():
        assert first.processes[0].is_alive(), first.printed()
        time.sleep(0.05)
    with pytest.raises(ValueError, match=f"in use by process {first.processes[0].pid} on .* give another folder"):
        run(arguments(tree, tmp_path, number_of_epochs=200))
    first.kill_at(1, tmp_path / "train_log.jsonl")
    before = log_of(tmp_path)
    run_killed(arguments(tree, tmp_path, number_of_epochs=200), len(before) + 20)
    steps = column(tmp_path, "step")
    assert steps == list(range(1, len(steps) + 1)), "the log has each step once"


def test_a_negative_learning_rate_stops_the_run(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(RECIPE)
    schedule = (
        "--lr_schedule=!new:alpha_sv.schedule.ExponentialRate {initial_lr: 0.1, final_lr: 0.01, "
        "warmup_epochs: 0, number_of_epochs: 2}"
    )
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="learning rate of step 3 is -1"):
        patch.setattr(ExponentialRate, "__call__", lambda rate, epoch: -1.0 if epoch > 0.3 else 0.01)
        run([*arguments(tree, tmp_path), schedule])
