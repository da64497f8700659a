"""A run that begins with another's network:
what it takes over, what it refuses, and that it does so once."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from torch.nn.functional import normalize

from alpha_sv.data.audio.speed import change_speed, source_length
from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.heads import CosineHead
from alpha_sv.losses import QMargin
from alpha_sv.sb.checkpointer import SafeCheckpointer
from alpha_sv.sb.experiment import build_brain, prepare, read_arguments, run
from alpha_sv.sb.reinit import Reinitialiser
from alpha_sv.sb.run_folder import RunFolder
from alpha_sv.sb.training_log import TrainingLog
from alpha_sv.sb.weights import prototypes_of, save_trained
from tests.fixtures.replaced import counted
from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import OFTEN, RECIPE, arguments, log_of, run_killed

pytestmark = pytest.mark.usefixtures("in_recipe")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"), speakers=10, utterances=6)


@pytest.fixture(scope="module")
def earlier(tree, tmp_path_factory):
    """A finished run over the classes of two speeds."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        run(arguments(tree, folder, speeds="[1.0, 0.9]", number_of_epochs=1))
    return folder


def begun(tree, output, **overrides):
    """The brain of a run before its first step, and class → row of its prototypes."""
    hparams, run_opts = read_arguments(arguments(tree, output, **overrides))
    brain = build_brain(hparams, run_opts, prepare(hparams))
    brain.on_fit_start()
    return brain, json.loads((output / "labels.json").read_text())


def begins_with_the_network_of(folder, brain):
    expected = SpeakerEmbedder.load(folder / "model").state_dict()
    torch.testing.assert_close(dict(brain.embedder.state_dict()), dict(expected), rtol=0, atol=0)
    return any("running_var" in name for name in expected)


@pytest.mark.parametrize("overrides", [{"speeds": "[1.0, 0.9]"}, {"exclude_speakers": "[spk1]"}], ids=["all", "some"])
def test_keep_takes_each_class_its_prototype_by_name(overrides, tree, earlier, tmp_path):
    """Some: fine-tuning without speed perturbation and with a speaker less, so that rows move."""
    brain, rows = begun(tree, tmp_path, warm_start=earlier, warm_start_head="keep", **overrides)
    assert begins_with_the_network_of(earlier, brain)
    weight, before = prototypes_of(earlier)
    assert len(rows) == len(brain.head.weight) and rows.keys() <= before.keys()
    for name, row in rows.items():
        torch.testing.assert_close(brain.head.weight[row].detach(), weight[before[name]], rtol=0, atol=0)


def test_new_keeps_the_random_prototypes_of_a_cold_run(tree, earlier, tmp_path):
    brain, _ = begun(tree, tmp_path / "warm", warm_start=earlier, warm_start_head="new", speeds="[1.0, 0.9]")
    cold, _ = begun(tree, tmp_path / "cold", speeds="[1.0, 0.9]")
    assert begins_with_the_network_of(earlier, brain)
    torch.testing.assert_close(brain.head.weight, cold.head.weight, rtol=0, atol=0)


def class_means_by_hand(tree, embedder, classes):
    """Class → mean direction of its utterances, whole, each embedded alone."""
    means = {}
    for name in classes:
        speaker, _, speed = name.partition("#")
        waveforms = []
        for path in sorted((tree / "wav" / speaker).rglob("*.wav")):
            waveform = soundfile.read(path, dtype="float32")[0]
            if speed:
                samples = int(len(waveform) / float(speed))
                waveform = waveform[: source_length(samples, float(speed))]
                waveform = change_speed(waveform, float(speed), samples).astype(np.float32)
            waveforms.append(waveform)
        means[name] = normalize(normalize(torch.from_numpy(embedder.embed(waveforms, batch_size=1))).sum(0), dim=0)
    return means


