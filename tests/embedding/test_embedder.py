"""A saved model is data: the same embeddings, no code, bounded sizes."""

import json

import numpy as np
import pytest
import torch

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.embedding.onnx import read_spec
from tests.batteries import damaged_files
from tests.fixtures.devices import needs_a_real_gpu
from tests.fixtures.models import SMALL, small_embedder
from tests.fixtures.speech_tree import voice


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_saved_model_gives_the_same_embeddings(architecture, tmp_path, device):
    if architecture == "ecapa_tdnn":
        needs_a_real_gpu(device)
    embedder = small_embedder(architecture)
    embedder.save(tmp_path / "model")
    assert sorted(f.name for f in (tmp_path / "model").iterdir()) == ["config.json", "embedder.safetensors"]
    waves = [voice(0, 0), voice(1, 0, 1.3)]
    np.testing.assert_array_equal(SpeakerEmbedder.load(tmp_path / "model").embed(waves), embedder.embed(waves))


def test_loading_a_model_runs_no_code_and_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="config.json is missing"):
        SpeakerEmbedder.load(tmp_path)
    small_embedder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in [
        ({"architecture": "os.system"}, "architecture must be one of"),
        ({"channels": ["__import__('os').system('true')"]}, "must be a number"),
        ({"device": "cuda"}, "must be a number"),
        ({"format": "other"}, "format"),
        ({"features": "os.system"}, "features must be one of"),
        ({"features": ["kaldi"]}, "features must be one of"),
        ({"architecture": ["ecapa_tdnn"]}, "architecture must be one of"),
        ({"n_layers": 3}, "has no argument"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            SpeakerEmbedder.load(tmp_path)


def test_damaged_files_are_named(tmp_path):
    model = tmp_path / "model"
    small_embedder().save(model)
    config, weights = model / "config.json", model / "embedder.safetensors"
    good = config.read_text(), weights.read_bytes()
    for text in ("{", "[]", '{"format": "alpha_sv.embedder/1"}'):
        config.write_text(text)
        with pytest.raises(ValueError, match="config.json does not describe"):
            SpeakerEmbedder.load(model)
    config.write_text(good[0].replace('"embedding_dim": 24', '"embedding_dim": 23'))
    with pytest.raises(ValueError, match="embedder.safetensors is damaged or does not fit"):
        SpeakerEmbedder.load(model)
    config.write_text(good[0])
    weights.write_bytes(good[1][:1000])
    with pytest.raises(ValueError, match="embedder.safetensors is damaged"):
        SpeakerEmbedder.load(model)
    diverged = small_embedder()
    next(diverged.backbone.parameters()).data.fill_(float("nan"))
    diverged.save(model)
    with pytest.raises(ValueError, match="diverged"):
        SpeakerEmbedder.load(model)


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_an_utterance_is_embedded_whole(architecture, device):
    """What `embed` gives is the network's own answer to the samples as they are, at any length."""
    if architecture == "ecapa_tdnn":
        needs_a_real_gpu(device)
    embedder = small_embedder(architecture).eval()
    waves = [voice(0, 0, seconds) for seconds in (0.1, 0.13, 0.7003, 1.0, 1.0049)]
    with torch.no_grad():
        expected = [embedder(torch.from_numpy(wave)[None])[0].cpu().numpy() for wave in waves]
    np.testing.assert_allclose(embedder.embed(waves), expected, rtol=1e-4, atol=1e-5)


def test_features_and_architecture_are_words_of_a_list_and_old_configurations_stay():
    assert "features" not in small_embedder("resnet").config
    assert small_embedder("campplus").config["features"] == "kaldi"
    assert SpeakerEmbedder("resnet", 8, n_mels=24, features="wespeaker").config["features"] == "wespeaker"
    with pytest.raises(ValueError, match="features must be one of"):
        SpeakerEmbedder("resnet", 8, features="plp")


def test_embed_refuses_silence_nan_and_two_channels():
    for bad in (
        np.ones(1599, np.float32),
        np.zeros(16000, np.float32),
        np.full(16000, np.nan, np.float32),
        np.ones((2, 16000), np.float32),
    ):
        with pytest.raises(ValueError, match="waveform 1"):
            small_embedder().embed([voice(0, 0), bad])


@pytest.mark.parametrize(
    "change",
    [
        {"embedding_dim": 10**12},
        {"embedding_dim": 10**400},
        {"n_mels": 10**9},
        {"n_mels": 0},
        {"sample_rate": 10**15},
        {"sample_rate": -16000},
        {"channels": [16384] * 5},
        {"channels": [8] * 10**5},
        {"channels": [8]},
        {"channels": [-8, 8, 8, 8, 24]},
        {"res2net_scale": 0},
        {"dilations": [float("nan")] * 5},
    ],
    ids=str,
)
def test_sizes_from_elsewhere_cannot_fill_the_memory(change, tmp_path):
    """10^12 dimensions would ask for terabytes,
    and 16,384 channels for 21 GB, before any weight is read."""
    small_embedder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "ecapa_tdnn", **change}))
    with pytest.raises(ValueError, match="config.json"):
        SpeakerEmbedder.load(tmp_path)


def test_weights_far_larger_than_the_network_are_not_read(tmp_path):
    small_embedder().save(tmp_path)
    with open(tmp_path / "embedder.safetensors", "r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match="embedder.safetensors does not fit config.json"):
        SpeakerEmbedder.load(tmp_path)


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_what_is_no_configuration_is_named(tmp_path, content):
    small_embedder().save(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="config.json does not describe an embedder"):
        SpeakerEmbedder.load(tmp_path)
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match="x.json"):
        read_spec(tmp_path / "x.onnx")
