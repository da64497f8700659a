"""What every embedder can do, whatever runs its network: waveforms of any lengths → embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpha_sv.embedding.batches import embed_in_batches
from alpha_sv.embedding.features import whole_length


class WaveformEmbedder:
    """What an embedder can do whatever runs it. It has a `sample_rate`, an `embedding_dim`
    and a `config` (JSON), can `embed_batch`, knows its `fingerprint`, and `to(device)` puts
    it where it computes."""

    sample_rate: int
    embedding_dim: int
    config: dict
    at_once: int = 1  # how many small batches are best computed at a time, by `embed_small_batch` on threads

    def embed_batch(self, waveforms: np.ndarray) -> np.ndarray:
        """Waveforms [N, T] of one length that `length` gave → embeddings [N, D], both float32."""
        raise NotImplementedError

    def embed_small_batch(self, waveforms: np.ndarray) -> np.ndarray:
        """The same, for several threads at a time."""
        return self.embed_batch(waveforms)

    def length(self, num_samples: int) -> int:
        """To how many samples zeros fill an utterance;
        only utterances that agree in it share a batch."""
        return whole_length(num_samples, self.sample_rate)

    def embed(self, waveforms: Sequence[np.ndarray], batch_size: int = 32) -> np.ndarray:
        """Embed waveforms of any lengths; the result for one does not depend on the others.

        Parameters
        ----------
        waveforms : sequence of float arrays [T_i]
            At the model's sample rate, of at least 0.1 s.
            Of more than 5 min: see `alpha_sv.embedding.batches`.
        batch_size : int
            How many of equal length (to 5 ms) go through the network at once.

        Returns
        -------
        array [N, D], float32

        Raises
        ------
        ValueError
            For a waveform that is too short, silent,
            not finite or not one-dimensional; it is named by its place.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        lengths = []
        for i, waveform in enumerate(waveforms):
            if np.ndim(waveform) != 1 or not np.isfinite(waveform).all() or not np.any(waveform):
                raise ValueError(
                    f"waveform {i} must be a one-dimensional array of finite samples, not all zero; got shape "
                    f"{np.shape(waveform)}"
                )
            try:
                lengths.append(self.length(len(waveform)))
            except ValueError as error:
                raise ValueError(f"waveform {i} is {error}") from None
        result = np.empty((len(lengths), self.embedding_dim), dtype=np.float32)
        for rows, embeddings in embed_in_batches(self, lengths, lambda i: waveforms[i], batch_size):
            result[rows] = embeddings
        return result
