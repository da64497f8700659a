"""Another sample rate, by torchaudio's windowed sinc
(J. O. Smith, "Digital audio resampling", CCRMA).

torchaudio is installed with SpeechBrain, and its filter is finite: a piece of the output
depends on a piece of the input alone, so a long file is done in slabs and comes out as in one
go. The constants are those of its tutorial for the "kaiser_best" of librosa: flat to 95 % of
the lower Nyquist frequency.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

LOWEST, HIGHEST = 4000, 1_000_000  # Hz: what a rate of speech can be; of less, a sample would become thousands
# rates without a common divisor, such as 44,099 and 16,000 Hz, would take a filter for each
# of 16,000 phases; the ratio of two whole numbers up to this is at most 0.05 % away, less
# than a hundredth of a semitone
_MOST_STEPS = 1000
_WIDTH = 64  # zero crossings on either side
SLAB = 1 << 20  # samples of input at a time
_OPTIONS = {
    "lowpass_filter_width": _WIDTH,
    "rolloff": 0.9475937167399596,
    "resampling_method": "sinc_interp_kaiser",
    "beta": 14.769656459379492,
}


def resampled_length(num_samples: int, rate: int, wanted: int) -> int:
    """How many samples `resample` makes of `num_samples`.

    >>> resampled_length(44101, 44100, 16000)
    16001
    """
    step = _step(rate, wanted)
    return -(-num_samples * step.denominator // step.numerator)


def resample(signal: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """A signal at another sample rate.

    Parameters
    ----------
    signal : ndarray of float32, shape [T]
    rate, wanted : int
        Hz, of the signal and of the result, from 4,000 to 1,000,000.

    Returns
    -------
    ndarray of float32, shape [resampled_length(T, rate, wanted)]
        Sample n is the signal at the time n / wanted.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 100 * np.arange(8000) / 8000).astype(np.float32)
    >>> same = np.sin(2 * np.pi * 100 * np.arange(16000) / 16000)
    >>> bool(np.abs(resample(tone, 8000, 16000) - same)[1000:-1000].max() < 1e-3)
    True
    """
    import torch
    import torchaudio

    step = _step(rate, wanted)
    if step == 1:
        return np.asarray(signal, dtype=np.float32)
    old, new = step.numerator, step.denominator
    # the filter reaches _WIDTH zero crossings,
    # each of so many samples of the slower of the two rates
    reach = old * -(-int(2 * _WIDTH * max(1, old / new)) // old)
    slab = max(1, SLAB // old) * old
    pieces = []
    for first in range(0, len(signal), slab):
        before = min(first, reach)
        piece = torch.from_numpy(np.ascontiguousarray(signal[first - before : first + slab + reach], dtype=np.float32))
        made = torchaudio.functional.resample(piece, old, new, **_OPTIONS)
        start = before // old * new
        count = resampled_length(min(slab, len(signal) - first), rate, wanted)
        pieces.append(made[start : start + count].numpy())
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


def _step(rate: int, wanted: int) -> Fraction:
    """Samples of the input for one of the output."""
    if not (LOWEST <= rate <= HIGHEST and LOWEST <= wanted <= HIGHEST):
        raise ValueError(f"sample rates of speech are {LOWEST} to {HIGHEST} Hz, got {rate} and {wanted}")
    return Fraction(rate, wanted).limit_denominator(_MOST_STEPS)
