"""What a finished run leaves: scores of every corpus, and outcome.json, written last."""

from __future__ import annotations

import json
from pathlib import Path

from alpha_sv.data.files import atomic_write
from alpha_sv.data.manifest import read_manifest
from alpha_sv.data.trials import read_trials, write_scores
from alpha_sv.embedding.embedders import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.pipeline.scores import cohort_matrix, score_store, trial_speakers
from alpha_sv.report import load_log


def outcome_of(run, output: Path) -> dict | None:
    """The outcome of a run, or None if it is not done."""
    path = output / run.key / "outcome.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def record(run, folder: Path) -> None:
    """Score a trained run on every corpus, raw and AS-normalised, and write the outcome."""
    utterances = [u for u in read_manifest(folder / "manifest.csv") if u.split in ("train", "test")]
    store = extract(SpeakerEmbedder.load(folder / "model"), utterances, folder / "embeddings", progress=False)
    scores = {}
    for corpus in run.corpora:
        trials = read_trials(run.data / corpus / "trials_dev.txt")
        cohort = cohort_matrix(store, "train", trial_speakers(store, trials))
        for kind, used in (("cosine", None), ("as-norm", cohort)):
            path = folder / f"scores_{corpus}_{kind}.txt"
            write_scores(path, score_store(store, trials, used, top_n=run.top_n, progress=False))
            scores.setdefault(corpus, {})[kind] = path.name
    log = load_log(folder / "train_log.jsonl")
    outcome = {
        "name": run.name,
        "options": dict(run.options),
        "development_eer": min(row["eer"] for row in log if row["kind"] == "valid"),
        "scores": scores,
    }
    with atomic_write(folder / "outcome.json") as file:
        json.dump(outcome, file, indent=1)


def failure(folder: Path, status: int) -> str:
    """Where and why a training run ended."""
    lines = (folder / "stdout.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"train.py ended with status {status}: {lines[-1] if lines else 'no output'} ({folder / 'stdout.txt'})"
