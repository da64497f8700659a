"""Embedding store + trials → scores, plain and normalised; the cohort both need."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from alpha_sv.data.corpus.manifest import Utterance, few_of_each
from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.pipeline.provenance import source
from alpha_sv.scoring import average_scores, expand_trials, mean_models, normalize_table, score_trials, speaker_means
from alpha_sv.scoring.models import enrolled_tests, of_trials

logger = logging.getLogger(__name__)
Models = Mapping[str, Sequence[str]]


def cohort_utterances(
    utterances: Sequence[Utterance], speakers: Collection[str], most: int | None = None
) -> list[Utterance]:
    """The training utterances of `speakers`, sorted by ID;
    at most `most` of each, see `few_of_each`.

    ValueError if no training utterance is of these speakers.
    """
    theirs = [u for u in utterances if u.split == "train" and u.speaker in speakers]
    if not theirs:
        raise ValueError(
            f"none of the {len(speakers):,} speakers is a training speaker of the manifest, so there is no cohort of "
            "them; give the manifest that the model was trained on"
        )
    return few_of_each(theirs, most)


def cohort_matrix(
    store: EmbeddingStore, split: str, strangers_to: Collection[str] = (), per_speaker: bool = True
) -> np.ndarray:
    """Cohort embeddings [S, D] from one split of a store:
    a mean of each speaker, or every utterance.

    A split whose rows lie together, as those of a store of nothing else do, stays on disk and
    is read in blocks. A cohort is of strangers: ValueError if one of the speakers
    `strangers_to` is in it.
    """
    rows = store.split_rows(split)
    if not len(rows):
        raise ValueError(
            f"the store {store.path} has no utterance of split {split!r} for a cohort, only {sorted(set(store.splits))}"
        )
    if known := sorted({store.speakers[row] for row in rows} & set(strangers_to)):
        raise ValueError(
            f"{len(known)} speakers of the trials are in the cohort ({', '.join(known[:3])}): a cohort must be of "
            "strangers; use another split or store"
        )
    together = rows[-1] - rows[0] + 1 == len(rows)  # `split_rows` are in order
    matrix = store.matrix[rows[0] : rows[-1] + 1] if together else store.matrix[rows]
    return speaker_means(matrix, [store.speakers[row] for row in rows])[0] if per_speaker else matrix


def cohort_source(store: EmbeddingStore, split: str, per_speaker: bool = True) -> dict[str, str]:
    """The cohort as a source of scores: which rows of which embeddings, and the hash of those."""
    unit = "speaker means" if per_speaker else "utterances"
    name = store.path.resolve().name
    return source(store.path / "embeddings.npy", f"{name}/embeddings.npy, split {split}, {unit}")


def embedder_source(model: str | os.PathLike) -> dict[str, str]:
    """A saved embedder as a source of scores, by the hash of its weights."""
    weights = Path(model, "embedder.safetensors")
    return source(weights, f"{weights.resolve().parent.name}/{weights.name}")


def trial_speakers(store: EmbeddingStore, trials: Trials | ScoreTable, models: Models | None = None) -> set[str]:
    """The speakers on either side of a trial list, those of the utterances of its models."""
    enroll = set(trials.enroll.tolist())
    if models is not None:  # a model that is not listed is for scoring to complain about
        enroll = {utterance for members in of_trials(trials, models).values() for utterance in members}
    return {store.speakers[row] for row in store.rows(sorted(enroll.union(trials.test.tolist())))}


def score_store(
    store: EmbeddingStore,
    trials: Trials,
    cohort: np.ndarray | None = None,
    method: str = "as-norm",
    top_n: int | None = None,
    *,
    models: Models | None = None,
    average: str = "mean",
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> ScoreTable:
    """Cosine scores of a trial list, normalised if there is a cohort; see `alpha_sv.scoring`.

    Parameters
    ----------
    store : EmbeddingStore
        Has the embedding of every utterance named.
    trials : Trials
        N trials; with `models`, they name a model on the enrolment side.
    cohort : array [C, D], optional
        See `cohort_matrix`; with `method`, `top_n` and `cache` as `normalize_table`.
    models : mapping of model name to utterances, optional
        See `alpha_sv.scoring.read_models`.
    average : {"mean", "score"}
        What is averaged: the normalised embeddings of a model ("mean"),
        or the scores of its utterances ("score").

    Returns
    -------
    ScoreTable
        The trials in order.
        If the test utterance of some is part of its own enrolment, a warning says so.

    Raises
    ------
    ValueError
        Unknown `average`, or as the functions of `alpha_sv.scoring`.
    """
    if average not in ("mean", "score"):
        raise ValueError(f"average must be 'mean' or 'score', got {average!r}")
    scored, space = trials, store
    if models is not None and average == "mean":
        space = mean_models(trials, store, models)
    elif models is not None:
        scored = expand_trials(trials, models)
    table = score_trials(scored, space, progress=progress)
    if len(rows := enrolled_tests(trials, models)):
        first = " ".join(str(side.take(rows[:1]).array[0]) for side in trials.sides)
        logger.warning(
            "in %d of %d trials (first '%s') the test utterance is part of its own enrolment, and their scores are too "
            "high; leave them out of the list",
            len(rows),
            len(trials),
            first,
        )
    if cohort is not None:
        table = normalize_table(table, space, cohort, method, top_n, cache, progress)
    return table if scored is trials else average_scores(table, trials, models)
