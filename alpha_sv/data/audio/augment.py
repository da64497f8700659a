"""Augmentation of a training chunk:
reverberation by a room impulse response, then additive noise."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator

import numpy as np
from scipy.signal import fftconvolve

from alpha_sv.data.audio.folder import audio_files
from alpha_sv.data.audio.impulse import named_noise, why_no_impulse_response
from alpha_sv.data.audio.read import AUDIO_EXTENSIONS, AudioError, read_audio, read_blocks, read_header
from alpha_sv.data.audio.recordings import Recording, Recordings
from alpha_sv.data.audio.resample import HIGHEST, LOWEST, resample
from alpha_sv.files import input_key

logger = logging.getLogger(__name__)

_MOST_DRAWS = 1000  # of impulse responses, before it is said that there is none


class Augmenter:
    """Reverberation, then additive noise, each with its own probability.

    Here the headers are read. `alpha_sv.data.corpus.augmentation.audit_augmentation`
    decodes every file, once: a training does so before its first step.

    Parameters
    ----------
    noise_folder, rir_folder : path-like, optional
        Any folder of audio files at the sample rate, searched with all its subfolders, linked ones
        included; None switches that step off. A file of `rir_folder` that cannot be an impulse
        response (see `alpha_sv.data.audio.impulse`) is not used; of several channels the first is.
    noise_probability, rir_probability : float
        In [0, 1], per chunk.
    snr_low, snr_high : float
        Signal-to-noise ratio in dB, uniform.
    sample_rate : int
        Hz.
    resample : bool
        Bring files of another rate to `sample_rate` when they are drawn.
        If False, they are not used.

    Raises
    ------
    ValueError
        For a folder that does not exist or holds no usable audio, or a probability out of range.
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
        resample: bool = False,
    ):
        for name, value in (("noise_probability", noise_probability), ("rir_probability", rir_probability)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not snr_low <= snr_high:
            raise ValueError(f"need snr_low <= snr_high, got {snr_low} and {snr_high} dB")
        self.noise_probability, self.rir_probability = noise_probability, rir_probability
        self.snr_low, self.snr_high, self.sample_rate, self.resample = snr_low, snr_high, sample_rate, resample
        self.noise_folder, self.rir_folder = (
            None if folder is None else os.path.expanduser(folder) for folder in (noise_folder, rir_folder)
        )
        self.noises = Recordings() if noise_folder is None else self._usable(self.noise_folder)
        self.rirs = Recordings() if rir_folder is None else self._usable(self.rir_folder, rirs=True)

    def content_hash(self) -> str:
        """Of the names, lengths and rates of the files in use,
        in their order: what a training draws from."""
        kinds = ((self.noise_folder, self.noises), (self.rir_folder, self.rirs))
        listed = ((folder, [files[i] for i in range(len(files))]) for folder, files in kinds if folder is not None)
        return input_key([[(os.path.relpath(r[0], folder), *r[1:]) for r in files] for folder, files in listed])

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if len(self.rirs) and rng.random() < self.rir_probability:
            waveform = reverberate(waveform, self._draw_rir(rng))
        if len(self.noises) and rng.random() < self.noise_probability:
            path, length, rate = self.noises[rng.integers(len(self.noises))]
            wanted = -(-len(waveform) * rate // self.sample_rate)
            start = int(rng.integers(max(length - wanted, 0) + 1))
            noise = resample(read_audio(path, start, min(length, wanted), rate), rate, self.sample_rate)
            waveform = add_noise(waveform, np.resize(noise, len(waveform)), rng.uniform(self.snr_low, self.snr_high))
        return waveform

    def _draw_rir(self, rng: np.random.Generator) -> np.ndarray:
        for _ in range(_MOST_DRAWS):  # more than one only if nobody has audited the folder
            rir = _read_rir(self.rirs[rng.integers(len(self.rirs))], self.sample_rate)
            if rir is not None:
                return rir
        raise AudioError(f"{self.rir_folder}: no impulse response in {_MOST_DRAWS} draws; give a folder of them")

    def _usable(self, folder: str, rirs: bool = False) -> Recordings:
        if not os.path.isdir(folder):
            raise ValueError(f"augmentation folder {folder} does not exist")
        paths, unusable = audio_files(folder), []
        if not paths:
            raise ValueError(f"augmentation folder {folder} holds no audio ({' '.join(sorted(AUDIO_EXTENSIONS))})")
        files = Recordings(self._headers(paths, rirs, unusable))
        if not len(files):
            raise AudioError(f"augmentation folder {folder}: none of its {len(paths)} files is usable: {unusable[0]}")
        if unusable:
            logger.warning("%s: %d of %d files are not used: %s", folder, len(unusable), len(paths), unusable[0])
        logger.info("%s: %d %s files in use", folder, len(files), "impulse response" if rirs else "noise")
        return files

    def _headers(self, paths: list[str], rirs: bool, unusable: list[str]) -> Iterator[Recording]:
        for path in paths:
            try:
                length, rate, _ = read_header(path)
            except AudioError as error:
                unusable.append(str(error))
                continue
            if rate != self.sample_rate and not (self.resample and LOWEST <= rate <= HIGHEST):
                way = f"set resample, or convert the folder, e.g. with ffmpeg -i IN -ar {self.sample_rate} OUT"
                unusable.append(f"{path} has {rate} Hz, wanted {self.sample_rate}: {way}")
            elif rirs and named_noise(path):
                unusable.append(f"{path} is called a noise and stands among impulse responses")
            else:
                yield Recording(path, length, rate)


def read_first_channel(path: str | os.PathLike, sample_rate: int) -> np.ndarray:
    """All samples [T] of the first channel:
    the mean of several microphones would be a comb filter."""
    return np.concatenate([block[:, 0] for block in read_blocks(path, sample_rate=sample_rate)])


@functools.lru_cache(maxsize=256)
def _read_rir(file: Recording, sample_rate: int) -> np.ndarray | None:
    """None for what cannot be an impulse response."""
    signal = read_first_channel(file.path, file.sample_rate)
    if why_no_impulse_response(signal, file.sample_rate):
        return None
    return resample(signal, file.sample_rate, sample_rate)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """waveform + g·noise with g such that the ratio of their powers is `snr` dB;
    silence on either side adds nothing.

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
    """Convolve with a room impulse response,
    aligned at its direct sound and with the power unchanged."""
    direct = int(np.argmax(np.abs(rir)))
    wet = fftconvolve(waveform, rir)[direct : direct + len(waveform)]
    power = np.mean(np.square(wet))
    return waveform if power == 0 else wet * np.sqrt(np.mean(np.square(waveform)) / power)
