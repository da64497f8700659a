"""The arrows between the files of an evaluation, as functions: the command line and the demo call these."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from alpha_sv.data.files import atomic_write, sha256_file
from alpha_sv.data.trials import ScoreTable, Trials, count_duplicates, label_scores, read_scores, read_trials
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.metrics import evaluate
from alpha_sv.report import FORMAT
from alpha_sv.scoring import normalize_table, score_trials, speaker_means


def cohort_matrix(
    store: EmbeddingStore, split: str, strangers_to: Collection[str] = (), per_speaker: bool = True
) -> np.ndarray:
    """Cohort embeddings [S, D] from one split of a store: a mean of each speaker, or every utterance.

    A cohort is of strangers: ValueError if one of the speakers `strangers_to` is in it.
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
    matrix = np.asarray(store.matrix[rows])
    return speaker_means(matrix, [store.speakers[row] for row in rows])[0] if per_speaker else matrix


def trial_speakers(store: EmbeddingStore, trials: Trials) -> set[str]:
    """The speakers on either side of a trial list."""
    return {store.speakers[row] for side in (trials.enroll, trials.test) for row in store.rows(side.tolist())}


def score_store(
    store: EmbeddingStore,
    trials: Trials,
    cohort: np.ndarray | None = None,
    method: str = "as-norm",
    top_n: int = 300,
    progress: bool = True,
) -> ScoreTable:
    """Cosine scores of a trial list, normalised if there is a cohort [S, D]; see `alpha_sv.scoring`."""
    table = score_trials(trials, store, progress=progress)
    return table if cohort is None else normalize_table(table, store, cohort, method, top_n)


def evaluate_files(systems: Sequence[tuple[str, str]], trials: str | None = None, layout: str | None = None) -> dict:
    """Scores files → the dict of metrics.json.

    Parameters
    ----------
    systems : sequence of (name, file)
        An empty name becomes the file's stem.
    trials : path, optional
        Labelled trial list for scores files without labels.
    layout : str, optional
        As `alpha_sv.data.trials.read_scores`.

    Raises
    ------
    ValueError
        For a file without labels when no trial list is given, and as the readers and metrics.
    """
    names = [name or Path(file).stem for name, file in systems]
    if len(set(names)) < len(names):
        raise ValueError(f"two systems have the same name: {', '.join(names)}; give name=file")
    results = []
    for name, (_, file) in zip(names, systems, strict=True):
        table = read_scores(file, layout=layout)
        if trials is not None and table.labels is None:
            table = label_scores(table, read_trials(trials))
        if table.labels is None:
            raise ValueError(f"{file} has no labels; give the labelled trial list with --trials")
        result = evaluate(table.target_scores, table.nontarget_scores)
        result["trials"]["repeated"] = count_duplicates(table)
        results.append({"name": name, "scores_sha256": sha256_file(file), **result})
    return {"format": FORMAT, "systems": results}


def write_metrics(path: str | os.PathLike, metrics: dict) -> None:
    """Write metrics.json, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(metrics, file, indent=1)
        file.write("\n")
