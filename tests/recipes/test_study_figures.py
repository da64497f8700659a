"""The study's figures: what is drawn is what the outcomes say,
also while the study is unfinished."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from alpha_sv.data.corpus.manifest import Utterance, write_manifest
from alpha_sv.data.trials.files import read_trials, write_scores, write_trials
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.embedding.store import StoreWriter
from tests.fixtures.replaced import command_line

STUDY = Path(__file__).parents[2] / "recipes" / "Study"
MODULES = ("grid", "outcome", "estimates", "geometry", "findings", "tables", "study", "panels", "questions", "figures")


@pytest.fixture
def study(monkeypatch):
    """The modules of the recipe, which is a folder of scripts and no package."""
    monkeypatch.syspath_prepend(str(STUDY))
    yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path):
    """Trials of 12 speakers, and of 4, which are too few for an interval."""
    for corpus, speakers in (("many", 12), ("few", 4)):
        names = [f"s{speaker:02d}/u/{k}.wav" for speaker in range(speakers) for k in range(3)]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        enroll, test = map(np.array, zip(*pairs, strict=True))
        (tmp_path / "data" / corpus).mkdir(parents=True)
        labels = np.array([a[:3] == b[:3] for a, b in pairs])
        write_trials(tmp_path / "data" / corpus / "trials_dev.txt", Trials(enroll, test, labels))
    return tmp_path / "data"


def found_of(study, tmp_path, data, rows, baselines="[]", zero_loss=None, skip=()):
    """Findings of a grid of 3 seeds, whose runs are pretended;
    `skip` are those (row, seed) that are not done."""
    text = f"""
