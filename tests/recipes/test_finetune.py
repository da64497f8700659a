"""Fine-tuning: what moves and what does not, the cached front,
the diagnosis before the first step, and resuming."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alpha_sv.cli import main
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.sb.experiment import build_brain, prepare, read_arguments, run
from alpha_sv.sb.fine_tuning import Adapted
from alpha_sv.sb.weights import prototypes_of
from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import OFTEN, SMALL, log_of, run_killed

RECIPE = Path(__file__).parents[2] / "recipes" / "Finetune"


@pytest.fixture(autouse=True)
def in_recipe(monkeypatch):
    monkeypatch.chdir(RECIPE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"), speakers=8, utterances=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """CAM++ with random weights, and statistics of some noise."""
    torch.manual_seed(0)
    embedder = SpeakerEmbedder("campplus", 16, n_mels=24, channels=2, init_channels=8, block_sizes=[2, 2], growth=4)
    embedder.train()(torch.randn(8, 8000))
    embedder.save(folder := tmp_path_factory.mktemp("model"))
    return folder


def arguments(tree, model, output, recipe="last_layers", **overrides):
    keys = {
        "data_folder": tree / "wav",
        "trials": tree / "trials.txt",
        "model": model,
        "train_from": "transit2" if recipe == "last_layers" else "",
        "front_cache": output.parent / "front" if recipe == "last_layers" else "",
        "output_folder": output,
        **SMALL,
        "device": "cpu",
        **overrides,
    }
    return [f"hparams/{recipe}.yaml", *(f"--{key}={value}" for key, value in keys.items())]


def weights(folder):
    return SpeakerEmbedder.load(folder).state_dict()


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


FROZEN = ("backbone.head", "backbone.xvector.tdnn", "backbone.xvector.block", "backbone.xvector.transit1")


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_only_the_stages_from_the_chosen_one_on_move(tree, model, tmp_path, batch_norm):
    run(arguments(tree, model, tmp_path / "run", batch_norm=batch_norm))
    changed = moved(weights(model), weights(tmp_path / "run" / "model"))
    assert {name for name in changed if "running" not in name} and not any(name.startswith(FROZEN) for name in changed)
    assert any("running" in name for name in changed) == (batch_norm == "trained")


def test_the_whole_network_moves_where_nothing_is_frozen(tree, model, tmp_path):
    run(arguments(tree, model, tmp_path / "run", "whole_network", number_of_epochs=1, noise_folder=tree / "noise"))
    changed = moved(weights(model), weights(tmp_path / "run" / "model"))
    learnt = {name for name, _ in SpeakerEmbedder.load(model).named_parameters()}
    assert learnt <= changed and not any("running" in name for name in changed)


def begun(argv):
    hparams, run_opts = read_arguments(argv)
    brain = build_brain(hparams, run_opts, prepare(hparams))
    brain.on_fit_start()
    return brain


def test_development_trials_from_the_cache_are_those_of_the_waveforms(tree, model, tmp_path):
    cached = begun(arguments(tree, model, tmp_path / "cached"))
    waves = begun(arguments(tree, model, tmp_path / "waves", front_cache=""))
    for name in ("valid_set", "train_set"):
        assert len(getattr(cached.hparams, name)) == len(getattr(waves.hparams, name))
    for number in range(4):
        one, other = (brain.hparams.valid_set[number][0] for brain in (cached, waves))
        a, b = (brain.embed_whole(torch.from_numpy(x)[None]) for brain, x in ((cached, one), (waves, other)))
        torch.testing.assert_close(a, b, rtol=1e-2, atol=5e-3 * b.abs().max().item())


def test_prototypes_begin_at_the_means_or_at_random(tree, model, tmp_path):
    for start in ("means", "new"):
        run(arguments(tree, model, tmp_path / start, prototypes=start, number_of_epochs=1, lr=1e-9, margin=0.0))
    embedder = SpeakerEmbedder.load(model)
    weight, rows = prototypes_of(tmp_path / "means")
    import soundfile

    for speaker, row in rows.items():
        files = sorted((tree / "wav" / speaker).rglob("*.wav"))
        embeddings = embedder.embed([soundfile.read(file, dtype="float32")[0] for file in files])
        mean = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).mean(0)
        np.testing.assert_allclose(weight[row], mean / np.linalg.norm(mean), atol=5e-3)
    other, _ = prototypes_of(tmp_path / "new")
    assert (torch.nn.functional.cosine_similarity(weight, other) < 0.99).all()


def test_the_diagnosis_stands_before_the_first_step(tree, model, tmp_path):
    run(arguments(tree, model, tmp_path / "run", loss="!new:alpha_sv.losses.A3M {alpha: 1.5, scale: 12}"))
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert 0 < log.index("before the first step") < log.index("epoch 1, step 2")
    found = json.loads((tmp_path / "run" / "diagnosis.json").read_text(encoding="utf-8"))
    assert found["samples"] == 20 and found["classes"] == 4
    assert [(row["scale"], row["alpha"], row["margin"]) for row in found["regimes"]] == [
        (scale, alpha, margin) for scale, alpha in ((20, 1.25), (10, 1.5), (5, 2), (12, 1.5)) for margin in (0, 0.2)
    ]
    for line in found["advice"]:
        assert line in log
    first = log_of(tmp_path / "run")[0]
    assert first["margin"] == 0 and first["scale"] == 12


def test_the_margin_grows_and_the_prototypes_have_their_own_rate(tree, model, tmp_path):
    brain = begun(arguments(tree, model, tmp_path / "run", lr=0.02, prototype_factor=7, warmup_epochs=0))
    assert brain.optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    assert brain.prototype_optimizer.param_groups[0]["lr"] == pytest.approx(0.14)
    run(arguments(tree, model, tmp_path / "again", number_of_epochs=4))
    margins = [row["margin"] for row in log_of(tmp_path / "again") if row["kind"] == "train"]
    assert margins[0] == 0 and margins[-1] == 0.2 and margins == sorted(margins)


def test_a_killed_run_takes_the_steps_of_one_that_was_not(tree, model, tmp_path):
    run(arguments(tree, model, tmp_path / "whole", **OFTEN))
    run_killed(arguments(tree, model, tmp_path / "killed", **OFTEN), step=3)
    run(arguments(tree, model, tmp_path / "killed", **OFTEN))
    assert not moved(weights(tmp_path / "whole" / "model"), weights(tmp_path / "killed" / "model"))


def test_a_run_is_not_continued_on_another_front(tree, model, tmp_path):
    run_killed(arguments(tree, model, tmp_path / "run", **OFTEN), step=3)
    kept = (model / "embedder.safetensors").read_bytes()
    other = SpeakerEmbedder.load(model)
    with torch.no_grad():
        other.backbone.xvector.tdnn.linear.weight.mul_(1.01)
    try:
        other.save(model)
        with pytest.raises(ValueError, match="other data"):
            run(arguments(tree, model, tmp_path / "run", **OFTEN))
    finally:
        (model / "embedder.safetensors").write_bytes(kept)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train_from": "layer4"}, "no stage 'layer4'; its stages are head, tdnn"),
        ({"train_from": ""}, "set train_from to a later stage"),
        ({"noise_folder": "NOISE"}, "leave noise_folder, rir_folder and wav_augment"),
        ({"speeds": "[1.0, 0.9]"}, "at their own speed only"),
        ({"model": "nobody"}, "no model 'nobody'"),
        ({"batch_norm": "half"}, "batch_norm must be frozen or trained"),
        ({"prototypes": "old"}, "prototypes must be means or new"),
        ({"sample_rate": 8000}, "8000"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tree, model, tmp_path, overrides, message):
    overrides = {key: tree / "noise" if value == "NOISE" else value for key, value in overrides.items()}
    with pytest.raises(ValueError, match=message):
        read_arguments(arguments(tree, overrides.pop("model", model), tmp_path / "run", **overrides))
    assert not list((tmp_path / "run").glob("[!.]*")) and not (tmp_path / "front").exists()


@pytest.mark.slow
def test_a_network_in_onnx_cannot_be_adapted(model, tmp_path):
    pytest.importorskip("onnxscript")
    from alpha_sv.exchange.export import export

    folder = Path(export(model, tmp_path / "onnx", "onnx"))
    with pytest.raises(ValueError, match="ONNX, which cannot be trained"):
        Adapted(next(folder.glob("*.onnx")))


def test_the_verb_says_of_a_model_what_the_run_says(tree, model, tmp_path, capsys):
    """Of the same samples and prototypes: those of a run that has not begun to move."""
    run(arguments(tree, model, tmp_path / "run", seed=1234, number_of_epochs=1, front_cache=""))
    said = json.loads((tmp_path / "run" / "diagnosis.json").read_text(encoding="utf-8"))
    command = ["diagnose", str(model), str(tmp_path / "run" / "manifest.csv"), "--chunk-seconds", "0.5", "--json"]
    capsys.readouterr()
    assert main([*command, "--alpha", "1.5"]) == 0
    assert json.loads(capsys.readouterr().out)["regimes"] == [
        {key: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value for key, value in row.items()}
        for row in said["regimes"]
    ]
    assert main(command[:-1]) == 0
    text = capsys.readouterr().out
    assert "20 samples, 4 classes" in text and "have no gradient with QMargin" in text


def test_the_verb_refuses_what_it_cannot_do(tree, model, tmp_path, capsys):
    run(arguments(tree, model, tmp_path / "run", number_of_epochs=1))
    manifest = str(tmp_path / "run" / "manifest.csv")
    assert main(["diagnose", str(model), manifest, "--loss", "am", "--alpha", "2"]) != 0
    assert "α = 1" in capsys.readouterr().err
    assert main(["diagnose", str(model), str(tmp_path / "nowhere.csv")]) != 0
    assert "nowhere.csv" in capsys.readouterr().err
