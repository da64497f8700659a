"""Folds of speakers: who is tested where,
and whether intervals of folds compared one by one mean what they say."""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm

from alpha_sv import scoring
from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.files import read_trials
from alpha_sv.metrics import eer, speaker_bootstrap
from tests.fixtures.speech_tree import make_tree

STUDY = Path(__file__).parents[2] / "recipes" / "Study"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    names = ("folds", "estimates", "grid")
    yield SimpleNamespace(**{name: __import__(name) for name in names})
    for name in (*names, "outcome", "findings", "tables"):
        sys.modules.pop(name, None)


@pytest.fixture
def dealt(study, tmp_path):
    """Two corpora of 9 and 6 speakers in three folds."""
    for corpus, speakers in (("one", 9), ("two", 6)):
        make_tree(tmp_path / "data" / corpus, speakers, utterances=5)
        for folder in (tmp_path / "data" / corpus / "wav").iterdir():
            folder.rename(folder.with_name(f"{corpus}-{folder.name}"))
    settings = {"count": 3, "num_valid_speakers": 4, "most": 4, "nontarget": 20}
    grid = {"output": tmp_path / "runs", "folds": settings, "corpora": ["one", "two"]}
    return grid, tmp_path / "data"


def test_every_speaker_is_tested_once_by_a_network_that_never_heard_it(study, dealt):
    study.folds.make_folds(*dealt)
    tested = Counter()
    for number in (1, 2, 3):
        folder = study.folds.fold_folder(*dealt, number)
        splits = {split: read_manifest(folder / "manifest.csv", split) for split in ("train", "valid", "test")}
        speakers = {split: {u.speaker for u in utterances} for split, utterances in splits.items()}
        assert not speakers["train"] & speakers["test"] and not speakers["valid"] & speakers["test"]
        assert not speakers["train"] & speakers["valid"]
        assert len(speakers["valid"]) == 4 and sum(map(len, speakers.values())) == 15
        tested.update(speakers["test"])
        for corpus in ("one", "two"):
            trials = read_trials(folder / f"trials_{corpus}.txt")
            named = {name.split("/")[0] for side in (trials.enroll, trials.test) for name in side.tolist()}
            assert named == {speaker for speaker in speakers["test"] if speaker.startswith(corpus)}
            same = [a.split("/")[0] == b.split("/")[0] for a, b in zip(trials.enroll, trials.test, strict=True)]
            assert same == trials.labels.tolist() and (~trials.labels).sum() == min(20, 16 * (len(named) - 1))
        valid = read_trials(folder / "valid_trials.txt")
        assert {name.split("/")[0] for name in valid.enroll.tolist()} <= speakers["valid"]
    assert len(tested) == 15 and set(tested.values()) == {1}


def test_target_pairs_cross_sessions_where_there_are_several(study, dealt):
    study.folds.make_folds(*dealt)
    trials = read_trials(study.folds.fold_folder(*dealt, 1) / "trials_one.txt")
    pairs = [(a, b) for a, b, same in zip(trials.enroll, trials.test, trials.labels, strict=True) if same]
    assert pairs and all(a.split("/")[1] != b.split("/")[1] for a, b in pairs)


def test_jobs_that_begin_together_wait_for_the_one_that_deals(study, dealt):
    with ThreadPoolExecutor(4) as jobs:
        [done.result() for done in [jobs.submit(study.folds.make_folds, *dealt) for _ in range(4)]]
    assert len(read_manifest(study.folds.fold_folder(*dealt, 3) / "manifest.csv")) == 60


def test_folds_are_the_same_on_another_day(study, dealt):
    found = []
    for place in ("here", "elsewhere"):
        grid = {**dealt[0], "output": dealt[0]["output"].with_name(place)}
        study.folds.make_folds(grid, dealt[1])
        folder = study.folds.fold_folder(grid, dealt[1], 2)
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]


def test_a_grid_with_folds_tunes_each_row_in_each_fold_and_reports_the_run_it_chose(study, dealt, tmp_path):
    grid_file = tmp_path / "grid.yaml"
    grid_file.write_text(
        "corpora: [one, two]\ntop_n: 5\nfolds: {count: 3, num_valid_speakers: 4, most: 4, nontarget: 20}\n"
        "recipe_folder: ../Finetune\ncommon: {model: x, train_from: y}\ntuning: {seed: 1}\n"
        "models: {net: {recipe: last_layers, seeds: [1, 2]}}\n"
        "rows: {as it comes: {as_it_is: true}, a: {tune: {lr: [1, 2]}}, b: {tune: {margin: [1, 2]}}}\n"
    )
    grid = {**study.grid.read_grid(grid_file), "output": tmp_path / "runs"}
    study.folds.make_folds(grid, dealt[1])
    tuning = study.grid.tuning_runs(grid, dealt[1])
    assert Counter(run.model for run in tuning) == {f"net, fold {k}": 4 for k in (1, 2, 3)}
    best = study.grid.chosen(grid, tuning, {run.key: {"development_eer": n % 2} for n, run in enumerate(tuning)})
    runs = study.grid.reported_runs(grid, dealt[1], best)
    assert len(runs) == 3 * (1 + 2 * 2) and sum(run.as_it_is for run in runs) == 3
    trained = [run for run in runs if not run.as_it_is]
    assert {run.key for run in trained if run.seed == 1} < {run.key for run in tuning}
    assert len({run.key for run in runs}) == len(runs)