corpora: [many, few]
top_n: 5
common: {{}}
models: {{small: {{recipe: ecapa, seeds: [1, 2, 3]}}}}
baselines: {baselines}
rows:
{rows}
"""
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    grid = {**study.grid.read_grid(tmp_path / "grid.yaml"), "output": tmp_path / "out"}
    best = {("small", row): {} for row in grid["rows"]}
    for run in study.grid.reported_runs(grid, data, best):
        if (run.row, run.seed) not in skip:
            pretend(run, tmp_path / "out" / run.key, list(grid["rows"]).index(run.row), (zero_loss or {}).get(run.row))
    (found,) = study.findings.by_model(grid, *study.study.reported(grid, data), replicates=60)
    return found


def pretend(run, folder, place, zero_loss=None):
    rng = np.random.default_rng(100 * place + run.seed)
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    for corpus, file in run.trials:
        trials = read_trials(file)
        for kind in ("cosine", "as-norm"):
            values = 1.5 * trials.labels + rng.normal(size=len(trials))
            write_scores(folder / f"{corpus}_{kind}", ScoreTable(trials.enroll, trials.test, values, trials.labels))
            scores.setdefault(corpus, {})[kind] = f"{corpus}_{kind}"
    log = []
    for epoch in (1, 2):
        figures = {"support": 10.0 / epoch, "zero_loss": zero_loss or 0.1, "zero_target": 0.5 / epoch}
        log += [{"kind": "train", "step": 2 * epoch - 1, "epoch": epoch - 0.5, **figures}]
        log += [{"kind": "valid", "step": 2 * epoch, "epoch": epoch, "eer": 0.2 + 0.01 * run.seed + 0.02 * place}]
    (folder / "train_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    outcome = {"development_eer": 0.2 + 0.01 * run.seed + 0.02 * place, "scores": scores}
    (folder / "outcome.json").write_text(json.dumps(outcome))


def drawn(ax, gid):
    """x and y of the lines with that gid."""
    return [line.get_xydata() for line in ax.get_lines() if line.get_gid() == gid]


def points(ax, gid):
    """The marks of the error bars with that gid."""
    return [bar.lines[0].get_xydata() for bar in ax.containers if bar.lines[0].get_gid() == gid]


KAPPA = "  a $alpha k $kappa: {each: {alpha: [1.5, 2], kappa: [2, 4]}, loss: 'alpha $alpha scale $scale'}"


def test_heat_map_has_each_eer_where_the_lines_of_constant_kappa_pass(study, tmp_path, data):
    found = found_of(study, tmp_path, data, KAPPA, skip={("a 1.5 k 2", s) for s in (1, 2, 3)})
    figure = study.questions.kappa(found)
    top = figure.axes[0]  # development trials
    texts = {text.get_position(): text.get_text() for text in top.texts if text.get_gid() == "eer"}
    # places 1, 2, 3 of the grid; the mean of three seeds is 0.22 + 0.02 place
    assert texts == {(-1.0, 3.0): "24.0", (0.0, 1.0): "26.0", (0.0, 2.0): "28.0"}
    for (x, y), kappa in zip(texts, (4, 2, 4), strict=True):
        ((x0, y0), (x1, y1)) = drawn(top, f"κ {kappa}")[0]
        assert np.isclose(y, y0 + (y1 - y0) * (x - x0) / (x1 - x0)), "the cell is on the line of its κ"
    assert figure.get_suptitle() == "small: 9 of 12 runs"


def test_variance_is_shared_out(study):
    explained = study.findings.explained
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 5)) + 3 * np.arange(4)[:, None] - np.arange(5)
    rows, columns = np.indices(values.shape)
    shares = explained(rows.ravel().tolist(), values.ravel()), explained(columns.ravel().tolist(), values.ravel())
    centred = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    assert np.isclose(sum(shares) + centred.var() / values.var(), 1), "two ways and their interaction are all there is"


def test_starvation_is_the_change_of_each_seed_against_its_own_start(study, tmp_path, data):
    rows = "  start: {}\n  soft: {warm_start: start}\n  hard: {warm_start: start, lr: 1}"
    found = found_of(study, tmp_path, data, rows, zero_loss={"soft": 0.2, "hard": 0.9}, skip={("start", 3)})
    figure = study.questions.starvation(found)
    development, many = figure.axes[1:3]
    assert np.allclose(drawn(development, "seeds of hard")[0], [[90, 4], [90, 4]]), "two seeds have a start"
    assert np.allclose(points(development, "soft")[0], [[20, 2]])
    expected = [found.eers("hard", "many")[seed] - found.eers("start", "many")[seed] for seed in (1, 2)]
    assert np.allclose(points(many, "hard")[0], [[90, np.mean(expected)]])
    assert [text.get_text() for text in figure.axes[4].get_legend().get_texts()] == ["soft", "hard"]


def test_heads_are_compared_seed_by_seed_with_the_interval_of_student(study, tmp_path, data):
    rows = "  q, $head: {each: {head: [dense, sparse]}, head: $head}\n"
    rows += "  a, $head: {each: {head: [sparse]}, head: $head, lr: 1}"
    found = found_of(study, tmp_path, data, rows)
    many = study.questions.heads(found).axes[1]
    sparse, dense = (found.eers(f"q, {head}", "many") for head in ("sparse", "dense"))
    expected = np.array([sparse[seed] - dense[seed] for seed in (1, 2, 3)])
    assert np.allclose(drawn(many, "seeds of q")[0][:, 0], expected)
    ((bar,),) = [bar.lines[2] for bar in many.containers if bar.lines[0].get_gid() == "q"]
    ((low, _), (high, _)) = bar.get_segments()[0]
    half = 4.302653 * expected.std(ddof=1) / np.sqrt(3)  # t of 2 degrees of freedom
    assert np.allclose([low, high], [expected.mean() - half, expected.mean() + half])
    assert "no seed of both" in [text.get_text() for text in many.texts], "a has no dense run"


def test_curves_are_means_of_seeds_and_say_when_prototypes_were_set_anew(study, tmp_path, data):
    rows = "  plain: {}\n  anew: {reinit_epoch: 2}\n  late: {lr: 1}"
    found = found_of(study, tmp_path, data, rows, baselines="[plain]", skip={("late", s) for s in (1, 2, 3)})
    for run in found.finished("anew"):
        log = "x - epoch 2: 659 prototypes set to their speakers' mean embedding (A3M-I)\n"
        (found.folder(run) / "log.txt").write_text(log)
    figure = study.panels.instability(found)
    plain, anew = figure.axes[:2], figure.axes[2:]
    assert np.allclose(drawn(plain[1], "plain")[0], [[1, 22], [2, 22]])
    assert np.allclose(drawn(anew[0], "anew")[0], [[1, 50], [2, 25]])
    assert np.allclose(drawn(anew[1], "reference")[0], drawn(plain[1], "plain")[0])
    assert [drawn(ax, "anew")[-1][0, 0] for ax in anew] == [1, 1] and len(drawn(anew[0], "anew")) == 2
    assert all(ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 1.04 * 25 for ax in figure.axes), "no row is cut off"
    assert "6 of 9 runs" in figure.get_suptitle() and "no run yet: late" in figure.get_suptitle()
    assert len(study.panels.training(found).axes) == 2 * 4


def test_comparison_draws_the_estimates_of_the_table(study, tmp_path, data):
    found = found_of(study, tmp_path, data, "  plain: {}\n  sharp: {lr: 1}", baselines="[plain]")
    figure = study.panels.comparison(found, "many")
    levels, differences = figure.axes[0], figure.axes[3]
    of = found.estimates("many")
    expected = [of.level(row, "eer")[0] for row in ("plain", "sharp")]
    assert np.allclose([xy[0, 0] for xy in drawn(levels, "cosine")], expected)
    (one,) = drawn(differences, "cosine")
    assert np.isclose(one[0, 0], expected[1] - expected[0]), "paired, and none of the baseline to itself"
    lines = [xy for xy in drawn(levels, "_none") or [line.get_xydata() for line in levels.get_lines()] if len(xy) == 2]
    assert any(np.allclose(xy[:, 0], of.level("plain", "eer")[1:3]) for xy in lines)


def test_geometry_tells_prototypes_at_the_means_from_prototypes_apart(study, tmp_path):
    """Speakers at 0° and 60°, each with utterances 30° to either side;
    prototypes at the means, then 30° outside."""
    folder, degrees = tmp_path / "run", {"a/1": -30.0, "a/2": 30.0, "b/1": 30.0, "b/2": 90.0}
    turned = lambda angles: np.stack([np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))], 1).astype(np.float32)  # noqa: E731
    ids, speakers = list(degrees), [name[0] for name in degrees]
    writer = StoreWriter(folder / "embeddings", ids, speakers, ["train"] * 4, 2, "key")
    writer.write(range(4), 3 * turned(list(degrees.values())))
    writer.finish()
    write_manifest(
        folder / "manifest.csv",
        [Utterance(name, f"/{name}", name[0], "", 16000, 16000, 1, "train") for name in [*ids[2:], *ids[:2]]],
    )
    (folder / "labels.json").write_text('{"a": 0, "b": 1}')
    assert study.geometry.geometry(folder, folder / "manifest.csv") is None, "no prototypes yet"
    for angles, own, apart in (([0, 60], 1.0, 0.5), ([-30, 90], np.sqrt(0.75), -0.5)):
        prototypes = np.concatenate([2 * turned(angles), turned([45])])  # the third is no speaker's
        safetensors.numpy.save_file({"weight": prototypes}, folder / "prototypes.safetensors")
        found = study.geometry.geometry(folder, folder / "manifest.csv")
        assert found == pytest.approx({"own": own, "prototypes": apart, "means": 0.5}, abs=1e-6)


def test_the_mean_of_two_lists_is_their_mean_and_as_certain_as_two_independent_ones(study, tmp_path, data):
    found = found_of(study, tmp_path, data, "  plain: {}\n  sharp: {lr: 1}", baselines="[plain]")
    of, few = found.estimates("many"), found.estimates("few")
    alone = of.difference("sharp", "plain", "eer")
    twice = study.estimates.difference([of, of], "sharp", "plain", "eer")
    assert np.isclose(twice[0], alone[0]) and np.isclose(twice[3], alone[3])
    assert 0.55 < (twice[2] - twice[1]) / (alone[2] - alone[1]) < 0.9, "1/√2 of it"
    both = study.estimates.difference([of, few], "sharp", "plain", "eer")
    assert np.isclose(both[0], (alone[0] + few.difference("sharp", "plain", "eer")[0]) / 2) and np.isnan(both[1])
    assert study.estimates.difference([], "sharp", "plain", "eer") is None
    (one,) = drawn(study.panels.verdict(found).axes[0], "cosine")
    assert np.isclose(one[0, 0], alone[0]), "the list of too few speakers is not in it"


def test_a_list_of_too_few_speakers_has_values_and_no_intervals(study, tmp_path, data):
    found = found_of(study, tmp_path, data, "  plain: {}\n  sharp: {lr: 1}", baselines="[plain]")
    value, low, high, spread = found.estimates("few").level("plain", "eer")
    assert np.isfinite([value, spread]).all() and np.isnan([low, high]).all()
    table = study.tables.result_tables([found])["tables"]
    of_many, of_few = (table.split(f"### small, {corpus}, cosine")[1].split("###")[0] for corpus in ("many", "few"))
    assert re.search(r"\| plain \| 3 \| [\d.]+ \[[\d.]+, [\d.]+\] ± [\d.]+ \|", of_many)
    assert re.search(r"\| plain \| 3 \| [\d.]+ ± [\d.]+ \|", of_few)
    study.panels.comparison(found, "few")


def test_brief_table_has_the_models_side_by_side_and_only_lists_with_intervals(study, tmp_path, data):
    found = found_of(study, tmp_path, data, "  plain: {}\n  sharp: {lr: 1}")
    grid = {**found.grid, "models": {"large": {"rows": ["plain"]}}}
    plain = [run for run in found.runs if run.row == "plain"]
    other = dataclasses.replace(found, model="large", grid=grid, runs=plain)
    lines = study.tables.result_tables([found, other])["brief"].splitlines()
    cosine, normed = (found.estimates("many", kind).level("sharp", "eer")[0] for kind in ("cosine", "as-norm"))
    assert lines[0] == "| EER % | many, small | many, large |"
    assert lines[3] == f"| sharp | {cosine:.2f} → {normed:.2f} | – |"


def test_command_writes_what_the_grid_asks_for_and_says_what_lacks(study, tmp_path, data, monkeypatch, capsys):
    found_of(study, tmp_path, data, "  plain: {}", skip={("plain", s) for s in (1, 2, 3)})
    grid = tmp_path / "grid.yaml"
    argv = [
        "figures.py",
        grid,
        "--data",
        data,
        "--output",
        tmp_path / "out",
        "-o",
        tmp_path / "png",
        "--replicates",
        60,
    ]
    with command_line(*argv), pytest.raises(SystemExit, match="small: no run is finished yet"):
        study.figures.main()
    grid.write_text("figures: [training, comparison, kappa]\n" + grid.read_text(encoding="utf-8"), encoding="utf-8")
    content = study.grid.read_grid(grid)
    run = study.grid.reported_runs(content, data, {("small", "plain"): {}})[0]
    pretend(run, tmp_path / "out" / run.key, 0)
    with command_line(*argv), pytest.raises(SystemExit, match="grid_kappa_small.png: no run of a row with"):
        study.figures.main()
    names = ["comparison_few", "comparison_many", "training"]
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [f"grid_{name}_small.png" for name in names]
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(ValueError, match="no figure is called 'portrait'"):
        study.figures.drawings(SimpleNamespace(grid={**content, "figures": ["portrait"]}))
