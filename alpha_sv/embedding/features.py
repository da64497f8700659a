"""The one waveform → features path: training, extraction and export all call it.

Also the one rule that makes a score independent of its batch. Padding a short utterance to the
longest of its batch lets the convolutions see zeros where the utterance alone would have had its
own edge, so the embedding would depend on its neighbours. But zeros that change no frame do no
harm: the number of frames depends on the length in whole steps of gcd(window, hop) only, 5 ms. So
every utterance, embedded whole, is filled with zeros up to the end of its step (a length that
depends on that utterance alone), and only utterances of equal length share a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from speechbrain.lobes.features import Fbank
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import get_mel_banks

MIN_SECONDS = 0.1  # shorter is no utterance: ten frames are what the networks' convolutions and deviations need
KINDS = ("speechbrain", "kaldi", "wespeaker", "waveform")


class Features(nn.Module):
    """Log mel filter banks, minus their mean over the utterance.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels : int
        Number of mel bands, M.
    mean_norm : bool
        Subtract each band's mean over time, which removes a fixed channel.
    kind : {"speechbrain", "kaldi", "wespeaker", "waveform"}
        SpeechBrain's Fbank, in dB; Kaldi's as 3D-Speaker uses it, or as WeSpeaker does: see
        `KaldiFbank`. A network must be given the kind it was trained on. "waveform" is the waveform
        [N, T] as it is, for WavLM.

    Shape: waveforms [N, T] → features [N, F, M], hop 10 ms, window 25 ms. F is 1 + T // hop
    for SpeechBrain's, whose frames are centred; 1 + (T − window) // hop for Kaldi's. In
    float32, also under autocast.

    Example
    -------
    >>> Features(n_mels=40)(torch.randn(2, 16000)).shape
    torch.Size([2, 101, 40])
    >>> Features(n_mels=40, kind="kaldi")(torch.randn(2, 16000)).shape
    torch.Size([2, 98, 40])
    """

    def __init__(self, sample_rate: int = 16000, n_mels: int = 80, mean_norm: bool = True, kind: str = "speechbrain"):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"features must be one of {', '.join(KINDS)}, got {kind!r}")
        mean_norm = mean_norm and kind != "waveform"
        if kind == "waveform":
            self.fbank: nn.Module = nn.Identity()
        elif kind == "speechbrain":
            self.fbank = Fbank(sample_rate=sample_rate, n_fft=400 * sample_rate // 16000, n_mels=n_mels)
        elif kind == "kaldi":
            self.fbank = KaldiFbank(sample_rate, n_mels)
        else:
            self.fbank = KaldiFbank(sample_rate, n_mels, "hamming", scale=32768.0)
        self.mean_norm = mean_norm

    def forward(self, waveforms: Tensor) -> Tensor:
        features = self.fbank(waveforms)
        return features - features.mean(dim=1, keepdim=True) if self.mean_norm else features


class KaldiFbank(nn.Module):
    """Kaldi's log mel filter bank without dither, for batches and with gradients.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels : int
        M; the bands go from 20 Hz to half the sample rate.
    window : {"povey", "hamming"}
        Kaldi's own window is Hann's to the power of 0.85.
    scale : float
        Kaldi reads 16-bit samples as they are; 32768 makes them of samples in [−1, 1].

    Shape: waveforms [N, T] → [N, 1 + (T − window) // hop, M], natural logarithm of energies.
    Equals `torchaudio.compliance.kaldi.fbank`, which takes one waveform at a time.

    Example
    -------
    >>> KaldiFbank()(torch.randn(3, 16000)).shape
    torch.Size([3, 98, 80])
    """

    def __init__(self, sample_rate: int = 16000, n_mels: int = 80, window: str = "povey", scale: float = 1.0):
        super().__init__()
        self.size, self.hop = _window_and_hop(sample_rate)
        self.n_fft = 1 << (self.size - 1).bit_length()
        self.scale = scale
        if window == "povey":
            shape = torch.hann_window(self.size, periodic=False).pow(0.85)
        elif window == "hamming":
            shape = torch.hamming_window(self.size, periodic=False)
        else:
            raise ValueError(f"window must be 'povey' or 'hamming', got {window!r}")
        banks, _ = get_mel_banks(n_mels, self.n_fft, sample_rate, 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("window", shape, persistent=False)
        self.register_buffer("banks", F.pad(banks, (0, 1)).T.contiguous(), persistent=False)  # [n_fft // 2 + 1, M]

    def forward(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = (waveforms.to(self.window.dtype) * self.scale).unfold(-1, self.size, self.hop)  # [N, F, window]
            frames = frames - frames.mean(dim=-1, keepdim=True)
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)  # pre-emphasis; the first sample has itself
            spectrum = torch.view_as_real(torch.fft.rfft((frames - 0.97 * before) * self.window, self.n_fft))
            energies = spectrum.square().sum(dim=-1) @ self.banks
            return energies.clamp(min=torch.finfo(torch.float32).eps).log()


def _window_and_hop(sample_rate: int) -> tuple[int, int]:
    return 25 * sample_rate // 1000, 10 * sample_rate // 1000


def whole_length(num_samples: int, sample_rate: int = 16000) -> int:
    """The number of samples to which zeros fill an utterance of `num_samples`;
    they change none of its frames.

    Raises
    ------
    ValueError
        The utterance is shorter than 0.1 s.

    Example
    -------
    >>> [whole_length(n) for n in (48_000, 48_079, 48_080)]
    [48079, 48079, 48159]
    """
    if num_samples < MIN_SECONDS * sample_rate:
        raise ValueError(
            f"too short: {num_samples} samples at {sample_rate} Hz are {num_samples / sample_rate:.3f} s, and an "
            f"embedding needs {MIN_SECONDS} s; leave it out or record more"
        )
    step = math.gcd(*_window_and_hop(sample_rate))
    return num_samples // step * step + step - 1


def fill(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Zeros behind the waveform [T] until it has `num_samples` samples.

    Example
    -------
    >>> fill(np.array([1, 2, 3]), 5)
    array([1, 2, 3, 0, 0])
    """
    return np.pad(waveform, (0, num_samples - len(waveform)))


def length_batches(lengths: Sequence[int], batch_size: int, most: int | None = None) -> list[np.ndarray]:
    """Indices grouped into batches of equal length,
    longest first: out of memory shows in the first batch.

    No batch has more than `most` samples in all, unless it is of one utterance.

    Example
    -------
    >>> [rows.tolist() for rows in length_batches([5, 9, 5, 5], batch_size=2)]
    [[1], [0, 2], [3]]
    >>> [rows.tolist() for rows in length_batches([5, 9, 5, 5], batch_size=2, most=9)]
    [[1], [0], [2], [3]]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches = []
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        size = batch_size if most is None else max(1, min(batch_size, most // max(lengths[group].max(initial=1), 1)))
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches
