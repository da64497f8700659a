"""What was made and written with version 0.1 (commit 962bb18) still works:
import paths, YAML names, a run's files."""

import importlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from alpha_sv.cli import main
from alpha_sv.data.trials import read_scores
from alpha_sv.embedding import EmbeddingStore, SpeakerEmbedder
from alpha_sv.moved import MOVED, new_name
from alpha_sv.report import load_metrics
from alpha_sv.sb.experiment import run
from alpha_sv.sb.run_folder import read_run
from alpha_sv.scoring import Calibrator
from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import log_of

EARLIER = {  # module → what users of it imported
    "alpha_sv.data.chunks": "Augmenter RandomChunks EpochSampler add_noise reverberate",
    "alpha_sv.data.files": "atomic_write sha256_file as_list",
    "alpha_sv.data.folders": "find_files AudioFile",
    "alpha_sv.data.manifest": "read_manifest write_manifest manifest_hash Utterance",
    "alpha_sv.data.published": "read_split write_split",
    "alpha_sv.data.speed": "change_speed class_names",
    "alpha_sv.data.stamp": "input_key is_fresh write_stamp",
    "alpha_sv.data.tables": "Trials ScoreTable",
    "alpha_sv.data.tar": "write_shards",
    "alpha_sv.data.trees": "prepare_tree",
    "alpha_sv.data.trials": "read_trials read_scores write_trials write_scores label_scores Trials ScoreTable",
    "alpha_sv.data.audio": "read_audio read_header AudioError check_signal",
    "alpha_sv.data.voxceleb": "prepare_voxceleb",
    "alpha_sv.demo": "run_demo",
    "alpha_sv.embedding.embedders": "SpeakerEmbedder",
    "alpha_sv.pipeline.evaluation": "evaluate_files compare_files load_systems",
    "alpha_sv.pipeline.calibration": "fit_calibrator",
    "alpha_sv.pipeline.runs": "read_run TrainedRun",
    "alpha_sv.pipeline.scores": "score_store cohort_matrix",
    "alpha_sv.pipeline.sources": "source read_sources write_sources",
}


@pytest.mark.parametrize("module", EARLIER)
@pytest.mark.filterwarnings("ignore:.* is now:FutureWarning")
def test_names_can_be_imported_by_their_earlier_paths(module):
    old = importlib.import_module(module)
    for name in EARLIER[module].split():
        assert getattr(old, name).__name__ == name
    assert not hasattr(old, "no_such_name")


@pytest.mark.parametrize("old", MOVED)
def test_every_alias_leads_to_a_module_that_is_there(old):
    for target in MOVED[old]:
        assert importlib.import_module(target).__name__ == target


def test_an_earlier_path_warns_once_and_says_the_new_one():
    old = "alpha_sv.metrics.summary"
    code = f"import {old}; from {old} import evaluate; import {old}"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("FutureWarning") == 1 and "alpha_sv.metrics.evaluate" in done.stderr


def test_tags_are_translated_and_others_left_alone():
    assert new_name("!new:alpha_sv.embedding.embedders.SpeakerEmbedder").endswith(".embedder.SpeakerEmbedder")
    for tag in ("!ref", "None", "!name:torch.optim.Adam", "!new:alpha_sv.data.chunks.NoSuchName", ""):
        assert new_name(tag) == tag


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A finished run of version 0.1 with its store, scores,
    calibrator and metrics, and a run killed in epoch 2."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(Path(__file__).parent / "fixtures" / "made_by_962bb18.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    make_tree(folder / "tree", speakers=6, utterances=6)
    return folder


def test_an_unfinished_run_is_continued_with_its_own_recipe_on_the_same_trajectory(earlier):
    out, tree = earlier / "unfinished", earlier / "tree"
    run(
        [
            str(out / "hyperparams.yaml"),
            f"--output_folder={out}",
            f"--data_folder={tree / 'wav'}",
            f"--trials={tree / 'trials.txt'}",
            f"--noise_folder={tree / 'noise'}",
            f"--rir_folder={tree / 'rir'}",
            f"--augment={{noise_folder: {tree / 'noise'}, rir_folder: {tree / 'rir'}}}",  # its references are resolved
        ]
    )
    expected = [json.loads(line) for line in (earlier / "unfinished_then_resumed_log.jsonl").read_text().splitlines()]
    found = log_of(out)
    assert [(row["kind"], row["step"]) for row in found] == [(row["kind"], row["step"]) for row in expected]
    losses = [[row["loss"] for row in rows if row["kind"] == "train"] for rows in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_model_store_scores_calibrator_and_metrics_still_load(earlier, capsys, monkeypatch):
    finished = earlier / "finished"
    monkeypatch.chdir(finished)
    embedder, store = SpeakerEmbedder.load("model"), EmbeddingStore.open("embeddings")
    assert store.matrix.shape == (len(store.ids), embedder.embedding_dim) and len(store.ids) == 36
    assert read_run(".").loss.startswith("QMargin") and len(read_run(".").speakers) == 2
    scores = read_scores("scores.txt").scores
    llrs = Calibrator.load("calibrator.json").apply(read_scores("scores.txt")).scores
    assert np.array_equal(np.argsort(llrs), np.argsort(scores)), "a rising map"
    assert load_metrics("metrics.json")["systems"]
    assert main(["report", "metrics.json", "-o", "report.md"]) == 0
    assert main(["evaluate", "scores.txt", "--trials", str(earlier / "tree" / "trials.txt"), "--replicates", "0"]) == 0
    assert "EER" in capsys.readouterr().out
