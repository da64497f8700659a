"""The study's driver: what runs it expands to, what it skips,
what it chooses and what it prints. One slow real run."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alpha_sv.data.trials.files import write_scores, write_trials
from alpha_sv.data.trials.tables import ScoreTable, Trials
from tests.fixtures.replaced import command_line
from tests.fixtures.speech_tree import make_tree

STUDY = Path(__file__).parents[2] / "recipes" / "Study"


@pytest.fixture
def study(monkeypatch):
    """The modules of the recipe, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(STUDY))
    names = ("grid", "outcome", "estimates", "geometry", "findings", "tables", "study")
    modules = {name: __import__(name) for name in names}
    yield modules
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path):
    """One corpus of 12 speakers with 3 utterances each, all against all; no audio."""
    folder = tmp_path / "data" / "tiny"
    folder.mkdir(parents=True)
    names = [f"s{speaker:02d}/u/{k}.wav" for speaker in range(12) for k in range(3)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    enroll, test = map(np.array, zip(*pairs, strict=True))
    labels = np.array([a[:3] == b[:3] for a, b in pairs])
    write_trials(folder / "trials_dev.txt", Trials(enroll, test, labels))
    return tmp_path / "data"


def grid_text(tune_second="[0.1, 0.2]"):
    return f"""
corpora: [tiny]
top_n: 5
common: {{number_of_epochs: 3}}
tuning: {{seed: 0, common: {{number_of_epochs: 1}}}}
baselines: [plain]
models:
  small: {{recipe: ecapa, seeds: [1, 2]}}
  other: {{recipe: resnet, seeds: [1], rows: [sharp], common: {{lr: 0.1}}}}
rows:
  plain: {{loss: "!new:alpha_sv.losses.AMSoftmax", tune: {{margin: [0.1, 0.2]}}}}
  sharp: {{loss: "!new:alpha_sv.losses.QMargin", tune: {{margin: {tune_second}}}}}
"""


def write_grid(tmp_path, text):
    (tmp_path / "grid.yaml").write_text(text)
    return tmp_path / "grid.yaml"


def test_grid_expands_to_tuning_and_reported_runs(study, data, tmp_path):
    g = study["grid"]
    grid = g.read_grid(write_grid(tmp_path, grid_text()))
    tuning = g.tuning_runs(grid, data)
    assert len(tuning) == 6 and all(dict(run.options)["number_of_epochs"] == "1" for run in tuning)
    eers = {run.key: {"development_eer": 0.1 if dict(run.options)["margin"] == "0.2" else 0.3} for run in tuning}
    best = g.chosen(grid, tuning, eers)
    assert set(map(str, best.values())) == {"{'margin': 0.2}"}
    runs = g.reported_runs(grid, data, best)
    assert [(r.seed, r.model, r.row) for r in runs] == [
        *[(1, "small", "plain"), (1, "small", "sharp"), (1, "other", "sharp")],
        *[(2, "small", "plain"), (2, "small", "sharp")],
    ], "seed by seed: what is done first is a whole table"
    assert dict(runs[2].options)["lr"] == "0.1"


def test_key_is_a_hash_of_all_that_a_run_depends_on(study, data, tmp_path):
    g = study["grid"]
    keys = lambda text: {run.key for run in g.tuning_runs(g.read_grid(write_grid(tmp_path, text)), data)}  # noqa: E731
    first = keys(grid_text())
    assert keys(grid_text()) == first and len(first) == 6
    assert not first & keys(grid_text().replace("top_n: 5", "top_n: 6"))
    changed = keys(grid_text("[0.1, 0.3]"))
    assert len(first & changed) == 4, "a changed setting runs anew, the others do not"
    trials = data / "tiny" / "trials_dev.txt"
    trials.write_text(trials.read_text().replace("0 s00/u/0.wav s01/u/0.wav\n", ""))
    assert not first & keys(grid_text())


@pytest.mark.parametrize(
    "text, message",
    [
        (grid_text("[0.1]"), "different tuning budgets"),
        (grid_text().replace("rows: [sharp]", "rows: [blunt]"), "unknown rows: blunt"),
        (grid_text().replace("top_n: 5\n", ""), "lacks top_n"),
        (grid_text().replace("seeds: [1]", "seeds: []"), "other has no seeds"),
    ],
)
def test_a_grid_that_is_unfair_or_incomplete_is_refused(study, tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        study["grid"].read_grid(write_grid(tmp_path, text))


def pretend(data, quality, done):
    """In place of training: scores as good as the row, outcome written last."""

    def perform(run, output, *_):
        done.append(run.name)
        folder = output / run.key
        folder.mkdir(parents=True, exist_ok=True)
        lines = [line.split() for line in (data / "tiny" / "trials_dev.txt").read_text().splitlines()]
        labels = np.array([line[0] == "1" for line in lines])
        scores = quality[run.row] * labels + np.random.default_rng(run.seed).normal(size=len(lines))
        for kind in ("cosine", "as-norm"):
            columns = [np.array([line[k] for line in lines]) for k in (1, 2)]
            write_scores(folder / f"{kind}.txt", ScoreTable(*columns, scores, labels))
        names = {"tiny": {"cosine": "cosine.txt", "as-norm": "as-norm.txt"}}
        (folder / "outcome.json").write_text(json.dumps({"development_eer": 0.2, "scores": names}))
        steps = [{"kind": "train", "step": n, "epoch": n / 2, "support": 4.0 + n, "zero_loss": 0.25} for n in (1, 2, 3)]
        (folder / "train_log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))

    return perform


def run_study(study, words):
    with command_line(*words):
        study["study"].main()


def test_study_runs_what_is_left_and_tells_a_better_row(study, data, tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(study["study"], "perform", pretend(data, {"plain": 1.0, "sharp": 4.0}, done))
    grid, output = write_grid(tmp_path, grid_text()), tmp_path / "out"
    words = ["study.py", grid, "--data", data, "--output", output]
    run_study(study, words)
    assert len(done) == 6 + 5
    first = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| sharp")]
    brief, digest, _, verdict, _, training, _, errors, difference = rows[:9]
    assert digest[1].split(" → ")[0] == errors[2].split()[0]
    assert brief[1] == digest[1]
    assert verdict[2] == difference[1], "the mean of one list is that list"
    assert rows[-2][1] == "**margin 0.1: 20.00**; margin 0.2: 20.00", "what the tuning saw of model small"
    assert training == ["sharp", "margin 0.1", "2", "20.00", "7.0", "25.0", "n/a", "n/a"], "support in the last epoch"
    low, high = (float(x) for x in difference[1].split("[")[1].split("]")[0].split(","))
    assert errors[1] == "2" and low <= high < 0, "two seeds; its EER is lower than the baseline's"
    run_study(study, words)
    assert len(done) == 11 and capsys.readouterr().out == first, "nothing is left to do"
    next(output.glob("*/outcome.json")).unlink()
    run_study(study, words)
    assert len(done) == 12


def test_rows_that_chose_the_same_settings_share_a_run(study, data, tmp_path, monkeypatch):
    """Two at a time, the second would find its model dropped by the first."""
    done = []
    monkeypatch.setattr(study["study"], "perform", pretend(data, {"plain": 1.0, "sharp": 1.0}, done))
    text = grid_text().replace("QMargin", "AMSoftmax")
    words = ["study.py", write_grid(tmp_path, text), "--data", data, "--output", tmp_path / "out", "--workers", "2"]
    run_study(study, words)
    assert sorted(done) == sorted(
        2 * ["small plain seed 0"]
        + 2 * ["other sharp seed 0"]
        + [f"{row} seed {seed}" for row, seed in (("small plain", 1), ("small plain", 2), ("other sharp", 1))]
    )


@pytest.mark.slow
def test_no_shard_begins_the_reported_runs_before_all_have_tuned(study, data, tmp_path, monkeypatch):
    """What the settings of one half would choose need not be what all of them do."""
    done = []
    monkeypatch.setattr(study["study"], "perform", pretend(data, {"plain": 1.0, "sharp": 4.0}, done))
    words = ["study.py", write_grid(tmp_path, grid_text()), "--data", data, "--output", tmp_path / "out", "--shard"]
    with pytest.raises(SystemExit, match="3 of 6 tuning runs are left to other shards"):
        run_study(study, [*words, "1/2"])
    assert len(done) == 3
    for shard in ("2/2", "1/2"):
        run_study(study, [*words, shard])
    assert len(done) == 6 + 5


def test_tables_go_between_their_marks_in_a_document_and_nowhere_else(study, tmp_path):
    document, write = tmp_path / "results.md", study["tables"].write_between
    text = "a\n<!-- small digest -->\nold\n<!-- end -->\nb\n<!-- other digest -->\nkept\n<!-- end -->\n"
    document.write_text(text)
    write(document, "small", {"digest": "| \\1 |\n", "tables": "not asked for"})
    assert document.read_text() == text.replace("old", "| \\1 |")
    with pytest.raises(ValueError, match=r"results\.md has no place for tables: lines <!-- absent digest"):
        write(document, "absent", {"digest": ""})
    assert document.read_text() == text.replace("old", "| \\1 |")


@pytest.mark.parametrize("name", ["findings", "geometry", "tables"])
def test_examples_of_the_recipe_are_true(study, name):
    result = doctest.testmod(study[name])
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.slow
def test_a_real_run_from_audio_to_table(tmp_path):
    tree = make_tree(tmp_path / "data" / "tiny", speakers=22, utterances=4)
    names = [(s, f"spk{s}/s{u % 2}/{u:02d}.wav") for s in range(10, 22) for u in range(4)]
    pairs = [(a == b, x, y) for i, (a, x) in enumerate(names) for b, y in names[i + 1 :]]
    (tree / "trials_dev.txt").write_text("".join(f"{label:d} {x} {y}\n" for label, x, y in pairs))
    for name in ("noise", "rir"):
        (tmp_path / "data" / name).mkdir()
        (tree / name).rename(tmp_path / "data" / name / "wav")
    common = (
        "common: {number_of_epochs: 1, num_valid_speakers: 3, batch_size: 8, chunk_seconds: 0.5, n_mels: 24, "
        "embedding_dim: 16, num_workers: 0, channels: '[16, 16, 16, 16, 48]'}"
    )
    text = grid_text().replace("common: {number_of_epochs: 3}", common).replace("seeds: [1, 2]", "seeds: [1]")
    text = text.replace("  other: {recipe: resnet, seeds: [1], rows: [sharp], common: {lr: 0.1}}\n", "")
    text = text.replace(", tune: {margin: [0.1, 0.2]}", "")
    command = [sys.executable, "study.py", str(write_grid(tmp_path, text)), "--data", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        cwd=STUDY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "### small, tiny, as-norm" in done.stdout
        and "nearest two prototypes" in done.stdout
        and "| sharp | 1 |" in done.stdout
    )
