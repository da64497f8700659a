"""The network: its published sizes and names, and models that are saved, loaded and converted."""

import json
import pickle

import numpy as np
import pytest
import torch

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.face.embedder import FaceEmbedder, from_insightface
from alpha_sv.face.iresnet import LAYERS, IResNet

SMALL = {"layers": [1, 2, 1, 1], "channels": [4, 4, 6, 8], "embedding_dim": 10}


@pytest.mark.parametrize("depth, millions", [(18, 24.03), (34, 34.14), (50, 43.59), (100, 65.16)])
def test_it_has_the_published_number_of_parameters(depth, millions):
    with torch.device("meta"):
        network = IResNet(LAYERS[depth])
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == millions


def test_names_are_those_of_the_published_checkpoints():
    with torch.device("meta"):
        names = set(IResNet(LAYERS[50]).state_dict())
    assert {"conv1.weight", "bn1.running_var", "prelu.weight", "bn2.bias", "fc.bias", "features.weight"} <= names
    for stage, blocks in enumerate(LAYERS[50], start=1):
        for block in range(blocks):
            parts = ["bn1.weight", "conv1.weight", "bn2.weight", "prelu.weight", "conv2.weight", "bn3.weight"]
            parts += ["downsample.0.weight", "downsample.1.running_mean"] * (block == 0)
            assert {f"layer{stage}.{block}.{part}" for part in parts} <= names
    assert not any(name.startswith("layer1.1.downsample") or "dropout" in name for name in names)


def test_the_batch_changes_nothing_and_a_saved_model_is_the_same(tmp_path):
    torch.manual_seed(1)
    embedder = FaceEmbedder(**SMALL, image_size=48)
    embedder.train()(torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8))  # running statistics of its own
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 48, 48), dtype=np.uint8)
    together = embedder.embed_batch(images)
    np.testing.assert_allclose(np.concatenate([embedder.embed_batch(images[i : i + 1]) for i in range(3)]), together,
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    embedder.save(tmp_path)
    again = FaceEmbedder.load(tmp_path)
    assert again.config == embedder.config and np.array_equal(again.embed_batch(images), together)
    with pytest.raises(ValueError, match="does not describe an embedder"):
        SpeakerEmbedder.load(tmp_path)
    with pytest.raises(ValueError, match=r"takes images \[N, 3, 48, 48\]"):
        embedder.embed_batch(images[..., :40])


def test_mirror_images_are_embedded_beside():
    embedder = FaceEmbedder(**SMALL, image_size=32).eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    both = np.concatenate(list(embedder.embed_twice(iter(images), batch_size=2)))
    swapped = np.concatenate(list(embedder.embed_twice(iter(images[:, :, ::-1]), batch_size=5)))
    assert both.shape == (5, 2, 10)
    np.testing.assert_allclose(both[:, ::-1], swapped, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [32, 112])
def test_a_checkpoint_of_insightface_is_converted(size, tmp_path):
    network = IResNet(**SMALL, image_size=size).eval()
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    embedder = from_insightface(tmp_path / "backbone.pth")
    assert embedder.config == {**SMALL, "image_size": size}
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(embedder(images), network((images.float() - 127.5) / 127.5), rtol=1e-4, atol=1e-4)


class Hostile:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("content", [Hostile(), {"fc.weight": 3}, [1], {}], ids=["code", "numbers", "a list", "none"])
def test_what_is_no_checkpoint_is_refused_and_not_run(content, tmp_path, capsys):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(content, protocol=2))
    torch.save(content, tmp_path / "y.pth")
    for name in ("x.pth", "y.pth"):
        with pytest.raises(ValueError, match="not the state dict of an iresnet"):
            from_insightface(tmp_path / name)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("config", [{"layers": [1, 1, 1]}, {"depth": 51}, {}, {"layers": [9000] * 4},
                                    {"depth": 50, "image_size": 4000}, {"layers": ["os", 1, 1, 1]}])  # fmt: skip
def test_sizes_of_no_face_network_are_refused(config, tmp_path):
    with pytest.raises((ValueError, TypeError)):
        FaceEmbedder(**config)
    (tmp_path / "embedder.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({"format": "alpha_sv.embedder/1", **config}))
    with pytest.raises(ValueError, match=str(tmp_path)):
        FaceEmbedder.load(tmp_path)
