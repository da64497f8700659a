"""A network in stages is the network; what its frozen front
gives is kept on disk, and never that of something else."""

from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
import torch

from alpha_sv.data.audio.recordings import Recording
from alpha_sv.embedding.embedder import ARCHITECTURES, SpeakerEmbedder
from alpha_sv.embedding.frozen_front import Front, FrontCache, read_frames
from alpha_sv.embedding.stages import stages_of
from tests.fixtures.devices import needs_a_real_gpu
from tests.fixtures.wavlm import SIZES as WAVLM

SIZES = {
    "ecapa_tdnn": {"channels": [8, 8, 8, 8, 24], "attention_channels": 8, "se_channels": 4},
    "resnet": {"channels": [4, 4, 8, 8], "block_sizes": [1, 1, 1, 1]},
    "campplus": {"channels": 2, "init_channels": 8, "block_sizes": [2, 1, 1], "growth": 4},
    "wespeaker_resnet": {"channels": 4, "block_sizes": [1, 1, 1, 1]},
    "wespeaker_ecapa": {"channels": 16, "attention_channels": 4},
}
if find_spec("transformers"):
    SIZES["wavlm_mhfa"] = WAVLM | {"heads": 2, "compression": 4}


def tiny(architecture, seed=0):
    """With statistics that a batch norm does not have at the start."""
    torch.manual_seed(seed)
    embedder = SpeakerEmbedder(architecture, 8, n_mels=24, **SIZES[architecture])
    embedder.train()(torch.randn(4, 8000))
    return embedder.eval()


STAGES = {
    "ecapa_tdnn": "block0 block1 block2 block3 mfa asp fc",
    "resnet": "conv1 layer1 layer2 layer3 layer4 attention fc_embed",
    "campplus": "head tdnn block1 transit1 block2 transit2 block3 transit3 out_nonlinear stats dense",
    "wespeaker_resnet": "conv1 layer1 layer2 layer3 layer4 seg_1",
    "wespeaker_ecapa": "layer1 layer2 layer3 layer4 conv pool linear",
    "wavlm_mhfa": "wavlm pooling",
}
CUTS = [(name, stage) for name in SIZES for stage in STAGES[name].split()]


def test_every_network_that_learns_has_stages():
    assert set(SIZES) | {"wavlm_mhfa"} == set(ARCHITECTURES) - {"mean_fbank"}
    with pytest.raises(ValueError, match="MeanFbank has no stages"):
        stages_of(SpeakerEmbedder("mean_fbank", 24, n_mels=24).backbone)


@pytest.mark.parametrize("architecture", SIZES)
def test_the_stages_have_every_weight_once(architecture):
    backbone = tiny(architecture).backbone
    assert [stage.name for stage in stages_of(backbone)] == STAGES[architecture].split()
    held = [id(p) for stage in stages_of(backbone) for module in stage.modules for p in module.parameters()]
    assert sorted(held) == sorted(id(p) for p in backbone.parameters())


@pytest.mark.parametrize(("architecture", "stage"), CUTS)
def test_front_and_rest_are_the_network_and_time_is_the_last_axis(architecture, stage):
    embedder, waveforms = tiny(architecture), torch.randn(3, 16000)
    front = Front(embedder, stage)
    with torch.no_grad():
        frames = front.frames(waveforms)
        torch.testing.assert_close(front.rest(frames), embedder(waveforms), rtol=1e-5, atol=1e-6)
        longer = front.frames(torch.randn(3, 24000)).shape
    assert frames.shape[:-1] == longer[:-1]
    assert frames.shape[-1] == longer[-1] == 1 or frames.shape[-1] / longer[-1] == pytest.approx(2 / 3, abs=0.05)


def test_an_unknown_stage_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"no stage 'block9'; its stages are head, tdnn, block1, .*, dense"):
        Front(tiny("campplus"), "block9")


@pytest.fixture
def recordings(tmp_path):
    rng = np.random.default_rng(0)
    for number, samples in enumerate((8000, 8000, 12345)):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(samples), 16000)
    return [Recording(str(tmp_path / f"{i}.wav"), n, 16000) for i, n in enumerate((8000, 8000, 12345))]


def embeddings(front, paths):
    with torch.no_grad():
        return np.concatenate([front.rest(torch.from_numpy(read_frames(path))[None]).cpu().numpy() for path in paths])


