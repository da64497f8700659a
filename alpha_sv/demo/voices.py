"""Synthetic speakers: voices drawn at random for espeak-ng.

A speaker is a `Voice`: about forty numbers that espeak-ng reads from a *voice variant* file
(frequency, height and width of each formant, breath, voicing, roughness, spectral tilt, consonants,
pitch, timing), plus two it has no knob for: the accent, which is the espeak language, and the
length of the vocal tract, which moves all formants together and is done by resampling. How much
each one matters was measured on one sentence, as the mean change of the long-term spectrum: tilt up
to 3.8 dB, voicing 2.3, consonants 1.9, breath 1.8, any of formants 1 to 5 by 15-20 % 0.5 to 1.8,
roughness 0.7. Formants 0 and 6 to 8 change less than 0.1 dB, so they are left alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)


@dataclass(frozen=True, slots=True)
class Voice:
    """What makes a synthetic speaker. Percentages are relative to espeak-ng's default voice."""

    accent: str
    tract: float  # factor on every resonance: 1.1 is a vocal tract 9 % shorter than the default
    pitch: float  # Hz, the bottom of the intonation range
    pitch_span: float  # factor: top of the range / bottom
    rate: float  # words per minute
    formants: tuple[tuple[float, float, float], ...]  # formants 1 to 5: frequency, height, width, %
    tilt: tuple[float, ...]  # spectral gain 0 .. 255 at 300, 1000, 2200 and 4000 Hz
    breath: tuple[float, ...]  # noise let through formants 0 to 5
    voicing: float  # strength of the voiced source, %
    roughness: float  # 0 .. 7: alternate glottal periods differ
    flutter: float  # slow random pitch movement
    consonants: tuple[float, float]  # level of unvoiced and voiced consonants, %
    stress_length: tuple[float, float]  # duration of unstressed and stressed vowels (default 170 and 220)


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random speaker. Pitch and tract are correlated, as in people, and overlap between speakers.

    Example
    -------
    >>> voice = draw_voice(np.random.default_rng(0))
    >>> 0.85 < voice.tract < 1.2, 70 < voice.pitch < 260
    (True, True)
    """
    size = float(np.clip(rng.normal(), -2, 2))  # > 0: a shorter tract and, usually, a higher voice
    tract = 1.02 * math.exp(0.055 * size)
    pitch = 125.0 * math.exp(0.14 * size + 0.16 * float(np.clip(rng.normal(), -2, 2)))
    spread = np.array([0.06, 0.06, 0.055, 0.05, 0.05])  # formants 1 to 5, on top of the tract
    frequency = 100 * np.exp(spread * np.clip(rng.normal(size=5), -2, 2))
    height = 100 * np.exp(0.28 * rng.normal(size=5))
    width = 100 * np.exp(0.25 * rng.normal(size=5))
    formants = np.stack([frequency, np.clip(height, 45, 170), np.clip(width, 60, 180)], axis=1)
    breathiness = float(rng.choice([0.0, rng.uniform(1, 14)], p=[0.4, 0.6]))
    return Voice(
        accent=_ACCENTS[int(rng.integers(len(_ACCENTS)))],
        tract=tract,
        pitch=pitch,
        pitch_span=float(rng.uniform(1.2, 1.7)),
        rate=float(rng.uniform(175, 205)),
        formants=tuple(tuple(float(v) for v in row) for row in formants),
        tilt=tuple(float(v) for v in rng.uniform([150, 90, 70, 60], [255, 200, 190, 180])),
        breath=tuple(float(v) for v in breathiness * rng.uniform(0.3, 1.5, size=6)),
        voicing=float(rng.uniform(60, 120)),
        roughness=float(rng.integers(0, 5)),
        flutter=float(rng.uniform(0, 6)),
        consonants=(float(rng.uniform(60, 150)), float(rng.uniform(60, 130))),
        stress_length=(float(rng.uniform(140, 190)), float(rng.uniform(200, 260))),
    )


def variant_file(voice: Voice) -> str:
    """The text of an espeak-ng voice variant (`voices/!v/...`) for `voice`, its tract apart.

    Reference: espeak-ng, docs/voices.md.

    Example
    -------
    >>> print(variant_file(draw_voice(np.random.default_rng(0))).splitlines()[0])
    language variant
    """
    # Resampling by `tract` multiplies the pitch by it too; divide beforehand.
    low = voice.pitch / voice.tract
    short, long = (round(value) for value in voice.stress_length)
    tilt = zip((300, 1000, 2200, 4000), voice.tilt, strict=True)
    lines = [
        "language variant",
        "name demo",
        f"pitch {low:.0f} {low * voice.pitch_span:.0f}",
        *(f"formant {n} {f:.0f} {h:.0f} {w:.0f}" for n, (f, h, w) in enumerate(voice.formants, start=1)),
        "tone " + " ".join(f"{hz} {gain:.0f}" for hz, gain in tilt),
        "breath " + " ".join(f"{value:.0f}" for value in voice.breath),
        "breathw 150 150 200 200 400 400",
        f"voicing {voice.voicing:.0f}",
        f"roughness {voice.roughness:.0f}",
        f"flutter {voice.flutter:.0f}",
        f"consonants {voice.consonants[0]:.0f} {voice.consonants[1]:.0f}",
        f"stressLength {short} {short - 20} {long} {long} 0 0 {long + 20} {long + 40}",
    ]
    return "\n".join(lines) + "\n"
