"""Augmentation does what its decibels say, with the files of a folder that can be used."""

import logging

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from alpha_sv.data.audio.augment import Augmenter, add_noise, reverberate
from alpha_sv.data.audio.read import AudioError
from tests.fixtures.wav_tree import decay, write


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_is_added_at_the_asked_ratio(snr):
    rng = np.random.default_rng(0)
    signal, noise = 0.1 * rng.standard_normal(16000), 3 * rng.standard_normal(16000)
    added = add_noise(signal, noise, snr) - signal
    assert 10 * np.log10(np.mean(signal**2) / np.mean(added**2)) == pytest.approx(snr, abs=1e-6)


def test_silence_gets_no_noise_and_no_nan():
    signal = np.ones(100)
    assert np.array_equal(add_noise(signal, np.zeros(100), 0), signal)
    assert np.array_equal(add_noise(np.zeros(100), signal, 0), np.zeros(100))
    assert np.array_equal(reverberate(np.zeros(100), signal), np.zeros(100))


def test_reverberation_keeps_time_power_and_length():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(8000)
    rir = np.zeros(500)
    rir[40] = 0.5  # a pure delay: aligned at its direct sound it changes nothing
    np.testing.assert_allclose(reverberate(signal, rir), signal, atol=1e-9)
    rir[40:] += 0.2 * rng.standard_normal(460) * np.exp(-np.arange(460) / 100)
    wet = reverberate(signal, rir)
    assert len(wet) == 8000 and np.mean(wet**2) == pytest.approx(np.mean(signal**2))
    assert 0.3 < np.corrcoef(wet, signal)[0, 1] < 0.999


def test_augmenter_takes_any_folder_and_says_what_is_wrong(tmp_path):
    deep = tmp_path / "noise" / "a" / "b"
    deep.mkdir(parents=True)
    soundfile.write(deep / "n.flac", 0.1 * np.random.default_rng(0).standard_normal(4000), 16000)
    augment = Augmenter(tmp_path / "noise", noise_probability=1.0, snr_low=10, snr_high=10)
    wave = np.sin(np.arange(8000) / 5)
    noisy = augment(wave, np.random.default_rng(1))
    assert 10 * np.log10(np.mean(wave**2) / np.mean((noisy - wave) ** 2)) == pytest.approx(10, abs=1e-3)
    assert np.array_equal(Augmenter()(wave, np.random.default_rng(1)), wave)
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no audio")):
        with pytest.raises(ValueError, match=message):
            Augmenter(folder)
    with pytest.raises(ValueError, match="noise_probability"):
        Augmenter(noise_probability=2)


def test_files_of_another_rate_are_left_out_with_the_remedy_or_resampled(tmp_path, caplog):
    write(tmp_path / "m.wav", rate=8000)
    with pytest.raises(AudioError, match=r"none of its 1 files is usable: .*m.wav has 8000 Hz, wanted 16000: .*ffmpeg"):
        Augmenter(tmp_path)
    write(tmp_path / "n.wav")
    assert len(Augmenter(tmp_path).noises) == 1 and "1 of 2 files are not used: " in caplog.text
    soundfile.write(tmp_path / "n.wav", np.sin(2 * np.pi * 500 * np.arange(8000) / 8000), 8000)
    (tmp_path / "m.wav").unlink()
    augment = Augmenter(tmp_path, noise_probability=1.0, snr_low=0.0, snr_high=0.0, resample=True)
    wave = np.random.default_rng(0).standard_normal(16000)
    spectrum = np.abs(np.fft.rfft((augment(wave, np.random.default_rng(0)) - wave) * np.hanning(16000)))
    assert np.argmax(spectrum) == 500  # Hz, at 16,000 Hz


def test_linked_folders_are_followed_once_and_the_log_counts(tmp_path, caplog):
    for number in range(3):
        write(tmp_path / f"elsewhere/{number}.wav")
    write(tmp_path / "noise/own.wav")
    (tmp_path / "noise/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "noise/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "noise")
    (tmp_path / "elsewhere/self").symlink_to("self")
    (tmp_path / "noise/._own.wav").write_bytes(b"a macOS resource fork")
    with caplog.at_level(logging.INFO):
        assert len(Augmenter(tmp_path / "noise").noises) == 4
    assert f"{tmp_path}/noise: 4 noise files in use" in caplog.text


def test_what_is_no_impulse_response_never_reverberates(tmp_path):
    """The whole of RIRS_NOISES as rir_folder: noises lie beside the responses."""
    rng = np.random.default_rng(0)
    write(tmp_path / "simulated_rirs/smallroom/Room001/Room001-00001.wav", signal=decay(0.3))
    write(tmp_path / "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1.wav", signal=decay(0.2))
    write(tmp_path / "pointsource_noises/free-sound-0000.wav", signal=decay(0.2))
    write(tmp_path / "somewhere/else.wav", signal=rng.uniform(-0.5, 0.5, 16000))
    augment = Augmenter(rir_folder=tmp_path, rir_probability=1.0)
    wave = rng.standard_normal(8000)
    wet = {tuple(augment(wave, np.random.default_rng(seed))) for seed in range(20)}
    [only] = wet
    rir = soundfile.read(tmp_path / "simulated_rirs/smallroom/Room001/Room001-00001.wav", dtype="float32")[0]
    np.testing.assert_allclose(only, reverberate(wave, rir))
    (tmp_path / "simulated_rirs/smallroom/Room001/Room001-00001.wav").unlink()
    with pytest.raises(AudioError, match="no impulse response"):
        Augmenter(rir_folder=tmp_path, rir_probability=1.0)(wave, rng)


def test_one_channel_of_an_impulse_response_is_used(tmp_path):
    """The mean of eight microphones would be a comb of eight taps."""
    channels = np.zeros((4000, 8))
    for microphone in range(8):
        channels[10 * microphone : 10 * microphone + 2000, microphone] = decay(0.2)[:2000]
    write(tmp_path / "array.wav", signal=channels, subtype="FLOAT")
    wave = np.random.default_rng(0).standard_normal(4000)
    wet = Augmenter(rir_folder=tmp_path, rir_probability=1.0)(wave, np.random.default_rng(0))
    np.testing.assert_allclose(wet, reverberate(wave, channels[:, 0].astype(np.float32)))
    assert np.corrcoef(wet, fftconvolve(wave, channels[:, 0])[:4000])[0, 1] > 0.999


def test_folders_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "noise/a.wav")
    assert len(Augmenter("~/noise").noises) == 1
