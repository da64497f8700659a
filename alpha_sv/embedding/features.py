"""The one waveform → features path: training, extraction and export all call it.

Also the one rule that makes a score independent of its batch. Padding a short utterance to the longest of its batch
lets the convolutions see zeros where the utterance alone would have had its own reflection, so the embedding would
depend on its neighbours. Here every utterance is first cut to a whole number of tenths of a second (its last < 0.1 s
is dropped; below half a second it is repeated until it fills it), a length that depends on that utterance alone, and
only utterances of equal length share a batch: nothing is ever padded.
"""

from __future__ import annotations

import numpy as np
from speechbrain.lobes.features import Fbank
from torch import Tensor, nn

QUANTUM_SECONDS = 0.1
MIN_SECONDS = 0.5


class Features(nn.Module):
    """Log mel filter banks in dB (SpeechBrain's Fbank), minus their mean over the utterance.

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_mels : int
        Number of mel bands, M.
    mean_norm : bool
        Subtract each band's mean over time, which removes a fixed channel.

    Shape: waveforms [N, T] → features [N, 1 + T // hop, M], hop 10 ms, window 25 ms. In float32, also under autocast.

    Example
    -------
    >>> import torch
    >>> Features(n_mels=40)(torch.randn(2, 16000)).shape
    torch.Size([2, 101, 40])
    """

    def __init__(self, sample_rate: int = 16000, n_mels: int = 80, mean_norm: bool = True):
        super().__init__()
        self.fbank = Fbank(sample_rate=sample_rate, n_fft=400 * sample_rate // 16000, n_mels=n_mels)
        self.mean_norm = mean_norm

    def forward(self, waveforms: Tensor) -> Tensor:
        features = self.fbank(waveforms)
        return features - features.mean(dim=1, keepdim=True) if self.mean_norm else features


def whole_length(num_samples: int, sample_rate: int = 16000) -> int:
    """The number of samples at which an utterance of `num_samples` is embedded; depends on nothing else.

    Example
    -------
    >>> [whole_length(n) for n in (48_000, 49_599, 3_000)]
    [48000, 48000, 8000]
    """
    quantum, shortest = round(QUANTUM_SECONDS * sample_rate), round(MIN_SECONDS * sample_rate)
    return max(num_samples // quantum * quantum, shortest)


def fit_length(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut the end, or repeat from the start, until the waveform [T] has `num_samples` samples.

    Example
    -------
    >>> fit_length(np.array([1, 2, 3]), 5)
    array([1, 2, 3, 1, 2])
    """
    if waveform.shape[-1] == 0:
        raise ValueError("cannot fit an empty waveform to a length")
    return waveform[:num_samples] if len(waveform) >= num_samples else np.resize(waveform, num_samples)