def test_means_sets_the_prototype_of_each_speed_of_each_speaker(tree, earlier, tmp_path):
    """The speed 1.1 is new to the earlier run. All else stands still at this learning rate."""
    keys = {"speeds": "[1.0, 0.9, 1.1]", "number_of_epochs": 1, "lr": 1e-12}
    run(arguments(tree, tmp_path, warm_start=earlier, warm_start_head="means", **keys))
    assert f"begins with the embedder of {earlier}, prototypes: means" in (tmp_path / "log.txt").read_text()
    weight, rows = prototypes_of(tmp_path)
    means = class_means_by_hand(tree, SpeakerEmbedder.load(earlier / "model"), rows)
    assert len(rows) == len(weight) == 18
    for name, mean in means.items():
        torch.testing.assert_close(weight[rows[name]], mean, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_several_prototypes_of_a_speaker_are_kept_all_or_not_at_all(tree, tmp_path):
    run(arguments(tree, tmp_path / "earlier", sub_centers=2, number_of_epochs=1))
    brain, rows = begun(tree, tmp_path / "same", warm_start=tmp_path / "earlier", sub_centers=2)
    weight, before = prototypes_of(tmp_path / "earlier")
    assert rows == before and len(weight) == 2 * len(rows)
    torch.testing.assert_close(brain.head.weight.detach(), weight, rtol=0, atol=0)
    for name, other in (("three", {"sub_centers": 3}), ("fewer", {"sub_centers": 2, "exclude_speakers": "[spk1]"})):
        with pytest.raises(ValueError, match="same classes and sub_centers"):
            begun(tree, tmp_path / name, warm_start=tmp_path / "earlier", **other)
    brain, rows = begun(tree, tmp_path / "one", warm_start=tmp_path / "earlier")
    assert len(brain.head.weight) == len(rows)


def test_a_class_that_the_earlier_run_lacks_is_refused_by_name(tree, earlier, tmp_path):
    with pytest.raises(ValueError, match=r"no prototype of 6 of the 18 classes \(spk\d#1.1, .*means .*or new"):
        begun(tree, tmp_path, warm_start=earlier, warm_start_head="keep", speeds="[1.0, 0.9, 1.1]")


def test_another_network_is_refused_by_what_differs(tree, earlier, tmp_path):
    for i, (overrides, key) in enumerate([({"n_mels": 20}, "n_mels"), ({"embedding_dim": 8}, "embedding_dim")]):
        with pytest.raises(ValueError, match=f"differs in {key}; train the same network"):
            begun(tree, tmp_path / str(i), warm_start=earlier, **overrides)


def _no_prototypes(folder):
    (folder / "prototypes.safetensors").unlink()


def _truncated(folder):
    file = folder / "prototypes.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def _other_tensor(folder):
    (folder / "prototypes.safetensors").write_bytes(safetensors.torch.save({"w": torch.zeros(2, 2)}))


def _short(folder):
    (folder / "prototypes.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(5, 16)}))


def _narrow(folder):
    (folder / "prototypes.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(12, 4)}))


def _not_finite(folder):
    (folder / "prototypes.safetensors").write_bytes(safetensors.torch.save({"weight": torch.full((12, 16), torch.nan)}))


def _torn_labels(folder):
    (folder / "labels.json").write_text('{"spk0": 0, "spk')


def _listed_labels(folder):
    (folder / "labels.json").write_text('["spk0", "spk1"]')


def _words_as_rows(folder):
    (folder / "labels.json").write_text('{"spk0": "0"}')


def _no_model(folder):
    shutil.rmtree(folder / "model")


@pytest.mark.parametrize(
    "damage, message",
    [
        (_no_prototypes, "no usable prototypes"),
        (_truncated, "no usable prototypes"),
        (_other_tensor, "no usable prototypes"),
        (_short, "labels.json names rows"),
        (_narrow, r"prototypes.safetensors.*\[12, 4\]"),
        (_not_finite, "prototypes.safetensors.*not finite"),
        (_torn_labels, "no usable prototypes"),
        (_listed_labels, "labels.json"),
        (_words_as_rows, "labels.json names rows"),
        (_no_model, "holds no trained run"),
    ],
)
def test_a_damaged_run_is_refused_with_its_name_and_only_keep_needs_prototypes(
    damage, message, tree, earlier, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(earlier, copy)
    damage(copy)
    with pytest.raises(ValueError, match=f"copy.*{message}"):
        begun(tree, tmp_path / "keep", warm_start=copy)
    if damage is not _no_model:
        begun(tree, tmp_path / "new", warm_start=copy, warm_start_head="new")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["means", "keep", "new"])
def test_a_resumed_run_does_not_start_warm_again(head, tree, earlier, tmp_path):
    """It takes the same steps, and needs the earlier run no more:
    that may have been moved meanwhile."""
    moved = tmp_path / "moved"
    shutil.copytree(earlier, moved)
    for name in ("whole", "killed"):
        argv = arguments(tree, tmp_path / name, warm_start=moved, warm_start_head=head, number_of_epochs=1, **OFTEN)
        run(argv) if name == "whole" else run_killed(argv, step=3)
    shutil.rmtree(moved)
    run(argv)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


def test_a_run_killed_in_its_first_checkpoint_starts_warm_again(tree, earlier, tmp_path):
    (tmp_path / "save" / "CKPT+2026-01-01+00-00-00+00").mkdir(parents=True)
    brain, _ = begun(tree, tmp_path, warm_start=earlier, warm_start_head="new")
    assert begins_with_the_network_of(earlier, brain)


def test_a_refused_warm_start_does_not_begin_the_run(tree, tmp_path):
    with pytest.raises(ValueError, match="holds no trained run"):
        begun(tree, tmp_path / "run", warm_start=tmp_path / "nothing", warm_start_head="keep")
    assert not (tmp_path / "run" / "hyperparams.yaml").exists()


def test_a_second_setting_of_the_prototypes_is_refused_rather_than_forgotten(tree, earlier, tmp_path):
    for i, overrides in enumerate([{"reinit_epoch": 2}, {"reinit_zero_target": 0.1}]):
        with pytest.raises(ValueError, match="warm_start_head: means already sets"):
            begun(tree, tmp_path / str(i), warm_start=earlier, warm_start_head="means", **overrides)
    with pytest.raises(ValueError, match="warm_start_head must be one of keep, means, new, got 'mean'"):
        begun(tree, tmp_path / "x", warm_start=earlier, warm_start_head="mean")


def test_reinitialisation_needs_no_development_trials(tree, tmp_path):
    with counted(Reinitialiser, "_embeddings") as calls:
        run(arguments(tree, tmp_path, num_valid_speakers=0, average=1, reinit_epoch=2, speeds="[1.0, 1.1]"))
    assert len(calls) == 1 and len(prototypes_of(tmp_path)[0]) == 16


def test_the_best_model_is_written_once(tmp_path):
    embedder, head = SpeakerEmbedder("mean_fbank", 8, n_mels=8), CosineHead(8, 3, QMargin())
    checkpointer = SafeCheckpointer(tmp_path / "save", {"embedder": embedder, "head": head})
    folder = RunFolder(tmp_path)
    hparams = SimpleNamespace(training_log=TrainingLog(folder.log))
    brain = SimpleNamespace(checkpointer=checkpointer, embedder=embedder, head=head, hparams=hparams)
    written = []
    for eer in (0.2, 0.1, 0.3):  # the last is not better
        checkpointer.save_checkpoint(meta={"eer": eer})
        save_trained(brain, folder)
        written.append(folder.prototypes.stat().st_ino)
    assert written[0] != written[1] == written[2]
