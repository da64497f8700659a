"""`load_model`: anybody's speaker model, ready to embed what one has."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence

import numpy as np

from alpha_sv.device import device_for
from alpha_sv.embedding.batches import embed_in_batches
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.exchange.load import Loaded, load_embedder
from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.decision import Decision, verify
from alpha_sv.verify.evidence import of_older_weights
from alpha_sv.verify.waveforms import Recording, recordings

logger = logging.getLogger(__name__)


class SpeakerModel:
    """A speaker model in use; `load_model` makes it.

    Attributes
    ----------
    name : str
        That of the published model, the folder or the file.
    weights : Path
        The file they are in.
    sample_rate : int
        Hz.
    embedding_dim : int
        D.
    embedder : WaveformEmbedder
        The network with its features.
    calibrator : Calibrator or None
        From cosines to log-likelihood ratios, if the model came with one.
    """

    def __init__(self, loaded: Loaded, device: str = "cpu"):
        self.name, self.weights = loaded.name, loaded.weights
        self.embedder: WaveformEmbedder = loaded.embedder.to(device)
        self._calibrator_file = loaded.calibrator
        self._said: set[int] = set()

    def __repr__(self) -> str:
        config = self.embedder.config
        return (
            f"SpeakerModel({self.name!r}, {config['architecture']}, {self.embedding_dim} dimensions, "
            f"{self.sample_rate} Hz)"
        )

    @property
    def sample_rate(self) -> int:
        return self.embedder.sample_rate

    @property
    def embedding_dim(self) -> int:
        return self.embedder.embedding_dim

    @functools.cached_property
    def calibrator(self) -> Calibrator | None:
        if self._calibrator_file is None:
            return None
        found = Calibrator.load(self._calibrator_file)
        if of_older_weights(found, self.weights):
            logger.warning(
                "%s was fitted to scores of a model that lay here before, not of %s: its log-likelihood ratios and "
                "thresholds may be wrong; fit one to scores of this model: alpha-sv calibrate",
                self._calibrator_file,
                self.weights.name,
            )
        return found

    def embed(self, inputs: object, sample_rate: int | None = None, batch_size: int = 16) -> np.ndarray:
        """Embeddings of recordings; what one gets does not depend on the others or on `batch_size`.

        Parameters
        ----------
        inputs : path, array, tensor, or a list of these
            Arrays are [T], [1, T] or [T, 1]: samples in [−1, 1], or PCM in int16, int32 or uint8.
            Files of several channels become one by their mean. Recordings are taken whole.
        sample_rate : int, optional
            Hz, of the arrays; the model's own if not given. Files know theirs.
            Another rate than the model's is resampled, and that is logged once.
        batch_size : int
            Recordings of equal length (to 5 ms) that go through the network at once.

        Returns
        -------
        array [N, D], float32
            N = 1 for a single input. Not normalised.

        Raises
        ------
        ValueError
            An input is missing, unreadable, shorter than 0.1 s, silent, not finite, or of a kind
            that is not listed; the message says which one. AudioError, which is one, for files.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is a whole number from 1 on, got {batch_size!r}")
        items = recordings(inputs, sample_rate, self.sample_rate)
        lengths = self.lengths(items)
        self.say_rates(items)
        embeddings = np.empty((len(items), self.embedding_dim), dtype=np.float32)
        for rows, some in embed_in_batches(self.embedder, lengths, self._read(items), batch_size, 2):
            bad = ~np.isfinite(some).all(axis=1) | ~some.any(axis=1)
            if bad.any():
                raise ValueError(f"{items[rows[bad][0]].name}: the model gives a NaN, infinite or zero embedding")
            embeddings[rows] = some
        return embeddings

    def verify(self, a: object, b: object, **options) -> Decision:
        """Whether two sides are one speaker;
        arguments and errors as `alpha_sv.verify.decision.verify`."""
        return verify(self, a, b, **options)

    def lengths(self, items: Sequence[Recording]) -> list[int]:
        """What `embedder.length` says of each; ValueError names the one that is too short."""
        return [self._length(item) for item in items]

    def _length(self, item: Recording) -> int:
        try:
            return self.embedder.length(item.num_samples)
        except ValueError as error:
            raise ValueError(f"{item.name} is {error}") from None

    def _read(self, items: list[Recording]):
        return lambda row: items[row].samples(self.sample_rate)

    def say_rates(self, items: Sequence[Recording]) -> None:
        """Log each rate that is resampled, once."""
        for rate in sorted({item.sample_rate for item in items} - {self.sample_rate} - self._said):
            logger.warning("resampling from %d Hz to the %d Hz of %s", rate, self.sample_rate, self.name)
            self._said.add(rate)


def load_model(source: str | os.PathLike, device: str | None = None) -> SpeakerModel:
    """Load a speaker model.

    Parameters
    ----------
    source : str or path-like
        A published model's name (`alpha-sv models` lists them; fetched on first use), a
        model folder of `alpha-sv train` or `alpha-sv import`, a SpeechBrain pretrained
        folder, or an .onnx file.
    device : str, optional
        "cpu", "cuda" or "cuda:1"; by default the first GPU if there is one, see `alpha_sv.device`.

    Raises
    ------
    ValueError
        It is none of these, or damaged; or there is no such device.

    Example
    -------
    >>> import tempfile
    >>> from alpha_sv.embedding import SpeakerEmbedder
    >>> folder = tempfile.mkdtemp()
    >>> SpeakerEmbedder(
    ...     "campplus", 16, channels=4, init_channels=8, block_sizes=[1], growth=4
    ... ).save(folder)
    >>> model = load_model(folder)
    >>> model.embed(
    ...     [np.random.randn(8000) / 9, np.random.randn(44100) / 9], sample_rate=44100
    ... ).shape
    (2, 16)
    """
    loaded = load_embedder(source)
    return SpeakerModel(loaded, device_for(loaded.embedder, device))
