"""Faces through the training of speech, and through the verbs,
on generated images; and on real ones where they are."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from alpha_sv.cli import main
from alpha_sv.data.trials import read_scores
from alpha_sv.face.embedder import FaceEmbedder
from alpha_sv.face.evaluate import fold_accuracy
from alpha_sv.face.images import align
from alpha_sv.face.iresnet import IResNet
from alpha_sv.sb.experiment import run
from alpha_sv.sb.recipe_yaml import load_recipe
from tests.fixtures.faces import encoded, face, insightface_records, make_folder, make_ijb, write_records
from tests.fixtures.training_runs import checkpoints, column, log_of, run_killed, stored

HPARAMS = Path(__file__).parents[2] / "recipes" / "Face" / "hparams"


def arguments(data, output, **overrides):
    keys = {
        "data_folder": data,
        "output_folder": output,
        "image_size": 32,
        "embedding_dim": 16,
        "embedder": "{channels: [4, 4, 8, 8]}",
        "num_valid_identities": 2,
        "number_of_epochs": 2,
        "batch_size": 8,
        "log_interval": 1,
        "num_workers": 0,
        **overrides,
    }
    return [str(HPARAMS / "small_folder.yaml"), *(f"--{key}={value}" for key, value in keys.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("faces"), people=8)


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    return run(arguments(folder, tmp_path_factory.mktemp("run") / "q_margin", number_of_epochs=4))


@pytest.mark.parametrize("name", sorted(path.name for path in HPARAMS.glob("*.yaml")))
def test_every_recipe_builds_with_its_published_sizes(name):
    with torch.device("meta"):
        hparams = load_recipe(HPARAMS / name, "data_folder: x")[0]
    loss, embedder = hparams["loss"], hparams["embedder"]
    assert (loss.alpha, loss.margin, loss.place) == (1.25, 0.2, "reference") and hparams["number_of_epochs"] == 20
    rate, optimiser = hparams["lr_schedule"], hparams["opt_class"]([torch.nn.Parameter(torch.zeros(1))])
    group = optimiser.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4) and rate(0) == group["lr"] and rate(20) == 0
    if "_r" in name:
        assert sum(embedder.config["layers"]) == {"50": 24, "100": 49}[name.split("_r")[1].removesuffix(".yaml")]
        assert group["lr"] == 0.1 and 32 <= loss.scale <= 35 and embedder.image_size == 112
    assert embedder.embedding_dim == hparams["embedding_dim"]


def test_a_training_learns_and_leaves_a_model(model):
    log = log_of(model.parent)
    losses = [row["train_loss"] for row in log if row["kind"] == "valid"]
    assert len(losses) == 4 and losses[-1] < 0.7 * losses[0]
    assert all(0 <= row["eer"] <= 1 and 0 <= row["fnr_at_fpr_1e-2"] <= 1 for row in log if row["kind"] == "valid")
    assert len(json.loads((model.parent / "labels.json").read_text())) == 6
    assert FaceEmbedder.load(model).config["image_size"] == 32


@pytest.mark.parametrize(
    "overrides",
    [{"head": "sparse"}, pytest.param({"loss": "!new:alpha_sv.losses.AAMSoftmax"}, marks=pytest.mark.slow)],
    ids=["sparse Q-Margin", "ArcFace"],
)
def test_a_killed_training_takes_the_same_steps(overrides, folder, tmp_path):
    often = {"ckpt_interval_steps": 3, "ckpt_interval_minutes": 0}
    run(arguments(folder, tmp_path / "whole", **often, **overrides))
    run_killed(arguments(folder, tmp_path / "killed", **often, **overrides), step=8)
    run(arguments(folder, tmp_path / "killed", **often, **overrides))
    assert column(tmp_path / "killed", "loss") == column(tmp_path / "whole", "loss")
    ends = [stored(checkpoints(tmp_path / name)[-1], "embedder") for name in ("whole", "killed")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_on_other_faces_is_not_continued(folder, tmp_path):
    run(arguments(folder, tmp_path / "run"))
    other = make_folder(tmp_path / "other", people=7)
    with pytest.raises(ValueError, match="run on other data"):
        run(arguments(other, tmp_path / "run", number_of_epochs=3))


def test_records_train_from_the_means_of_an_earlier_run(model, tmp_path):
    path = write_records(tmp_path / "train.rec", insightface_records(people=4, images=8))
    (tmp_path / "dev.bin").write_bytes(pickle.dumps(([encoded(face(p, p)) for p in (0, 0, 1, 2)], [True, False])))
    warm = {"warm_start": model.parent, "warm_start_head": "means", "number_of_epochs": 1, "num_valid_identities": 0}
    run(arguments(path, tmp_path / "run", valid_trials=tmp_path / "dev.bin", lr=1e-6, **warm))
    weights = [torch.nn.functional.normalize(stored(checkpoints(tmp_path / "run")[-1], "head")["weight"])]
    embedder = FaceEmbedder.load(model)
    images = np.stack([face(p, n).transpose(2, 0, 1) for p in range(4) for n in range(8)])
    units = torch.nn.functional.normalize(torch.from_numpy(embedder.embed_batch(images)))
    means = torch.nn.functional.normalize(units.reshape(4, 8, -1).mean(1))
    assert (weights[0] * means).sum(1).min() > 0.999


def test_pairs_to_scores_to_a_comparison(model, folder, tmp_path, capsys):
    names = [(p, n) for p in range(8) for n in range(4)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    lines = [f"{int(a[0] == b[0])} p{a[0]}/{a[1]}.png p{b[0]}/{b[1]}.png\n" for a, b in pairs]
    (tmp_path / "pairs.txt").write_text("".join(lines))
    base = ["face", "pairs", str(model), str(tmp_path / "pairs.txt"), "--images", str(folder), "-o"]
    assert main([*base, str(tmp_path / "flip.txt"), "--batch-size", "5"]) == 0
    assert main([*base, str(tmp_path / "plain.txt"), "--no-flip"]) == 0
    embedder = FaceEmbedder.load(model)
    image = {name: face(*name).transpose(2, 0, 1) for name in names}
    both = {n: embedder.embed_batch(np.ascontiguousarray([i, i[..., ::-1]])).sum(0) for n, i in image.items()}
    expected = [both[a] @ both[b] / np.linalg.norm(both[a]) / np.linalg.norm(both[b]) for a, b in pairs]
    np.testing.assert_allclose(read_scores(tmp_path / "flip.txt").scores, expected, atol=1e-5)
    both_files = [str(tmp_path / "flip.txt"), str(tmp_path / "plain.txt")]
    capsys.readouterr()
    assert main(["evaluate", *both_files, "--replicates", "0", "-o", str(tmp_path / "metrics.json")]) == 0
    assert main(["report", str(tmp_path / "metrics.json"), "-o", str(tmp_path / "report.html")]) == 0
    assert main(["face", "tar", *both_files]) == 0
    said = capsys.readouterr().out
    assert "| flip |" in said and "8 speakers" in said, "eight people: a table, and why it has no intervals"
    assert main(["face", "pairs", str(model), str(tmp_path / "pairs.txt"), "-o", "x"]) == 2


def test_a_bin_gives_the_accuracy_over_folds(model, tmp_path, capsys):
    images, labels = [], []
    for i in range(40):
        images += [encoded(face(i % 8, 1)), encoded(face(i % 8 if i % 2 else (i + 1) % 8, 2))]
        labels.append(bool(i % 2))
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((images, labels)))
    assert main(["face", "pairs", str(model), str(tmp_path / "lfw.bin"), "-o", str(tmp_path / "s.txt")]) == 0
    mean, deviation = fold_accuracy(read_scores(tmp_path / "s.txt"))
    assert f"accuracy over 10 folds {100 * mean:.2f} % ± {100 * deviation:.2f}" in capsys.readouterr().out
    assert mean > 0.8
    assert main(["evaluate", str(tmp_path / "s.txt"), "--replicates", "40"]) == 0


def test_the_protocol_of_ijb_from_images_to_the_table(model, tmp_path, capsys):
    tree = make_ijb(tmp_path / "IJBX", people=12, size=112)
    command = ["face", "templates", str(model), str(tree), "-o", str(tmp_path / "out"), "--replicates", "50"]
    assert main([*command, "--scores", str(tmp_path / "scores.txt")]) == 0
    table = json.loads((tmp_path / "out" / "tar.json").read_text())
    assert table["pairs"] == {"target": 36, "nontarget": 594} and table["persons"] == 12
    assert "flip: sum" in (tmp_path / "out" / "tar.md").read_text() and table["rows"][5]["interval"]
    assert main(["evaluate", str(tmp_path / "scores.txt"), "--replicates", "50"]) == 0  # the names say who is who
    assert main(["compare", *[str(tmp_path / "scores.txt")], f"b={tmp_path / 'scores.txt'}", "--replicates", "50"]) == 0
    before = os.stat(tmp_path / "out" / "embeddings" / "embeddings.npy").st_mtime_ns
    assert main([*command, "--no-flip", "--no-norm", "--no-detector-score", "--no-media-average"]) == 0
    assert os.stat(tmp_path / "out" / "embeddings" / "embeddings.npy").st_mtime_ns == before, "embedded once"
    other = json.loads((tmp_path / "out" / "tar.json").read_text())
    assert other["protocol"] != table["protocol"]
    (tree / "loose_crop" / "5.jpg").write_bytes(b"damaged")
    assert main(command) == 2
    assert "5.jpg" in capsys.readouterr().err


def test_scores_do_not_replace_a_file_of_the_protocol(model, tmp_path, capsys):
    tree = make_ijb(tmp_path / "IJBX", people=2)
    pairs = tree / "meta" / "ijbx_template_pair_label.txt"
    before = pairs.read_bytes()
    command = ["face", "templates", str(model), str(tree), "-o", str(tmp_path / "out"), "--scores", str(pairs)]
    assert main(command) == 2
    assert "which is read; give --scores another name" in capsys.readouterr().err
    assert pairs.read_bytes() == before and not (tmp_path / "out").exists()


def test_a_turned_face_is_embedded_like_an_upright_one(model, tmp_path):
    """Alignment undoes the turn of the crop, but for the blur of being turned twice."""
    from alpha_sv.face.ijb import read_protocol
    from alpha_sv.face.images import read_image

    protocol = read_protocol(make_ijb(tmp_path / "IJBX", people=2, size=112))
    cut = align(read_image(protocol.images[0]), protocol.points[0], 112)
    upright = face(0, 1, 112)
    assert np.abs(cut[8:-8, 8:-8].astype(float) - upright[8:-8, 8:-8]).mean() < 12  # the noise of the pattern
    assert np.abs(cut[8:-8, 8:-8].astype(float) - face(1, 1, 112)[8:-8, 8:-8]).mean() > 30


def test_a_published_checkpoint_becomes_a_model(tmp_path, capsys):
    network = IResNet([1, 1, 1, 1], [4, 4, 4, 4], 8, 32)
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    assert main(["face", "convert", str(tmp_path / "backbone.pth"), "-o", str(tmp_path / "model")]) == 0
    assert FaceEmbedder.load(tmp_path / "model").config["layers"] == [1, 1, 1, 1]
