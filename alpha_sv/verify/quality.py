"""Is a recording good enough to say who speaks? Six measures, and rules that warn or refuse.

The measures need no model: frames of 25 ms every 10 ms,
their energies, and the spectrum of those with speech.

* A frame counts as speech if its energy is within 40 dB of the loud frames (the 95th percentile)
  and 9 dB above the quiet ones (the 10th percentile), or half-way between the two where they are
  less than 18 dB apart. Where they are less than 3 dB apart, either the loudest frame is 18 dB
  above them, so that speech is less than a twentieth, and that frame stands for the loud ones; or
  there is no pause to be seen, and every frame counts.
* SNR: the mean energy of the speech frames, less that of the quietest tenth, over the latter.
  Where there is no pause it is an underestimate, so no rule refuses for it.
* Bandwidth: the highest frequency at which the speech is less than 65 dB below its strongest band.
* Clipped: the share of samples in runs of three or more equal ones at the peak of the recording.

`RULES` are the rules with their constants, chosen by a table of how the error rates of CAM++
change under each condition (`benchmarks/quality.py`, docs/verify.md): warn where the EER is
about twice that of clean recordings or more, refuse where it is above 20 %. Rates below
8 kHz were not measured.

The level is refused for another reason: the front ends add a floor to the energies before the
logarithm, so that what is faint enough has one embedding, whoever speaks. CAM++ on 16 recordings of
LibriSpeech that were turned down: the cosine to the embedding at full level (median and lowest),
and that between two of them (median; 0.05 at full level). Rounding to 16 bits changes little.

    -60 dB   0.94, 0.87   0.06        -85 dB    0.61, 0.24   0.24
    -70 dB   0.87, 0.75   0.12        -90 dB    0.44, 0.18   0.41
    -80 dB   0.73, 0.47   0.19        -100 dB   0.14, 0.05   0.86

At -90 dB a recording is no nearer to itself than to others; -80 dB leaves 10 dB of margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FRAME, STEP = 0.025, 0.010  # seconds
_ABOVE_QUIET, _BELOW_LOUD, _STEADY = 9.0, 40.0, 3.0  # dB
_RANGE = 65.0  # dB from the strongest band to where the bandwidth ends
_TINY = 1e-12  # -120 dB full scale: below the noise of 16 bits


@dataclass(frozen=True)
class Quality:
    """What was measured of one recording.

    Attributes
    ----------
    seconds, speech_seconds : float
        Its length, and how much of it is speech.
    sample_rate : int
        Hz, of the recording itself.
    level : float
        RMS of the speech in dB, full scale being 0.
    clipped : float
        Share of the samples, from 0 to 1.
    bandwidth : float
        Hz.
    snr : float
        dB.
    """

    seconds: float
    speech_seconds: float
    sample_rate: int
    level: float
    clipped: float
    bandwidth: float
    snr: float


@dataclass(frozen=True)
class Rule:
    """`measure` should not lie beyond `warn`, and must not lie beyond `refuse`;
    `above` is where good values are."""

    measure: str
    warn: float | None
    refuse: float | None
    text: str
    remedy: str
    above: bool = True


@dataclass(frozen=True)
class Finding:
    """A broken rule: whether the recording is `refused` for it, and why in one sentence."""

    measure: str
    refused: bool
    message: str


RULES = (
    Rule("speech_seconds", 1.2, 0.3, "{:.2f} s of speech", "record more"),
    Rule("snr", 20.0, None, "speech only {:.0f} dB above the noise", "record in a quieter place"),
    Rule("bandwidth", 5000.0, None, "nothing above {:.0f} Hz", "record at 16 kHz, not over a telephone"),
    Rule("clipped", 0.05, None, "{:.0%} of the samples clipped", "lower the recording level", above=False),
    Rule("level", -65.0, -80.0, "a level of {:.0f} dB", "raise the recording level"),
    Rule("sample_rate", 8000.0, None, "a rate of {:.0f} Hz", "record at 16 kHz"),
)


def measure(samples: np.ndarray, sample_rate: int) -> Quality:
    """Measure one recording.

    Parameters
    ----------
    samples : array [T]
        Floating, full scale 1.
    sample_rate : int
        Hz.

    Example
    -------
    One second of a voice-like buzz in a second and a half of faint noise:

    >>> time = np.arange(16000) / 16000
    >>> buzz = sum(np.sin(2 * np.pi * 120 * k * time) for k in range(1, 60)) / 100
    >>> noise = 1e-4 * np.random.default_rng(0).standard_normal(40000)
    >>> noise[8000:24000] += buzz
    >>> found = measure(noise, 16000)
    >>> abs(found.speech_seconds - 1) < 0.05, found.snr > 40
    (True, True)
    """
    samples = np.asarray(samples, dtype=np.float64)
    length, step = max(2, round(FRAME * sample_rate)), max(1, round(STEP * sample_rate))
    # a constant offset is no sound: it comes from the recorder, and hides how faint the rest is
    centred = samples - samples.mean() if len(samples) else samples
    padded = np.pad(centred, (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::step]
    energies = np.einsum("ft,ft->f", frames, frames) / length + _TINY
    decibels = 10 * np.log10(energies)
    low, loud = np.percentile(decibels, (10, 95))
    if loud - low < _STEADY and (peak := decibels.max()) - low >= 2 * _ABOVE_QUIET:
        loud = peak
    above = max(low + min(_ABOVE_QUIET, (loud - low) / 2), loud - _BELOW_LOUD) if loud - low >= _STEADY else -np.inf
    speech = decibels > above
    quiet = energies <= np.percentile(energies, 10)
    power = energies[speech].mean()
    return Quality(
        seconds=len(samples) / sample_rate,
        speech_seconds=min(len(samples) / sample_rate, float(speech.sum()) * step / sample_rate),
        sample_rate=int(sample_rate),
        level=float(10 * np.log10(power)),
        clipped=_clipped(samples, centred),
        bandwidth=_bandwidth(frames[speech], sample_rate),
        snr=float(10 * np.log10(max(power / energies[quiet].mean() - 1, 0.01))),
    )


def findings(quality: Quality, rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """The rules that a recording breaks.

    >>> good = Quality(5.0, 4.0, 16000, -25.0, 0.0, 7500.0, 30.0)
    >>> findings(good)
    ()
    >>> [
    ...     (f.measure, f.refused)
    ...     for f in findings(Quality(5.0, 0.1, 16000, -25.0, 0.0, 7500.0, 3.0))
    ... ]
    [('speech_seconds', True), ('snr', False)]
    """
    found = []
    for rule in rules:
        value = getattr(quality, rule.measure)
        sign = 1 if rule.above else -1
        refused = rule.refuse is not None and sign * value < sign * rule.refuse
        if refused or (rule.warn is not None and sign * value < sign * rule.warn):
            limit = rule.refuse if refused else rule.warn
            what = (
                f"{rule.text.format(value)} ({'at least' if rule.above else 'at most'} {limit:g}{_unit(rule, refused)})"
            )
            found.append(Finding(rule.measure, refused, f"{what}; {rule.remedy}"))
    return tuple(found)


def _unit(rule: Rule, refused: bool) -> str:
    units = {"speech_seconds": " s", "snr": " dB", "level": " dB", "clipped": " as a share"}
    return f"{units.get(rule.measure, ' Hz')} {'needed' if refused else 'advised'}"


def _clipped(samples: np.ndarray, centred: np.ndarray) -> float:
    peak = np.abs(samples).max(initial=0.0)
    # a codec or a resampler after the clipping moves the samples a little;
    # a plain peak is one sample or two
    top = np.abs(samples) >= peak - 0.001 * np.abs(centred).max(initial=0.0)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], top, [False]]).astype(np.int8))))[::2]
    return float(runs[runs >= 3].sum() / max(1, len(samples))) if peak else 0.0


def _bandwidth(frames: np.ndarray, sample_rate: int) -> float:
    frames = frames[:: max(1, len(frames) // 1000)]  # a thousand frames know the spectrum
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2
    decibels = 10 * np.log10(spectrum.mean(axis=0) + _TINY * 1e-6)
    inside = np.flatnonzero(decibels > decibels.max() - _RANGE)
    return float(inside[-1] * sample_rate / frames.shape[1])
