"""The world between a synthetic mouth and the file:
mood, room, noise, the device's gain curve, level.

The mood, the room, the kinds of noise and device and, but for 2 dB, the levels are drawn once for a
session, without looking at the speaker. The noise clips and room responses for training
augmentation come from the same models.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from scipy import fft

from alpha_sv.demo.corpus_plan import BABBLE, CHANNEL, CLIP, DRIFT, NOISE, NOISES, RIR, VOICE, generator
from alpha_sv.demo.espeak import speak
from alpha_sv.demo.sentences import NUM_SENTENCES, sentence
from alpha_sv.demo.voices import draw_voice

_OCTAVES = np.array([62.5, 125, 250, 500, 1000, 2000, 4000, 8000])  # Hz, knots of a channel's gain curve
_CHANNELS = {  # dB at those
    "flat": [-3, 0, 0, 0, 0, 0, 0, 0],
    "telephone": [-45, -30, -6, 0, 1, 2, -12, -50],
    "muffled": [2, 3, 3, 1, 0, -7, -16, -26],
    "bright": [-18, -12, -6, -2, 0, 4, 8, 9],
    "boxy": [-15, -6, 3, 8, 3, -4, -6, -12],
}


def render(
    engine: Path,
    seed: int,
    speaker: int,
    session: int,
    utterance: int,
    text: int,
    sample_rate: int,
    clean: bool = False,
) -> np.ndarray:
    """One utterance as it is recorded.

    Parameters
    ----------
    engine : Path
        A folder made by `install_engine`, used by one process at a time.
    text : int
        Number of the sentence.
    sample_rate : int
        Hz.
    clean : bool
        Leave out room, noise, channel and level, but not the mood of the session.

    Returns
    -------
    np.ndarray, float64 [T]
    """
    mood = generator(seed, DRIFT, speaker, session)
    voice = draw_voice(generator(seed, VOICE, speaker))
    voice = dataclasses.replace(
        voice,
        rate=voice.rate * mood.uniform(0.85, 1.15),
        pitch=voice.pitch * np.exp(np.clip(mood.normal(0, 0.05), -0.1, 0.1)),
        pitch_span=voice.pitch_span * np.exp(mood.normal(0, 0.05)),
        tilt=tuple(float(t) for t in np.clip(np.array(voice.tilt) + mood.normal(0, 15, size=4), 40, 255)),
    )
    wave = speak(engine, voice, sentence(text), sample_rate).astype(np.float64)
    if clean:
        return wave
    bank = _babble(engine, seed, sample_rate, 0)
    own = generator(seed, NOISE, speaker, session, utterance)
    return _record(wave, generator(seed, CHANNEL, speaker, session), own, sample_rate, bank)


def noise_clip(engine: Path, seed: int, number: int, kind: str, sample_rate: int) -> np.ndarray:
    """6 s of one of `NOISES`, float64 [T] of RMS 0.1; each babble clip has people of its own."""
    bank = _babble(engine, seed, sample_rate, 1 + number) if kind == "babble" else None
    return 0.1 * _noise(generator(seed, CLIP, number), kind, 6 * sample_rate, sample_rate, bank)


def room_response(seed: int, number: int, sample_rate: int) -> np.ndarray:
    """The impulse response of a room, float64 [T], the direct sound first.

    Example
    -------
    >>> float(room_response(1234, 0, sample_rate=16000)[0])
    1.0
    """
    return _room(generator(seed, RIR, number), sample_rate)


def rms(wave: np.ndarray) -> float:
    """Root mean square.

    >>> rms(np.array([3.0, -3.0]))
    3.0
    """
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _record(
    wave: np.ndarray,
    session: np.random.Generator,
    own: np.random.Generator,
    sample_rate: int,
    bank: np.ndarray,
) -> np.ndarray:
    """Room, noise, gain curve of the device, level.
    `session` draws what all its utterances share."""
    shape = list(_CHANNELS.values())[session.integers(len(_CHANNELS))]
    noise = NOISES[session.integers(len(NOISES))]
    snr = session.uniform(5, 30)
    level = session.uniform(-32, -18)
    curve = shape + np.clip(session.normal(0, 3, size=len(shape)), -7, 7)  # no two devices are alike
    reverberant = session.random() < 0.5
    room = _room(session, sample_rate)

    count = fft.next_fast_len(len(wave) + len(room), real=True)
    if reverberant:
        wave = fft.irfft(fft.rfft(wave, count) * fft.rfft(room, count), count)[: len(wave)]
    snr += own.uniform(-2, 2)
    wave = wave / rms(wave) + 10 ** (-snr / 20) * _noise(own, noise, len(wave), sample_rate, bank)
    gain = np.interp(np.log2(np.maximum(fft.rfftfreq(count, 1 / sample_rate), 20)), np.log2(_OCTAVES), curve)
    wave = fft.irfft(fft.rfft(wave, count) * 10 ** (gain / 20), count)[: len(wave)]
    return wave * 10 ** ((level + own.uniform(-1, 1)) / 20) / rms(wave)


def _room(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """A room: the direct sound, then noise that loses
    60 dB in the reverberation time (Polack's model)."""
    reverberation_time = rng.uniform(0.1, 0.5)  # s
    direct_to_reverberant = rng.uniform(0, 10)  # dB
    time = np.arange(round(reverberation_time * sample_rate)) / sample_rate
    tail = rng.normal(size=len(time)) * np.exp(-np.log(1000) * time / reverberation_time)
    tail[: round(0.002 * sample_rate)] = 0
    tail *= 10 ** (-direct_to_reverberant / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _noise(rng: np.random.Generator, kind: str, length: int, sample_rate: int, bank: np.ndarray | None) -> np.ndarray:
    """`length` samples of noise of RMS 1.
    Pink is 1/f and brown 1/f^2 in power; babble is cut from `bank`."""
    if kind == "babble":
        start = int(rng.integers(len(bank)))
        wave = np.take(bank, np.arange(start, start + length), mode="wrap")
        return wave / rms(wave)
    count = fft.next_fast_len(length, real=True)
    frequency = np.maximum(fft.rfftfreq(count, 1 / sample_rate), 30)
    slope = {"white": 0, "pink": 0.5, "brown": 1, "hum": 1}[kind]
    wave = fft.irfft(fft.rfft(rng.normal(size=count)) * frequency**-slope, count)[:length]
    wave = wave / rms(wave)
    if kind == "hum":
        mains = rng.choice([50.0, 60.0])
        harmonics = np.arange(1, 13)[:, None]
        phases = rng.uniform(0, 2 * np.pi, size=(12, 1))
        tones = np.sin(2 * np.pi * mains * harmonics * np.arange(length) / sample_rate + phases)
        wave = 0.3 * wave + np.sum(tones * rng.uniform(0.2, 1, size=(12, 1)), axis=0)
    return wave / rms(wave)


@functools.lru_cache(maxsize=2)
def _babble(engine: Path, seed: int, sample_rate: int, number: int) -> np.ndarray:
    """8 s of five people talking at once, none of them a speaker of the corpus."""
    total = np.zeros(8 * sample_rate)
    for person in range(5):
        rng = generator(seed, BABBLE, number, person)
        voice = draw_voice(rng)
        texts = rng.integers(NUM_SENTENCES, size=5).tolist()
        talk = np.concatenate([speak(engine, voice, sentence(text), sample_rate) for text in texts])
        total += np.resize(talk / rms(talk), len(total))
    return total / rms(total)
