"""Whatever a caller holds a recording in → float32 samples
[T] at the model's rate, or an error that says which input.

Rules. A path is read at its own rate; several channels become one by their mean. An array or
tensor is [T], or [1, T] or [T, 1]; with two axes longer than that nobody can tell channels
from utterances, so it is refused. Floating samples lie in [−1, 1]; int16, int32 and uint8 are
PCM and are divided by their full scale. Another rate is resampled. What nowhere reaches
-80 dB of full scale is silent, as in the audit of a corpus, judged as one channel: two that
cancel out are silent, too.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from alpha_sv.data.audio import SILENCE_PEAK, AudioError, read_audio, read_header, uncounted_in

logger = logging.getLogger(__name__)

_LOUDEST = 8.0  # an overdriven float recording may pass 1, one of 16-bit numbers passes this
_PCM = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 2**7)}  # zero and full scale
_FINEST = 1000  # a ratio of rates is p / q up to this: 44,101 Hz is taken for 44,100, which no network hears


@dataclass(frozen=True)
class Recording:
    """One input: `name` for messages, the number of samples
    it will have at the model's rate, and how to get them."""

    name: str
    num_samples: int
    sample_rate: int
    path: str | None
    array: np.ndarray | None

    def samples(self, sample_rate: int) -> np.ndarray:
        """float32 [T] at `sample_rate`;
        ValueError if they cannot be read, or are silent or not finite."""
        if self.path is not None:
            samples = read_audio(self.path, sample_rate=self.sample_rate)  # its errors name the file
        else:
            samples = self.array
        if (peak := float(np.ptp(samples)) / 2) < SILENCE_PEAK:
            what = f"its peak is {peak:.1e} of full scale, {SILENCE_PEAK:g} is needed" if peak else None
            what = what or f"all {len(samples)} samples are equal"
            raise AudioError(f"{self.name} is silent: {what}; leave it out", "silent")
        return resample(samples, self.sample_rate, sample_rate)


def recordings(inputs: object, sample_rate: int | None, model_rate: int) -> list[Recording]:
    """Each input as a `Recording`.

    Parameters
    ----------
    inputs : path, array, tensor, or an iterable of these
        See the module. A `Recording` is let through.
    sample_rate : int, optional
        Hz, of the arrays; by default `model_rate`.

    Raises
    ------
    ValueError
        An input is of another kind, empty,
        not finite or not to be understood; the message says which.
    """
    rate = model_rate if sample_rate is None else _checked_rate(sample_rate)
    if _is_one(inputs):
        return [_recording(inputs, "the input", rate, model_rate)]
    if isinstance(inputs, (bytes, dict, set)) or not isinstance(inputs, Iterable):
        raise ValueError(f"the input is a {_kind(inputs)}; give a path, an array [T], a tensor, or a list of those")
    return [_recording(item, f"input {i}", rate, model_rate) for i, item in enumerate(inputs)]


def warn_uncounted(name: str, num_samples: int, rate: int, more: str) -> None:
    """Log that a recording goes on behind the samples
    that its header counts, if `more` lies there."""
    if more:
        logger.warning(
            "%s: its header counts %d samples (%.2f s), and %s lie behind them, not used; write the file again",
            name,
            num_samples,
            num_samples / rate,
            more,
        )


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """float32 [T] at `rate` Hz → [ceil(T wanted / rate)],
    by windowed sinc interpolation (torchaudio's).

    Example
    -------
    >>> resample(np.zeros(441, np.float32), 44100, 16000).shape
    (160,)
    """
    if rate == wanted:
        return samples
    from torchaudio.functional import resample as interpolate

    ratio = _ratio(rate, wanted)
    waveform = torch.from_numpy(np.ascontiguousarray(samples))
    return interpolate(waveform, ratio.denominator, ratio.numerator).numpy()


@functools.lru_cache
def _ratio(rate: int, wanted: int) -> Fraction:
    exact = Fraction(wanted, rate)
    if max(exact.numerator, exact.denominator) <= _FINEST:
        return exact
    return exact.limit_denominator(_FINEST) if exact <= 1 else 1 / (1 / exact).limit_denominator(_FINEST)


def _is_one(item: object) -> bool:
    return isinstance(item, (Recording, str, os.PathLike, np.ndarray, np.generic, torch.Tensor))


def _kind(item: object) -> str:
    return "None" if item is None else type(item).__name__


def _recording(item: object, name: str, rate: int, model_rate: int) -> Recording:
    if isinstance(item, Recording):
        return item
    if isinstance(item, (str, os.PathLike)):
        path = os.fspath(item)
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError(f"{name} is {path!r}, which cannot be a path")
        if Path(path).is_dir():
            raise AudioError(f"{name}, {path}, is a folder; give the files in it, or use `alpha-sv embed {path}`")
        try:
            frames, rate, _ = read_header(path)
            warn_uncounted(path, frames, rate, uncounted_in(path))
        except OSError as error:
            raise AudioError(f"{name}, {path}, cannot be read: {error.strerror or error}") from error
        array = None
        name = f"{name} ({path})"
    else:
        path, array = None, _samples(item, name)
        frames = len(array)
    ratio = _ratio(rate, model_rate)
    return Recording(name, math.ceil(frames * ratio), rate, path, array)


def _samples(item: object, name: str) -> np.ndarray:
    """float32 [T] of an array or tensor."""
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).resolve_conj().numpy()
    if not isinstance(item, np.ndarray) or item.ndim == 0:
        hint = "; give an array of samples" if isinstance(item, (list, tuple, int, float, np.generic)) else ""
        raise ValueError(f"{name} is a {_kind(item)}, not a path, an array or a tensor{hint}")
    if item.ndim == 2 and 1 in item.shape:
        item = item.reshape(-1)
    if item.ndim != 1:
        raise ValueError(
            f"{name} has shape {list(item.shape)}, which may be channels or utterances; give [T], the mean over the "
            "channels for one recording, or list(x) for several"
        )
    if not item.size:
        raise ValueError(f"{name} is empty: it has no samples")
    if str(item.dtype) in _PCM:
        zero, full = _PCM[str(item.dtype)]
        samples = ((item.astype(np.float64) - zero) / full).astype(np.float32)
    elif np.issubdtype(item.dtype, np.floating):
        with np.errstate(over="ignore"):
            samples = item.astype(np.float32)
    else:
        raise ValueError(
            f"{name} is an array of {item.dtype}; give floating samples in [-1, 1], or PCM in int16, int32 or uint8"
        )
    if bad := int(np.count_nonzero(~np.isfinite(samples))):
        first = int(np.argmin(np.isfinite(samples)))
        raise ValueError(f"{name}: sample {first} is NaN or infinite ({bad} of {samples.size}); repair the recording")
    if (peak := float(np.abs(samples).max())) > _LOUDEST:
        raise ValueError(
            f"{name} has samples up to {peak:g}, and floating samples lie in [-1, 1]; divide them by their full scale "
            "(32768 for 16 bits), or give them as int16"
        )
    return np.ascontiguousarray(samples)


def _checked_rate(rate: object) -> int:
    whole = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not whole or not math.isfinite(rate) or rate != int(rate) or not 1000 <= rate <= 10_000_000:
        raise ValueError(f"sample_rate is a whole number of Hz from 1,000 on, such as 16000; got {rate!r}")
    return int(rate)
