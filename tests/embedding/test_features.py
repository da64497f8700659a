"""Two kinds of filter banks, and the rule by which a batch changes nothing."""

import numpy as np
import pytest
import torch
import torchaudio

from alpha_sv.embedding.features import Features, KaldiFbank, fill, length_batches, whole_length
from tests.fixtures.speech_tree import voice

WINDOWS = {"kaldi": ("povey", 1.0), "wespeaker": ("hamming", 32768.0)}


def torchaudio_fbank(waveform, kind, rate, n_mels):
    window, scale = WINDOWS[kind]
    return torchaudio.compliance.kaldi.fbank(
        waveform[None] * scale, num_mel_bins=n_mels, window_type=window, sample_frequency=rate, dither=0.0
    )


@pytest.mark.parametrize("kind", sorted(WINDOWS))
@pytest.mark.parametrize("rate, n_mels, samples", [(16000, 80, 16000), (16000, 40, 1600), (8000, 40, 8123)])
def test_kaldi_features_are_those_of_torchaudio(kind, rate, n_mels, samples):
    waves = torch.from_numpy(np.stack([voice(speaker, 0, 1.0)[:samples] for speaker in range(3)]))
    features = Features(rate, n_mels, mean_norm=False, kind=kind)(waves)
    for row, wave in zip(features, waves, strict=True):
        torch.testing.assert_close(row, torchaudio_fbank(wave, kind, rate, n_mels), rtol=0, atol=1e-4)


def test_the_mean_of_each_band_is_removed():
    features = Features(kind="kaldi")(torch.randn(2, 16000))
    assert features.mean(dim=1).abs().max() < 1e-4


def test_kaldi_features_have_the_gradient_of_their_differences():
    wave = torch.randn(2, 300, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(KaldiFbank(8000, 12).double(), wave)


@pytest.mark.parametrize("kind", ["kaldi", "wespeaker", "speechbrain"])
def test_digital_silence_is_finite_and_so_is_its_gradient(kind):
    wave = torch.zeros(1, 4000, requires_grad=True)
    features = Features(kind=kind)(wave)
    features.sum().backward()
    assert features.isfinite().all() and wave.grad.isfinite().all()


def test_autocast_leaves_kaldi_features_in_float32():
    wave = torch.from_numpy(voice(0, 0))[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Features(kind="kaldi")(wave)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, Features(kind="kaldi")(wave), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["kaldi", "wespeaker", "speechbrain"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_the_zeros_that_fill_an_utterance_change_none_of_its_frames(kind, rate):
    features = Features(rate, 40, kind=kind)
    for samples in (rate // 10 + 1, rate - 1, rate, rate + 79, rate + 80, rate + 159):
        wave = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
        filled = fill(wave, whole_length(samples, rate))
        alone, among = features(torch.from_numpy(wave)[None]), features(torch.from_numpy(filled)[None])
        torch.testing.assert_close(alone, among, rtol=0, atol=1e-4)


def test_whole_length_rule():
    assert [whole_length(n) for n in (1600, 1679, 1680, 16000)] == [1679, 1679, 1759, 16079]
    assert whole_length(800, sample_rate=8000) == 839
    with pytest.raises(ValueError, match=r"too short: 1599 samples at 16000 Hz are 0\.100 s"):
        whole_length(1599)
    assert fill(np.arange(3.0), 5).tolist() == [0, 1, 2, 0, 0]


def test_batches_cover_each_utterance_once_and_mix_no_lengths():
    lengths = np.random.default_rng(0).integers(1, 5, 40)
    batches = length_batches(lengths, 3)
    assert sorted(row for rows in batches for row in rows) == list(range(40))
    assert all(len(rows) <= 3 and len(set(lengths[rows])) == 1 for rows in batches)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="speechbrain, kaldi, wespeaker, waveform, got 'mfcc'"):
        Features(kind="mfcc")


def test_features_of_an_utterance_do_not_depend_on_its_batch():
    features = Features(n_mels=40)
    waves = torch.randn(3, 16000) * torch.tensor([[1e-3], [1.0], [0.1]])
    torch.testing.assert_close(features(waves)[0], features(waves[:1])[0], rtol=1e-4, atol=1e-4)
    assert features(waves).mean(1).abs().max() < 1e-3, "each band's mean over time is removed"


def test_autocast_leaves_features_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Features(n_mels=40)(torch.randn(1, 16000)).dtype == torch.float32