@pytest.mark.parametrize("architecture", SIZES)
def test_what_is_embedded_from_the_cache_is_what_the_model_embeds_to_half_precision(
    architecture, recordings, tmp_path, device
):
    if architecture == "ecapa_tdnn":
        needs_a_real_gpu(device)  # its attention asks for more than a pretended one can do
    embedder = tiny(architecture)
    stages = stages_of(embedder.backbone)
    front = Front(embedder, stages[min(3, len(stages) - 1)].name)
    found = embeddings(front, FrontCache(tmp_path / "cache", front).fill(recordings))
    expected = embedder.embed([soundfile.read(r.path, dtype="float32")[0] for r in recordings])
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


def test_nothing_is_computed_twice(recordings, tmp_path, monkeypatch):
    front = Front(tiny("campplus"), "block2")
    paths = FrontCache(tmp_path / "cache", front).fill(recordings)
    monkeypatch.setattr(front, "frames", lambda waveforms: pytest.fail("computed again"))
    assert FrontCache(tmp_path / "cache", front).fill(recordings) == paths


def change_a_frozen_weight(embedder):
    with torch.no_grad():
        next(embedder.backbone.head.parameters()).flatten()[0] += 1e-3


def change_a_frozen_statistic(embedder):
    with torch.no_grad():
        embedder.backbone.xvector.tdnn.nonlinear.batchnorm.running_mean += 1e-3


@pytest.mark.parametrize("change", [change_a_frozen_weight, change_a_frozen_statistic])
def test_another_front_has_other_files(change, recordings, tmp_path):
    embedder = tiny("campplus")
    before = FrontCache(tmp_path, Front(embedder, "block2")).fill(recordings)
    change(embedder)
    after = FrontCache(tmp_path, Front(embedder, "block2")).fill(recordings)
    assert not set(before) & set(after)
    assert not set(after) & set(FrontCache(tmp_path, Front(embedder, "transit2")).fill(recordings))


def test_training_the_rest_leaves_the_files_valid(recordings, tmp_path):
    embedder = tiny("campplus")
    before = FrontCache(tmp_path, Front(embedder, "block2")).fill(recordings)
    with torch.no_grad():
        for parameter in embedder.backbone.xvector.dense.parameters():
            parameter.mul_(2)
    assert FrontCache(tmp_path, Front(embedder, "block2")).fill(recordings) == before


def test_a_file_whose_audio_changed_is_computed_anew_though_name_size_and_date_are_the_same(recordings, tmp_path):
    import os

    front, first = Front(tiny("campplus"), "block2"), recordings[0].path
    before = FrontCache(tmp_path / "cache", front).fill(recordings)
    state = os.stat(first)
    soundfile.write(first, 0.1 * np.random.default_rng(9).standard_normal(8000), 16000)
    os.utime(first, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = FrontCache(tmp_path / "cache", front).fill(recordings)
    assert after[0] != before[0] and after[1:] == before[1:]
    expected = front.embedder.embed([soundfile.read(first, dtype="float32")[0]])
    np.testing.assert_allclose(embeddings(front, after[:1]), expected, atol=5e-3 * np.abs(expected).max())


def test_values_beyond_half_precision_are_refused_and_nothing_is_left(recordings, tmp_path):
    embedder = tiny("campplus")
    with torch.no_grad():
        embedder.backbone.xvector.transit1.linear.weight.mul_(1e8)
    with pytest.raises(ValueError, match=r"\.wav: before stage block2 .*float16 cannot hold; train from another"):
        FrontCache(tmp_path / "cache", Front(embedder, "block2")).fill(recordings)
    assert not list((tmp_path / "cache").rglob("*.npy"))


@pytest.mark.parametrize(("start", "count"), [(0, 3), (2, 3), (1, 9), (4, 1)])
def test_frames_go_on_from_the_first_after_the_last(start, count, tmp_path):
    stored = np.arange(10, dtype=np.float16).reshape(2, 5)
    np.save(tmp_path / "x.npy", stored)
    expected = np.concatenate([stored] * 3, axis=1)[:, start : start + count]
    np.testing.assert_array_equal(read_frames(tmp_path / "x.npy", start, count), expected)
