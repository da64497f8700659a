"""Rooms are told from noises and speech by how their energy decays."""

import numpy as np
import pytest

from alpha_sv.data.audio.impulse import LONGEST, why_no_impulse_response
from tests.fixtures.wav_tree import RATE, decay


@pytest.mark.parametrize("reverberation", [0.05, 0.2, 0.6, 1.5, 4.0, 8.0])
@pytest.mark.parametrize("floor", [0.0, 1e-3])
@pytest.mark.parametrize("delay", [0, 800])
def test_exponential_decays_are_rooms(reverberation, floor, delay):
    signal = np.concatenate([np.zeros(delay), decay(reverberation)])
    signal += floor * np.random.default_rng(1).standard_normal(len(signal))
    assert why_no_impulse_response(signal, RATE) == ""
    assert why_no_impulse_response(-1e-6 * signal, RATE) == "", "neither polarity nor level matter"


def test_a_single_sample_and_few_echoes_are_impulse_responses():
    assert why_no_impulse_response(np.ones(1), RATE) == ""
    signal = np.zeros(4000)
    signal[100] = 1.0
    assert why_no_impulse_response(signal, RATE) == ""
    signal[[340, 700]] = 0.3, -0.2
    assert why_no_impulse_response(signal, RATE) == ""


def test_signals_that_are_no_room():
    rng, time = np.random.default_rng(0), np.arange(3 * RATE) / RATE
    speech = rng.standard_normal(len(time)) * np.abs(np.sin(2 * np.pi * 2 * time)) * (time < 2)
    for name, signal, reason in (
        ("noise", rng.standard_normal(len(time)), "does not die away"),
        ("hum", np.sin(2 * np.pi * 50 * time), "does not die away"),
        ("syllables", speech, "no straight line"),
        ("backwards", decay(1.0)[::-1], "does not die away"),
        ("silence", np.zeros(100), "zero"),
        ("long", np.resize(decay(1.0), (LONGEST + 1) * RATE), "s long"),
    ):
        found = why_no_impulse_response(signal, RATE)
        assert reason in found, (name, found)
