"""The diagnosis of `alpha_sv.diagnosis` on a model and its training samples:
of a training run, or of any model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable

import numpy as np
import torch
from speechbrain.utils.distributed import if_main_process
from torch import Tensor

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.diagnosis import Diagnosis, diagnose
from alpha_sv.embedding.waveform_embedder import WaveformEmbedder
from alpha_sv.files import atomic_write
from alpha_sv.heads import class_means
from alpha_sv.heads.cosine import unit
from alpha_sv.losses import MarginLoss
from alpha_sv.sb.chunks import RandomChunks
from alpha_sv.sb.datasets import WholeUtterances

logger = logging.getLogger(__name__)


def diagnose_run(brain, samples: int) -> Diagnosis:
    """Of a run before its first step:
    `samples` chunks of the first epoch, the prototypes and the loss as they are.

    The table goes to the log, and as diagnosis.json into the folder of the run.
    """
    hparams = brain.hparams
    labels, embeddings = _embedded(hparams.train_set, samples, hparams.seed, hparams.batch_size, brain.embed_whole)
    schedule = getattr(hparams, "margin_schedule", None)
    margin = schedule.final_margin if schedule is not None else brain.head.loss.margin
    found = diagnose(_cosines(embeddings, brain.head.weight.detach().cpu()), labels, brain.head.loss, margin)
    if if_main_process():
        logger.info("before the first step:\n%s", found)
        with atomic_write(hparams.run_folder.path / "diagnosis.json") as file:
            json.dump(found.to_json(), file, indent=1, ensure_ascii=False)
    return found


def diagnose_model(
    embedder: WaveformEmbedder,
    manifest: str | os.PathLike,
    loss: MarginLoss | None = None,
    margin: float = 0.2,
    chunk_seconds: float = 1.5,
    samples: int = 2000,
    split: str = "train",
    batch_size: int = 32,
    seed: int = 1234,
) -> Diagnosis:
    """Of any model: prototypes are the means of its embeddings of each speaker's whole utterances.

    Parameters
    ----------
    embedder : WaveformEmbedder
    manifest : path-like
        Of `alpha-sv prepare`; its utterances of `split` are used.
    loss, margin
        As `alpha_sv.diagnosis.diagnose`.
    chunk_seconds, samples
        How many chunks, of which length, are the samples; at most one of each utterance.

    Raises
    ------
    ValueError
        The manifest has fewer than two speakers in `split`.
    """
    utterances = read_manifest(manifest, split)
    speakers = sorted({utterance.speaker for utterance in utterances})
    if len(speakers) < 2:
        raise ValueError(
            f"{manifest}: {len(speakers)} speakers in split {split!r}, and a diagnosis needs two; see --split"
        )
    labels = {speaker: row for row, speaker in enumerate(speakers)}
    rows = torch.tensor([labels[utterance.speaker] for utterance in utterances])
    whole = WholeUtterances(utterances, embedder.sample_rate)

    def embed(waveforms: Tensor) -> Tensor:
        return torch.from_numpy(embedder.embed_batch(waveforms.numpy()))

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        for numbers in whole.batches(batch_size):
            yield embed(torch.from_numpy(np.stack([whole[number][0] for number in numbers]))), rows[numbers]

    means, classes = class_means(batches(), len(speakers))
    prototypes = torch.zeros(len(speakers), means.shape[1]).index_copy_(0, classes, means.float())
    chunks = RandomChunks(utterances, labels, chunk_seconds, embedder.sample_rate, seed=seed)
    targets, embeddings = _embedded(chunks, samples, seed, batch_size, embed)
    return diagnose(_cosines(embeddings, prototypes), targets, loss, margin)


def _embedded(
    dataset, samples: int, seed: int, batch_size: int, embed: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """(labels, embeddings) of so many examples of the first epoch, drawn without replacement."""
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:samples]
    labels, found = [], []
    for start in range(0, len(drawn), batch_size):
        inputs, rows = zip(*(dataset[1, int(number)] for number in drawn[start : start + batch_size]), strict=True)
        found.append(embed(torch.from_numpy(np.stack(inputs))).float().cpu())
        labels += rows
    return torch.tensor(labels), torch.cat(found)


def _cosines(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    return (unit(embeddings.float()) @ unit(prototypes.float()).T).clamp(-1, 1)
