"""The bytes of an uploaded file → a `Recording`, in memory:
nothing is written, and no name of the sender is used."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
import soundfile

from alpha_sv.data.audio import AudioError
from alpha_sv.data.audio.containers import uncounted
from alpha_sv.verify.waveforms import Recording, recordings, warn_uncounted

_CHANNELS, _RATES = 8, (4000, 192_000)
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one request may bring: `megabytes` in all, `files`, `seconds` of each."""

    megabytes: int = 20
    seconds: int = 120
    files: int = 20

    @property
    def bytes(self) -> int:
        return self.megabytes * 1_000_000


def decode(content: bytes, name: str, model_rate: int, limits: Limits) -> Recording:
    """A recording from the bytes of a wav, flac, ogg, opus, mp3 or aiff file.

    Parameters
    ----------
    content : bytes
    name : str
        For messages.
    model_rate : int
        Hz, of the model that will hear it.
    limits : Limits

    Raises
    ------
    AudioError
        It is empty, no audio, cut short, longer than `limits.seconds`,
        or has absurd channels or rates. The length is looked at before anything is decoded.

    Example
    -------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((8000, 2)) + 0.25, 8000, format="WAV")
    >>> decode(file.getvalue(), "recording 1", 16000, Limits()).num_samples
    16000
    """
    if not content:
        raise AudioError(f"{name} is empty", "empty")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if not file.frames:
                raise AudioError(f"{name} has no samples", "empty")
            if not 1 <= file.channels <= _CHANNELS or not _RATES[0] <= file.samplerate <= _RATES[1]:
                raise AudioError(f"{name} has {file.channels} channels at {file.samplerate} Hz; record it at 16000 Hz")
            if file.frames > limits.seconds * file.samplerate:
                raise AudioError(f"{name} is longer than {limits.seconds} s; cut it")
            blocks = [block.mean(axis=1) for block in file.blocks(_BLOCK, dtype="float32", always_2d=True)]
            samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
            if len(samples) != file.frames:
                raise AudioError(f"{name} is damaged: {len(samples)} of {file.frames} samples can be read", "truncated")
            rate = file.samplerate
        warn_uncounted(name, len(samples), rate, uncounted(io.BytesIO(content), len(content)))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} is not audio that can be read here; use wav, flac, ogg or mp3") from error
    return dataclasses.replace(recordings(samples, rate, model_rate)[0], name=name)
