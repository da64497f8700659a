"""The quality measures agree with how a signal was made; the rules refuse what they say."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from alpha_sv.verify.quality import RULES, Quality, findings, measure
from tests.fixtures.voices import spoken

RATE = 16000
GOOD = Quality(5.0, 4.0, RATE, -25.0, 0.0, 7500.0, 30.0)


def bursts(speech=0.5, pause=0.5, times=4, snr=30.0, level=-20.0, rate=RATE, seed=0):
    """White bursts in white noise; snr in dB between them, level of the bursts in dB."""
    rng = np.random.default_rng(seed)
    on = np.tile(np.r_[np.zeros(round(pause * rate)), np.ones(round(speech * rate))], times)
    gain = 10 ** (level / 20)
    noise = gain * 10 ** (-snr / 20) * rng.standard_normal(len(on))
    return noise + gain * on * rng.standard_normal(len(on))


@pytest.mark.parametrize("speech", [0.2, 0.5, 1.0])
def test_seconds_of_speech_are_those_of_the_bursts(speech):
    found = measure(bursts(speech), RATE)
    assert found.seconds == pytest.approx(4 * (speech + 0.5))
    assert found.speech_seconds == pytest.approx(4 * speech, abs=4 * 0.03)  # a frame at each end


@pytest.mark.parametrize("noise", [0.0, 1e-4, 5e-3])  # of digital silence, a quiet room, 26 dB below the speech
@pytest.mark.parametrize(("speech", "seconds"), [(5.0, 120), (0.2, 60), (0.05, 60)])
def test_little_speech_in_a_long_silence_is_measured_as_little(noise, speech, seconds):
    rng = np.random.default_rng(0)
    wave = noise * rng.standard_normal(round((seconds + speech) * RATE))
    wave[seconds * RATE :] += 0.1 * rng.standard_normal(round(speech * RATE))
    found = measure(wave, RATE)
    assert found.speech_seconds == pytest.approx(speech, abs=0.03) and found.level == pytest.approx(-20, abs=2)
    assert [f.measure for f in findings(found) if f.refused] == ["speech_seconds"] * (speech < 0.3)


@pytest.mark.parametrize("click", [1e-4, 0.5])
def test_silence_with_one_sample_in_it_is_refused(click):
    assert any(finding.refused for finding in findings(measure(np.r_[np.zeros(80000), click], RATE)))


def test_what_is_steady_counts_as_a_whole():
    rng = np.random.default_rng(0)
    for wave in (0.1 * rng.standard_normal(80000), np.full(80000, 0.3), np.sin(np.arange(80000) * 0.1)):
        assert measure(wave, RATE).speech_seconds == pytest.approx(4.98)


@pytest.mark.parametrize(("level", "refused"), [(-50, False), (-75, False), (-85, True), (-120, True)])
def test_what_is_too_faint_for_the_floor_of_the_front_ends_is_refused(level, refused):
    found = findings(measure(bursts(level=level, snr=40), RATE))
    assert [f.measure for f in found if f.refused] == ["level"] * refused


@pytest.mark.parametrize("snr", [2.0, 5.0, 15.0, 40.0])
@pytest.mark.parametrize("level", [-50.0, -20.0])
def test_snr_is_that_of_the_bursts_where_there_are_pauses(snr, level):
    # the quietest tenth of the pauses is a little below their mean
    assert measure(bursts(snr=snr, level=level), RATE).snr == pytest.approx(snr, abs=2.0)


@pytest.mark.parametrize("level", [-60.0, -33.0, -15.0])
def test_level_is_the_rms_of_the_speech(level):
    assert measure(bursts(level=level), RATE).level == pytest.approx(level, abs=0.5)


@pytest.mark.parametrize("cutoff", [1000, 3400, 6000])
def test_bandwidth_is_where_the_spectrum_ends(cutoff):
    wave = sosfilt(butter(20, cutoff, fs=RATE, output="sos"), bursts(snr=90))
    assert measure(wave, RATE).bandwidth == pytest.approx(cutoff, rel=0.5)
    assert measure(wave, RATE).bandwidth > 0.95 * cutoff
    assert measure(bursts(rate=8000), 8000).bandwidth == pytest.approx(4000, abs=50)


def test_clipping_is_the_share_at_full_scale():
    wave = sosfilt(butter(4, 500, fs=RATE, output="sos"), bursts())  # slow, so that peaks are runs of samples
    clipped = np.clip(wave / np.quantile(np.abs(wave), 0.9), -1, 1)
    assert measure(clipped, RATE).clipped == pytest.approx(0.1, abs=0.02)
    assert measure(0.3 * clipped, RATE).clipped == pytest.approx(0.1, abs=0.02)  # and turned down later
    assert measure(spoken(0, 0), RATE).clipped == 0.0


@pytest.mark.parametrize("offset", [0.3, -0.05])
@pytest.mark.parametrize("level", [-20.0, -85.0])
def test_a_constant_offset_is_no_sound(offset, level):
    samples = bursts(level=level)
    plain, shifted = (dataclasses.asdict(measure(x, RATE)) for x in (samples, samples + offset))
    assert shifted == pytest.approx(plain, abs=1e-3)


def test_only_level_depends_on_the_gain():
    one, half = (measure(gain * bursts().astype(np.float64), RATE) for gain in (1.0, 0.5))
    assert half.level == pytest.approx(one.level - 20 * np.log10(2))
    assert (half.speech_seconds, half.bandwidth) == (one.speech_seconds, one.bandwidth)
    assert half.snr == pytest.approx(one.snr, abs=1e-3)


@pytest.mark.parametrize("samples", [1, 7, 400, 1600])
def test_a_few_samples_are_measured_without_an_error(samples):
    found = measure(np.random.default_rng(0).standard_normal(samples) / 9, RATE)
    assert all(np.isfinite(value) for value in (found.snr, found.level, found.bandwidth))
    assert found.speech_seconds <= found.seconds


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.measure)
def test_each_rule_warns_and_refuses_beyond_its_constants_and_only_there(rule):
    sign = 1 if rule.above else -1
    for limit, refused in ((rule.warn, False), (rule.refuse, True)):
        if limit is not None:
            at, beyond = limit, limit - sign * 1e-3 * max(1, abs(limit))
            found = [f for f in findings(_with(GOOD, rule.measure, beyond)) if f.measure == rule.measure]
            assert [f.refused for f in found] == [refused] and rule.remedy in found[0].message
            found = [f for f in findings(_with(GOOD, rule.measure, at)) if f.measure == rule.measure]
            assert not any(f.refused for f in found) and (refused or not found)
    assert findings(GOOD) == ()


def _with(quality, name, value):
    return Quality(**{**quality.__dict__, name: value})
