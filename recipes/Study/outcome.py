"""What a finished run leaves: scores of every corpus, and outcome.json, written last."""

from __future__ import annotations

import json
import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.files import read_trials, write_scores
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.embedding.frozen_front import Front, FrontCache
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.exchange.load import load_embedder
from alpha_sv.files import atomic_write, input_key
from alpha_sv.pipeline.score import cohort_matrix, score_store, trial_speakers
from alpha_sv.report import load_log
from alpha_sv.sb.fine_tuning import WholeFrames

KINDS = ("cosine", "as-norm")


def outcome_of(run, output: Path) -> dict | None:
    """The outcome of a run, or None if it is not done."""
    path = output / run.key / "outcome.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if "training_seconds" not in found:  # written by an earlier version
        found["training_seconds"] = training_seconds(path.with_name("log.txt"))
    return found


def outcomes(runs: list, output: Path) -> dict[str, dict]:
    """Those of the runs that are done, by key."""
    return {run.key: found for run in runs if (found := outcome_of(run, output))}


def done_of(run, output: Path, scored: bool) -> bool:
    """Whether a run is trained and, if it is to be, scored."""
    found = outcome_of(run, output)
    return found is not None and ("scores" in found or not scored)


def record(run, folder: Path, device: str = "cpu", scored: bool = True) -> None:
    """Write the outcome of a trained run, with its scores of
    every corpus, raw and AS-normalised, if it is scored."""
    log = [] if run.as_it_is else load_log(folder / "train_log.jsonl")
    outcome = {
        "name": run.name,
        "options": dict(run.options),
        "development_eer": min((row["eer"] for row in log if row["kind"] == "valid"), default=None),
        "training_seconds": training_seconds(folder / "log.txt"),
    }
    if scored:
        outcome["scores"] = _scores(run, folder, device)
    with atomic_write(folder / "outcome.json") as file:
        json.dump(outcome, file, indent=1)
    for name in run.drop if scored else {"save"}.intersection(run.drop):
        shutil.rmtree(folder / name, ignore_errors=True)


def _scores(run, folder: Path, device: str) -> dict[str, dict[str, str]]:
    """Corpus → kind of scores → name of the file."""
    utterances = [u for u in read_manifest(run.manifest(folder)) if u.split in ("train", "test")]
    options = dict(run.options)
    embedder = load_embedder(options["model"]).embedder if run.as_it_is else SpeakerEmbedder.load(folder / "model")
    if (front := run.front_cache(folder)) is not None:
        store = extract_rest(embedder, utterances, folder / "embeddings", options["train_from"], front)
    else:
        store = extract(embedder, utterances, folder / "embeddings", device=device, progress=False)
    scores = {}
    for corpus, file in run.trials:
        trials = read_trials(file)
        cohort = cohort_matrix(store, "train", trial_speakers(store, trials))
        for kind, used in zip(KINDS, (None, cohort), strict=True):
            path = folder / f"scores_{corpus}_{kind}.txt"
            write_scores(path, score_store(store, trials, used, top_n=run.top_n, progress=False))
            scores.setdefault(corpus, {})[kind] = path.name
    return scores


def extract_rest(
    embedder: SpeakerEmbedder, utterances: list, folder: Path, train_from: str, front_cache: Path
) -> EmbeddingStore:
    """As `extract`, from the cached frames of the frozen front, which training left as it was."""
    front = Front(embedder.eval(), train_from)
    whole = WholeFrames(FrontCache(front_cache, front).fill(utterances))
    names = [[getattr(u, column) for u in utterances] for column in ("utt_id", "speaker", "split")]
    writer = StoreWriter(
        folder, *names, embedder.embedding_dim, input_key([embedder.fingerprint(), *names, whole.paths])
    )
    if writer.finished is not None:
        return writer.finished
    with torch.inference_mode():
        for rows in whole.batches(32):
            frames = torch.from_numpy(np.stack([whole[row][0] for row in rows]))
            writer.write(rows, front.rest(frames).numpy())
    return writer.finish(num_utterances=len(utterances), model=embedder.config)


def training_seconds(log: Path) -> float | None:
    """Wall time of a training run from SpeechBrain's log.txt,
    whose lines begin with the time; None without one.

    A sitting lasts from its first "Going into epoch" to its last line: the preparation is left out,
    the validation is not. What a killed sitting did after its last line is lost.
    """
    if not log.is_file():
        return None
    total, begun, last = 0.0, None, None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if "Beginning experiment" in line:
            total, begun = total + (last - begun if begun else 0.0), None
        if stamp := re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ", line):
            last = datetime.strptime(stamp[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(stamp[2]) / 1000
            if begun is None and "Going into epoch" in line:
                begun = last
    return total + (last - begun if begun else 0.0)


def failure(folder: Path, status: int) -> str:
    """Where and why a training run ended."""
    lines = (folder / "stdout.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"train.py ended with status {status}: {lines[-1] if lines else 'no output'} ({folder / 'stdout.txt'})"
