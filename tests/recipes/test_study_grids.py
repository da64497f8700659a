"""The grids that come with the study: what they expand to,
and the rules of `each`, `warm_start` and `prepared`."""

import hashlib
import json
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ruamel.yaml import YAML

RECIPES = Path(__file__).parents[2] / "recipes"
STUDY = RECIPES / "Study"
GRIDS = sorted((STUDY / "hparams").glob("*.yaml"))


@pytest.fixture
def study(monkeypatch):
    """The modules of the recipe, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(STUDY))
    names = ("grid", "outcome", "estimates", "geometry", "findings", "tables", "study")
    yield SimpleNamespace(**{name: __import__(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


def expand(study, path, data=Path("/data")):
    grid = study.grid.read_grid(path)
    tuning = study.grid.tuning_runs(grid, data)
    first = {(m, r): study.grid.settings(grid["rows"][r])[0] for m in grid["models"] for r in grid["rows"]}
    return grid, tuning, study.grid.reported_runs(grid, data, first)


def write(tmp_path, text):
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "grid.yaml"


BASE = "corpora: [tiny]\ntop_n: 5\ncommon: {}\nmodels: {small: {recipe: ecapa, seeds: [1, 2]}}\nrows:\n"


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_option_of_every_grid_is_a_key_of_its_recipe(study, path):
    _, tuning, runs = expand(study, path)
    for run in tuning + runs:
        known = set()
        for file in study.grid._recipe_files(run.recipe_folder / "hparams" / f"{run.recipe}.yaml"):
            known |= set(re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), flags=re.MULTILINE))
        run_options = {"precision", "compile"}  # of SpeechBrain, not of the recipe
        asked = {key for key, _ in run.options} | ({"warm_start"} if run.parent else set())
        asked |= {"prepared"} if run.prepared else {"data_folder", "trials", "noise_folder", "rir_folder"}
        assert asked - run_options <= known, run.name


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_losses_of_every_grid_can_be_built(study, path):
    import alpha_sv.losses

    _, tuning, runs = expand(study, path)
    losses = {dict(run.options).get("loss") for run in tuning + runs} - {None}
    assert losses or path.stem == "references", "which trains nothing"
    for loss in losses:
        name, arguments = re.fullmatch(r"!new:alpha_sv\.losses\.(\w+) (\{.*\})", loss).groups()
        getattr(alpha_sv.losses, name)(**YAML(typ="safe").load(arguments))


def test_header_of_a_grid_says_how_many_runs_it_is(study):
    readme = (STUDY / "README.md").read_text(encoding="utf-8")
    for path in GRIDS:
        _, tuning, runs = expand(study, path)
        count = f"{len(tuning)} + {len(runs)}" if tuning else f"{len(runs)}"
        assert re.search(rf"hparams/{path.name}` \|.*\| {re.escape(count)} \|", readme), (path.name, count)


def test_kappa_grid_holds_kappa_fixed_along_its_lines(study):
    grid, _, runs = expand(study, STUDY / "hparams" / "kappa.yaml")
    found = {}
    for run in runs:
        arguments = YAML(typ="safe").load(dict(run.options)["loss"].split(" ", 1)[1])
        found.setdefault(round(arguments["scale"] * (arguments["alpha"] - 1), 9), set()).add(arguments["alpha"])
    assert found == {k: {1.125, 1.25, 1.5, 2} for k in (1.25, 2.5, 5, 10, 20)}


def test_starvation_grid_starts_from_the_same_seed_and_heads_differ_in_the_head_alone(study):
    _, _, runs = expand(study, STUDY / "hparams" / "starvation.yaml")
    children = [run for run in runs if run.parent]
    assert len(children) == 21 and all(run.parent in runs for run in children)
    assert {(run.parent.row, run.parent.seed == run.seed) for run in children} == {("CosFace", True)}
    _, _, runs = expand(study, STUDY / "hparams" / "heads.yaml")
    recipe = runs[0].recipe_folder / "hparams" / f"{runs[0].recipe}.yaml"
    files = study.grid._recipe_files(recipe)
    (default,) = {m for f in files for m in re.findall(r"^head: (\w+)", f.read_text(encoding="utf-8"), re.MULTILINE)}
    others = {}
    for run in runs:
        options = dict(run.options)
        others.setdefault(options.pop("head", default), []).append((run.seed, options))
    assert default == "auto", "dense, with so few speakers"
    assert others["auto"] == others["sparse"] and len(others["auto"]) == 10


@pytest.mark.parametrize(
    ("grid", "shared"), [("scales", 3), ("kappa", 2), ("starvation", 3), ("heads", 10), ("schedules", 6)]
)
def test_grids_share_runs_with_that_of_the_seeds(study, tmp_path, grid, shared):
    for corpus in ("speechocean762", "speech_commands", "librispeech"):
        (tmp_path / corpus).mkdir()
        (tmp_path / corpus / "trials_dev.txt").write_text("1 a/1 a/2\n")
    keys = []
    for name in ("seeds", grid):
        _, tuning, runs = expand(study, STUDY / "hparams" / f"{name}.yaml", tmp_path)
        keys.append({run.key for run in tuning + runs})
    assert len(keys[0] & keys[1]) == shared


def test_key_of_a_run_without_parent_is_the_published_hash(study, tmp_path):
    """Another rule would orphan the results of every study."""
    data = tmp_path / "data"
    (data / "tiny").mkdir(parents=True)
    (data / "tiny" / "trials_dev.txt").write_text("1 a/1 a/2\n")
    _, _, (run, _) = expand(study, write(tmp_path, BASE + "  plain: {loss: x, compile: }\n"), data)
    parts = []
    for name in ("ecapa.yaml", "base/speaker_tree.yaml"):
        recipe = (RECIPES / "SpeakerTree/hparams" / name).read_text(encoding="utf-8")
        bare = [line.split(" #")[0].rstrip() for line in recipe.splitlines()]
        parts.append("\n".join(line for line in bare if line and line[0] != "#").encode())
    parts.append((data / "tiny" / "trials_dev.txt").read_bytes())
    hashes = [hashlib.sha256(part).hexdigest() for part in parts]
    text = json.dumps([1, ["tiny"], [["compile", ""], ["loss", "x"]], 5, hashes])
    assert run.key == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert "--compile" in run.command(Path("out")), "a key without a value is a flag"


def test_key_follows_the_parent_and_the_recipes_that_are_extended(study, tmp_path):
    data, hparams = tmp_path / "data", tmp_path / "recipe" / "hparams"
    (data / "tiny").mkdir(parents=True)
    (data / "tiny" / "trials_dev.txt").write_text("1 a/1 a/2\n")
    hparams.mkdir(parents=True)
    (hparams / "ecapa.yaml").write_text("extends: [base.yaml]\nloss: !new:some.Loss\n")
    (hparams / "base.yaml").write_text("lr: 1\nloss: !PLACEHOLDER\n")

    def keys(margin):
        rows = f"  first: {{margin: {margin}}}\n  next: {{warm_start: first}}\n"
        text = f"recipe_folder: {tmp_path / 'recipe'}\n{BASE}{rows}"
        return {(run.row, run.seed): run.key for run in expand(study, write(tmp_path, text), data)[2]}

    before = keys(0.1)
    assert len(set(before.values())) == 4
    assert not set(before.values()) & set(keys(0.2).values()), "a changed parent is another start"
    (hparams / "base.yaml").write_text("lr: 2\nloss: !PLACEHOLDER\n")
    assert not set(before.values()) & set(keys(0.1).values())


@pytest.mark.parametrize(
    "rows, message",
    [
        ("  a $x: {each: {x: [1, 2]}, loss: $y}", r"'\$y' has a \$name that is not one of x"),
        ("  a: {each: {x: [1, 2]}, loss: $x}", "two rows called 'a'"),
        ("  a: {warm_start: b}\n  b: {}", "further"),
        ("  a: {warm_start: a}", "further"),
        ("  a: {tune: {lr: [1, 2]}}\n  b: {warm_start: a, tune: {lr: [1, 2]}}", "lacks tuning"),
        ("  a: {tune: {lr: [1, 2]}}\n  b: {warm_start: a, tune: {lr: [1, 2]}}\ntuning: {seed: 0}", "without tuning"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused(study, tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        study.grid.read_grid(write(tmp_path, BASE + rows + "\n"))


def test_voxceleb_is_one_torchrun_command_a_run(study, tmp_path, monkeypatch):
    text = (STUDY / "hparams" / "voxceleb.yaml").read_text(encoding="utf-8")
    prepared, lists = tmp_path / "prepared", tmp_path / "lists"
    for folder in (prepared, lists):
        folder.mkdir()
    for name in ("veri_test2", "list_test_all2", "list_test_hard2"):
        (lists / f"{name}.txt").write_text("1 id1/x/1.wav id1/y/1.wav\n")
    (prepared / "manifest.csv").write_text("ID\n")
    text = re.sub("^prepared:.*$", f"prepared: {prepared}", text, flags=re.MULTILINE)
    _, _, runs = expand(study, write(tmp_path, text), lists)
    assert runs[0].manifest(tmp_path) == prepared / "manifest.csv"
    commands = []

    def launched(command, cwd, **_):
        commands.append((command, cwd))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(study.study.subprocess, "run", launched)
    monkeypatch.setattr(study.study, "record", lambda *_: None)
    study.study.perform(runs[0], tmp_path / "out", "torchrun --standalone --nproc_per_node=8", "cuda")
    ((command, cwd),) = commands
    assert command[:5] == ["torchrun", "--standalone", "--nproc_per_node=8", "train.py", "hparams/ecapa_c512_am.yaml"]
    assert cwd == RECIPES / "VoxCeleb" and f"--prepared={prepared}" in command
    assert not [part for part in command if part.startswith(("--data_folder", "--trials"))]
    before = runs[0].key
    (prepared / "manifest.csv").write_text("ID\nanother\n")
    assert expand(study, write(tmp_path, text), lists)[2][0].key != before


def arguments_of(shard="1/1", workers=2):
    return SimpleNamespace(shard=shard, workers=workers, launch="", device="cpu")


@pytest.fixture
def chains(study, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "trials_dev.txt").write_text("1 a/1 a/2\n")
    rows = "  a: {}\n  b: {warm_start: a}\n  c: {warm_start: b}\n"
    return expand(study, write(tmp_path, BASE + rows), tmp_path)[2]


def test_children_wait_for_their_parents_and_share_their_machine(study, tmp_path, chains, monkeypatch):
    lock, order = threading.Lock(), []

    def perform(run, output, *_):
        with lock:
            order.append((run.row, run.seed))
        (output / run.key).mkdir(parents=True)
        (output / run.key / "outcome.json").write_text('{"scores": {}}')

    monkeypatch.setattr(study.study, "perform", perform)
    for shard in ("2/2", "1/2"):
        study.study.execute(chains, tmp_path / "out", arguments_of(shard), "reported")
    assert order[:3] == [("a", 2), ("b", 2), ("c", 2)] and order[3:] == [("a", 1), ("b", 1), ("c", 1)]


def test_what_starts_from_a_failed_run_fails_and_says_so(study, tmp_path, chains, monkeypatch, capsys):
    def perform(run, output, *_):
        if (run.row, run.seed) == ("a", 1):
            raise RuntimeError("no space left")
        (output / run.key).mkdir(parents=True)
        (output / run.key / "outcome.json").write_text('{"scores": {}}')

    monkeypatch.setattr(study.study, "perform", perform)
    with pytest.raises(SystemExit, match="3 of 6 runs failed"):
        study.study.execute(chains, tmp_path / "out", arguments_of(), "reported")
    assert "small b seed 1: it starts from small a seed 1, which is not done" in capsys.readouterr().err


def test_training_time_is_the_sum_of_the_sittings_without_the_preparation(study, tmp_path):
    lines = [
        "2026-01-01 10:00:00,000 - speechbrain.core - INFO - Beginning experiment!",
        "2026-01-01 10:05:00,000 - speechbrain.utils.epoch_loop - INFO - Going into epoch 1",
        "2026-01-01 10:06:00,500 - alpha_sv.sb.brain - INFO - epoch 1, step 5: train loss 1.0",
        "a line without a time",
        "2026-01-02 09:00:00,000 - speechbrain.core - INFO - Beginning experiment!",
        "2026-01-02 09:01:00,000 - speechbrain.utils.epoch_loop - INFO - Going into epoch 2",
        "2026-01-02 09:03:00,000 - alpha_sv.sb.experiment - INFO - embedder saved",
    ]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    assert np.isclose(study.outcome.training_seconds(tmp_path / "log.txt"), 60.5 + 120)
    assert study.outcome.training_seconds(tmp_path / "none.txt") is None
    run = SimpleNamespace(key="k")
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "outcome.json").write_text("{}")
    assert study.outcome.outcome_of(run, tmp_path) == {"training_seconds": None}, "of before there was such a time"
