"""Models for other toolkits give the same embeddings there, of samples and of whole files."""

import json

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.inference.speaker import SpeakerRecognition

import alpha_sv
from alpha_sv.cli import main
from alpha_sv.embedding.onnx import OnnxEmbedder, OnnxInput
from alpha_sv.exchange.onnx_export import _export, _FromFeatures
from alpha_sv.verify.model import load_model
from tests.fixtures.models import small_embedder
from tests.fixtures.speech_tree import voice

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
WAVES = [voice(0, 0, 0.1), voice(1, 0, 0.7003), voice(2, 0, 1.0), voice(3, 0, 1.0)]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("architecture", ["ecapa_tdnn", "resnet"])
def test_stock_speechbrain_gives_the_same_scores_of_whole_files(architecture, tmp_path):
    embedder = small_embedder(architecture)
    embedder.save(tmp_path / "model")
    command = ["export", str(tmp_path / "model"), "--to", "speechbrain", "-o", str(tmp_path / "sb")]
    assert main(command) == 0
    stock = SpeakerRecognition.from_hparams(source=str(tmp_path / "sb"), savedir=str(tmp_path / "fetched"))
    files = []
    for i, seconds in enumerate((0.731, 1.0, 1.4999)):
        files.append(str(tmp_path / f"{i}.wav"))
        soundfile.write(files[-1], voice(i, 0, seconds), 16000)
    ours = load_model(tmp_path / "model").embed(files)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        score, _ = stock.verify_files(files[i], files[j])
        assert float(score) == pytest.approx(cosine(ours[i], ours[j]), abs=1e-5)
    np.testing.assert_allclose(load_model(tmp_path / "sb").embed(files), ours, rtol=0, atol=1e-5)  # and back


def test_a_network_that_speechbrain_lacks_is_refused_and_nothing_written(tmp_path):
    for embedder in (small_embedder("campplus"), small_embedder("resnet", features="kaldi")):
        with pytest.raises(ValueError, match="export it to onnx"):
            alpha_sv.export(embedder, tmp_path / "sb", to="speechbrain")
    assert not (tmp_path / "sb").exists()


SHORT = {"channels": [16, 16, 48], "kernel_sizes": [5, 3, 1], "dilations": [1, 2, 1], "groups": [1, 1, 1]}
SHORT |= {"res2net_scale": 2, "attention_channels": 8, "se_channels": 8}


@pytest.fixture(scope="module", params=["ecapa_tdnn", "campplus", "resnet"])
def exported(request, tmp_path_factory):
    """An export with all its files, which takes 10 to 20 s."""
    embedder = small_embedder(request.param)
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    return embedder, alpha_sv.export(embedder, folder, to="onnx", int8=True)


@pytest.mark.slow
def test_onnx_gives_the_same_embeddings_at_any_length_and_batch(exported):
    embedder, folder = exported
    expected = embedder.embed(WAVES)
    scale = np.linalg.norm(expected, axis=1).max()
    for name in ("model.onnx", "features.onnx"):
        model = load_model(folder / name)
        np.testing.assert_allclose(model.embed(WAVES), expected, rtol=0, atol=1e-4 * scale, err_msg=name)
        alone = np.concatenate([model.embed(wave) for wave in WAVES])
        np.testing.assert_allclose(model.embed(WAVES, batch_size=4), alone, rtol=0, atol=1e-5 * scale)
    int8 = load_model(folder / "features.int8.onnx").embed(WAVES)
    assert min(cosine(a, b) for a, b in zip(int8, expected, strict=True)) > 0.9
    sizes = [(folder / name).stat().st_size for name in ("features.onnx", "features.int8.onnx")]
    assert sizes[1] < sizes[0]


TINY = {
    "ecapa_tdnn": SHORT,
    "campplus": {"channels": 2, "init_channels": 8, "block_sizes": [1], "growth": 2},
    "resnet": {"channels": [4, 4, 4, 4], "block_sizes": [1, 1, 1, 1]},
}