# Systems with a known difference: a score is d for a target trial,
# and an effect of each speaker and each trial.
SPEAKER, TRIAL, D, COHORT = 0.5, 0.8, (3.0, 3.5), 200


def true_eer(d, speaker=SPEAKER):
    target, nontarget = np.hypot(2 * speaker, TRIAL), np.hypot(2**0.5 * speaker, TRIAL)
    threshold = brentq(lambda t: norm.sf(t / nontarget) - norm.cdf((t - d) / target), 0, d)
    return norm.sf(threshold / nontarget)


def simulated(rng, speakers, shift, as_norm=False):
    """Scores [2, N] of two systems in a fold of its own scale, sides and labels.

    As AS-norm takes half of both speakers' effects away, its truth is `true_eer` of half of them.
    """
    utterances = np.repeat(np.arange(speakers), 4)
    a, b = np.triu_indices(len(utterances), 1)
    a, b = utterances[a], utterances[b]
    keep = (a == b) | (rng.random(len(a)) < 0.4)
    a, b = a[keep], b[keep]
    common = rng.normal(0, 0.9 * SPEAKER, speakers)
    own = [common + rng.normal(0, (1 - 0.81) ** 0.5 * SPEAKER, speakers) for _ in D]
    noise = rng.normal(0, 0.7 * TRIAL, len(a))
    scores = [
        d * (a == b) + v[a] + v[b] + noise + rng.normal(0, (1 - 0.49) ** 0.5 * TRIAL, len(a))
        for d, v in zip(D, own, strict=True)
    ]
    scale, offset = np.exp(rng.normal(0, shift / 4, 2)), rng.normal(0, shift, 2)
    scores = np.stack(scores) * scale[:, None] + offset[:, None]
    if as_norm:
        others = rng.normal(0, SPEAKER, (2, 1, COHORT)) + rng.normal(0, TRIAL, (2, speakers, COHORT))
        cohort = (np.stack(own)[..., None] + others) * scale[:, None, None] + offset[:, None, None]
        sides = [
            [(mean[side], std[side]) for side in (a, b)]
            for mean, std in zip(cohort.mean(2), cohort.std(2), strict=True)
        ]
        scores = np.stack([scoring.as_norm(of, *stats) for of, stats in zip(scores, sides, strict=True)])
    return scores, [f"{s}" for s in a], [f"{s}" for s in b], a == b


def fold_by_fold(study, folds, replicates):
    lists = []
    for scores, left, right, labels in folds:
        boot = speaker_bootstrap(scores, np.array(left), np.array(right), labels, replicates=replicates)
        observed = {"eer": np.array([eer(s[labels], s[~labels])[0] for s in scores])}
        runs = [SimpleNamespace(row=row, seed=1) for row in "AB"]
        lists.append(study.estimates.Estimates(runs, observed, {"eer": np.array([True, True])}, boot))
    return study.estimates.difference(lists, "B", "A", "eer")[:3]


def pooled(folds, replicates):
    scores = np.concatenate([fold[0] for fold in folds], axis=1)
    left, right = ([f"{k}/{s}" for k, fold in enumerate(folds) for s in fold[side]] for side in (1, 2))
    labels = np.concatenate([fold[3] for fold in folds])
    boot = speaker_bootstrap(scores, np.array(left), np.array(right), labels, replicates=replicates)
    value = [100 * eer(s[labels], s[~labels])[0] for s in scores]
    draws = 100 * boot.draws[..., boot.metrics.index("eer")]
    draws = draws[:, 1] - draws[:, 0]
    return value[1] - value[0], *boot.interval(draws)


def coverage(study, trials, shift, as_norm=False, speakers=20, replicates=200):
    """(method → fraction of intervals with the true difference in them,
    mean error of the estimate in points)."""
    effect = SPEAKER / 2 if as_norm else SPEAKER
    truth = 100 * (true_eer(D[1], effect) - true_eer(D[0], effect))
    found = {"fold by fold": [], "pooled": []}
    for number in range(trials):
        rng = np.random.default_rng((7, number))
        folds = [simulated(rng, speakers, shift, as_norm) for _ in range(5)]
        found["fold by fold"].append(fold_by_fold(study, folds, replicates))
        found["pooled"].append(pooled(folds, replicates))
    return {
        name: (np.mean([low <= truth <= high for _, low, high in of]), np.mean([value - truth for value, *_ in of]))
        for name, of in found.items()
    }, truth


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_the_interval_over_folds_has_the_true_difference_in_it_as_often_as_it_says(study, shift, record_property):
    """Fold by fold whatever the folds' scales;
    in one list only where all folds have nearly the same scale."""
    trials = 100
    found, truth = coverage(study, trials, shift)
    record_property("coverage", str((shift, truth, found)))
    covered, error = found["fold by fold"]
    assert binom.cdf(round(trials * covered), trials, 0.95) > 0.005
    assert abs(error) < 0.15
    if shift == 1.0:
        assert found["pooled"][0] < 0.8


@pytest.mark.slow
def test_after_as_norm_in_each_fold_the_scores_may_stand_in_one_list_too(study, record_property):
    """It takes the folds' scales away. Fold by fold is as good, and needs no cohort."""
    trials = 100
    found, truth = coverage(study, trials, 1.0, as_norm=True)
    record_property("coverage", str((truth, found)))
    for covered, error in found.values():
        assert binom.cdf(round(trials * covered), trials, 0.95) > 0.005 and abs(error) < 0.15
