"""Manifest → embedding store, batched by length and resumable."""

from __future__ import annotations

import itertools
import logging
import operator
import os
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from alpha_sv.data.audio import AudioError, check_signal, read_audio
from alpha_sv.data.audio.tar_member import file_on_disk
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.embedding.batches import embed_in_batches
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.files import file_state, folder_lock, input_key

logger = logging.getLogger(__name__)
_columns = operator.attrgetter(*Utterance.__slots__)


def read_whole(utterance: Utterance, sample_rate: int) -> np.ndarray:
    """All samples [T] of an utterance. Silence is an error."""
    waveform = read_audio(utterance.path, 0, utterance.num_samples, sample_rate)
    check_signal(waveform, utterance.path)
    return waveform


def embedded_length(utterance: Utterance, length: Callable[[int], int]) -> int:
    """`length` of the utterance's samples;
    what is too short for an embedding is named by its file."""
    try:
        return length(utterance.num_samples)
    except ValueError as error:
        raise AudioError(f"{utterance.path}: {error}", "short") from None


def extract(
    embedder: WaveformEmbedder,
    utterances: Sequence[Utterance],
    store: str | os.PathLike,
    batch_size: int = 32,
    device: str = "cpu",
    workers: int = 2,
    progress: bool = True,
    finished: Callable[[EmbeddingStore], object] | None = None,
) -> EmbeddingStore:
    """Embed every utterance into a store; an interrupted call continues where it stopped.

    Parameters
    ----------
    embedder : WaveformEmbedder
        A SpeakerEmbedder or a network in ONNX; put on `device`.
    utterances : sequence of Utterance
        In the order of the rows of the store.
    store : path-like
        Folder of the store.
        One that is whole and was made from the same model and utterances is reused.
    batch_size : int
        Utterances of equal length per forward pass;
        more are faster on a GPU and take more memory. Scores do not depend on it.
    workers : int
        Reader threads; more help where the files are on a slow disk.
    finished : function, optional
        Called with the store before another process may write into its folder.

    Raises
    ------
    FolderInUse
        Another process writes into the folder.
    AudioError
        For a file that is missing, truncated, silent,
        too short or has the wrong rate; what was extracted before is kept.
    """
    with folder_lock(store):
        made = _extract(embedder, utterances, store, batch_size, device, workers, progress)
        if finished is not None:
            finished(made)
    return made


def _extract(embedder, utterances, store, batch_size: int, device: str, workers: int, progress: bool) -> EmbeddingStore:
    ids = [utterance.utt_id for utterance in utterances]
    writer = StoreWriter(
        store,
        ids,
        [utterance.speaker for utterance in utterances],
        [utterance.split for utterance in utterances],
        embedder.embedding_dim,
        _key(embedder, utterances),
    )
    if writer.finished is not None:
        logger.info("%s holds these embeddings already", store)
        return writer.finished
    embedder = embedder.to(device)
    todo = writer.missing()
    if len(todo) < len(ids):
        logger.info("%s: continuing, %d of %d done", store, len(ids) - len(todo), len(ids))
    lengths = [embedded_length(utterances[row], embedder.length) for row in todo]

    def read(i: int) -> np.ndarray:
        return read_whole(utterances[todo[i]], embedder.sample_rate)

    with tqdm(total=len(ids), initial=len(ids) - len(todo), unit="utt", desc="extract", disable=not progress) as bar:
        for which, embeddings in embed_in_batches(embedder, lengths, read, batch_size, workers):
            writer.write(todo[which], embeddings)
            bar.update(len(which))
    return writer.finish(num_utterances=len(ids), model=embedder.config)


def _key(embedder: WaveformEmbedder, utterances: Sequence[Utterance]) -> str:
    """SHA-256 of all the embeddings depend on:
    the model, and each file's name, place, size and date."""
    rows = ((*_columns(utterance), file_state(file_on_disk(utterance.path))) for utterance in utterances)
    return input_key(itertools.chain(["whole utterances", embedder.fingerprint()], rows))