@pytest.mark.parametrize(
    "architecture", ["ecapa_tdnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("campplus", "resnet"))]
)
def test_a_tiny_network_is_the_same_in_onnx(architecture):
    """Features to embedding only, in a third of the time of the whole export."""
    embedder = small_embedder(architecture, embedding_dim=8, n_mels=24, **TINY[architecture])
    content = _export(_FromFeatures(embedder).eval(), "feats", torch.randn(2, 60, 24), 9, OnnxInput(n_mels=24))
    session = onnxruntime.InferenceSession(content)
    for batch, frames in ((1, 9), (3, 201), (1, 433)):
        feats = torch.randn(batch, frames, 24)
        with torch.no_grad():
            expected = embedder.backbone(feats).reshape(batch, 8).numpy()
        found = session.run(["embs"], {"feats": feats.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.linalg.norm(expected, axis=1).max())


@pytest.mark.slow
def test_onnx_is_of_wespeakers_names_and_says_what_it_takes(exported):
    embedder, folder = exported
    session = onnxruntime.InferenceSession(folder / "features.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["feats"]
    assert [entry.name for entry in session.get_outputs()] == ["embs"]
    features = embedder.features(torch.from_numpy(WAVES[2])[None]).numpy()
    plain = session.run(["embs"], {"feats": features})[0]
    np.testing.assert_allclose(plain, embedder.embed([WAVES[2]]), rtol=0, atol=1e-4 * np.linalg.norm(plain))
    (folder / "features.json").rename(folder / "elsewhere.json")  # the file alone knows it too
    try:
        np.testing.assert_allclose(load_model(folder / "features.onnx").embed(WAVES[2]), plain, rtol=0, atol=1e-4)
    finally:
        (folder / "elsewhere.json").rename(folder / "features.json")


def bare_network(path, bands=40, outputs=1):
    """An ONNX that says nothing of itself: the mean of its features, repeated."""
    import onnx
    from onnx import TensorProto, helper

    shape = ["B", "T", bands]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", bands])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_foreign_network_must_say_what_it_takes(tmp_path, capsys):
    source = bare_network(tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="does not say which features .*alpha-sv import"):
        load_model(source)
    command = ["import", str(source), "-o", str(tmp_path / "m"), "--features", "kaldi", "--n-mels", "40"]
    assert main(command) == 0
    model = load_model(tmp_path / "m")
    assert model.embedding_dim == 40 and "onnx" in repr(model)
    assert main([*command[:3], str(tmp_path / "n"), "--features", "kaldi"]) == 2
    assert "does not take features [B, F, 80]" in capsys.readouterr().err
    assert main([*command[:3], str(tmp_path / "n"), "--input", "waveform"]) == 2
    assert "does not take waveforms" in capsys.readouterr().err and not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("{", "does not say"),
        ("{}", "format"),
        ('{"format": "alpha_sv.onnx/1", "features": "mfcc"}', "'features' must be one of"),
        ('{"format": "alpha_sv.onnx/1", "sample_rate": -1}', "'sample_rate' must be a positive"),
        ('{"format": "alpha_sv.onnx/1", "mean_norm": 1}', "'mean_norm' must be true or false"),
        ('{"format": "alpha_sv.onnx/1", "colour": 1}', "unknown fields colour"),
    ],
)
def test_a_damaged_note_is_named(tmp_path, text, reason):
    bare_network(tmp_path / "x.onnx")
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=f"x.json.*{reason}"):
        load_model(tmp_path / "x.onnx")


def test_a_damaged_network_is_named(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="x.onnx is not a network that onnxruntime can load"):
        OnnxEmbedder(tmp_path / "x.onnx", OnnxInput())
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "y.onnx")


def test_the_hubs_layout_loads_back_and_says_what_is_known(tmp_path):
    embedder = small_embedder("ecapa_tdnn")
    dcf = [{"p_target": 0.01, "value": 0.25}]
    system = {"name": "cosine", "trials": {"target": 1000, "nontarget": 2000}, "eer": {"value": 0.0123}, "min_dcf": dcf}
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"systems": [system | {"intervals": {"eer": [0.01, 0.02]}}]}))
    folder = alpha_sv.export(
        embedder, tmp_path / "hub", to="huggingface", metrics=metrics, trained_on="my corpus", licence="CC-BY-4.0"
    )
    card = (folder / "README.md").read_text()
    assert "| cosine | 1,000 + 2,000 | 1.23 % (1.00 to 2.00) | 0.250 |" in card
    assert "my corpus" in card and 'license: "CC-BY-4.0"' in card
    np.testing.assert_array_equal(alpha_sv.load_model(folder).embed(WAVES), embedder.embed(WAVES))
    bare = alpha_sv.export(embedder, tmp_path / "bare", to="huggingface")
    assert "Not stated by whoever exported" in (bare / "README.md").read_text()
    metrics.write_text("{}")
    with pytest.raises(ValueError, match="not a metrics.json"):
        alpha_sv.export(embedder, tmp_path / "x", to="huggingface", metrics=metrics)


def test_origin_and_licence_go_along_with_a_model(tmp_path):
    small_embedder("ecapa_tdnn").save(tmp_path / "model")
    origin = "small: a network\ntrained on: their corpus\nlicence:    Apache-2.0 (https://www.apache.org)\n"
    (tmp_path / "model" / "SOURCE.txt").write_text(origin)
    for to in ("huggingface", "speechbrain"):
        model = alpha_sv.load_model(tmp_path / "model") if to == "speechbrain" else tmp_path / "model"
        assert (alpha_sv.export(model, tmp_path / to, to=to) / "SOURCE.txt").read_text() == origin
    card = (tmp_path / "huggingface" / "README.md").read_text()
    assert 'license: "Apache-2.0 (https://www.apache.org)"' in card and "their corpus" in card
    own = alpha_sv.export(tmp_path / "model", tmp_path / "own", to="huggingface", licence="CC0-1.0")
    assert 'license: "CC0-1.0"' in (own / "README.md").read_text()


def test_an_export_never_writes_over_anything(tmp_path):
    (tmp_path / "mine").write_text("x")
    for target in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ValueError, match="is there already"):
            alpha_sv.export(small_embedder("resnet"), target, to="speechbrain")
    with pytest.raises(ValueError, match="to must be one of"):
        alpha_sv.export(small_embedder("resnet"), tmp_path / "n", to="keras")
    assert (tmp_path / "mine").read_text() == "x"
