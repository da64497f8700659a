"""Augmentation of a training chunk: reverberation by a room impulse response, then additive noise."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from alpha_sv.data.audio.read import AUDIO_EXTENSIONS, AudioError, read_audio, read_header


class Augmenter:
    """Reverberation, then additive noise, each with its own probability.

    Parameters
    ----------
    noise_folder, rir_folder : path-like, optional
        Any folder of audio files at the sample rate, searched recursively; None switches that step off.
    noise_probability, rir_probability : float
        In [0, 1], per chunk.
    snr_low, snr_high : float
        Signal-to-noise ratio in dB, uniform.

    Raises
    ------
    ValueError
        For a folder that does not exist or holds no audio, or a probability out of range.
    """

    def __init__(
        self,
        noise_folder=None,
        rir_folder=None,
        noise_probability: float = 0.6,
        rir_probability: float = 0.3,
        snr_low: float = 0.0,
        snr_high: float = 15.0,
        sample_rate: int = 16000,
    ):
        for name, value in (("noise_probability", noise_probability), ("rir_probability", rir_probability)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not snr_low <= snr_high:
            raise ValueError(f"need snr_low <= snr_high, got {snr_low} and {snr_high} dB")
        self.noises = [] if noise_folder is None else _audio_files(noise_folder, sample_rate)
        self.rirs = [] if rir_folder is None else _audio_files(rir_folder, sample_rate)
        self.noise_probability, self.rir_probability = noise_probability, rir_probability
        self.snr_low, self.snr_high, self.sample_rate = snr_low, snr_high, sample_rate

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.rirs and rng.random() < self.rir_probability:
            rir = _read_rir(self.rirs[rng.integers(len(self.rirs))][0], self.sample_rate)
            waveform = reverberate(waveform, rir)
        if self.noises and rng.random() < self.noise_probability:
            path, length = self.noises[rng.integers(len(self.noises))]
            start = int(rng.integers(max(length - len(waveform), 0) + 1))
            noise = np.resize(read_audio(path, start, min(length, len(waveform)), self.sample_rate), len(waveform))
            waveform = add_noise(waveform, noise, rng.uniform(self.snr_low, self.snr_high))
        return waveform


@functools.lru_cache(maxsize=256)
def _read_rir(path: Path, sample_rate: int) -> np.ndarray:
    return read_audio(path, sample_rate=sample_rate)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """waveform + g·noise with g such that the ratio of their powers is `snr` dB; silence on either side adds nothing.

    Example
    -------
    >>> add_noise(np.ones(4), np.array([2.0, -2.0, 2.0, -2.0]), snr=0.0)
    array([2., 0., 2., 0.])
    """
    signal_power, noise_power = np.mean(np.square(waveform)), np.mean(np.square(noise))
    if signal_power == 0 or noise_power == 0:
        return waveform
    return waveform + np.sqrt(signal_power / noise_power / 10 ** (snr / 10)) * noise


def reverberate(waveform: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Convolve with a room impulse response, aligned at its direct sound and with the power unchanged."""
    direct = int(np.argmax(np.abs(rir)))
    wet = fftconvolve(waveform, rir)[direct : direct + len(waveform)]
    power = np.mean(np.square(wet))
    return waveform if power == 0 else wet * np.sqrt(np.mean(np.square(waveform)) / power)


def _audio_files(folder, sample_rate: int) -> list[tuple[Path, int]]:
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"augmentation folder {folder} does not exist")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS)
    paths = sorted(path for path in found if not path.name.startswith("."))  # "._x.wav" is no audio
    if not paths:
        raise ValueError(f"augmentation folder {folder} holds no audio ({' '.join(sorted(AUDIO_EXTENSIONS))})")
    files = []
    for path in paths:
        length, rate, _ = read_header(path)
        if rate != sample_rate:
            raise AudioError(f"{path} has {rate} Hz, wanted {sample_rate}: convert the folder, e.g. with ffmpeg -ar")
        files.append((path, length))
    return files
