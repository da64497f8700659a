"""Another rate: tones keep their frequency and level,
what the new rate cannot hold is gone, slabs do not show."""

import numpy as np
import pytest

from alpha_sv.data.audio import resample as module
from alpha_sv.data.audio.resample import resample, resampled_length
from tests.fixtures.replaced import set_sizes


def tone(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 44099])
def test_a_tone_stays_a_tone(rate):
    made = resample(tone(1000, rate), rate, 16000)
    assert made.dtype == np.float32 and len(made) == resampled_length(rate, rate, 16000)
    middle = slice(4000, 12000)
    drift = 0.0 if rate != 44099 else 0.01  # the ratio is that of two numbers up to 1000
    np.testing.assert_allclose(made[middle], tone(1000, 16000)[middle], atol=1e-3 + drift)


def test_what_the_new_rate_cannot_hold_does_not_fold_back():
    assert np.abs(resample(tone(9000, 44100), 44100, 16000)[500:-500]).max() < 1e-4
    spectrum = np.abs(np.fft.rfft(resample(tone(3000, 8000), 8000, 16000)[1000:-1000] * np.hanning(14000)))
    assert np.argmax(spectrum) == 3000 * 14000 // 16000
    assert spectrum[4200 * 14000 // 16000 :].max() < 1e-3 * spectrum.max()


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_slabs_do_not_show(monkeypatch, rate):
    signal = np.random.default_rng(0).standard_normal(30011).astype(np.float32)
    whole = resample(signal, rate, 16000)
    set_sizes(monkeypatch, module, SLAB=4000)
    np.testing.assert_allclose(resample(signal, rate, 16000), whole, atol=2e-6)


@pytest.mark.parametrize("length", [0, 1, 7, 1000])
@pytest.mark.parametrize("rates", [(44100, 16000), (16001, 16000), (4001, 16000), (16000, 4000), (999999, 8000)])
def test_any_length_and_rate(length, rates):
    made = resample(np.ones(length, np.float32), *rates)
    assert len(made) == resampled_length(length, *rates) and np.isfinite(made).all()


def test_the_same_rate_changes_nothing():
    signal = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(resample(signal, 16000, 16000), signal)
    for rate in (0, 1, 3999, 2**31 - 1):  # a header may say so
        with pytest.raises(ValueError, match=f"4000 to 1000000 Hz, got {rate}"):
            resample(signal, rate, 16000)
