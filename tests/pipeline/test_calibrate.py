"""Fitting a calibrator and saying what it is worth;
durations from manifests; what scores it may be applied to."""

import json

import numpy as np
import pytest

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.pipeline.calibrate import (
    calibration_text,
    errors_at_points,
    fit_calibrator,
    manifest_durations,
    points_text,
    refuse_other_scores,
    warn_of_other_range,
)
from alpha_sv.scoring import Calibrator, fit_calibration


def trials_of(speakers, nontargets, distance, seed=0):
    """Three target trials per speaker and nontarget trials
    between random pairs, N(distance, 1) and N(0, 1)."""
    rng = np.random.default_rng(seed)
    enroll = np.concatenate([np.repeat(np.arange(speakers), 3), rng.integers(speakers, size=nontargets)])
    test = enroll.copy()
    test[3 * speakers :] = (test[3 * speakers :] + rng.integers(1, speakers, size=nontargets)) % speakers
    sides = enroll.astype(str), test.astype(str)
    return ScoreTable(*sides, rng.normal(np.where(enroll == test, distance, 0), 1), enroll == test), sides


def fresh_cllr(calibrator, distance):
    rng = np.random.default_rng(99)
    target, nontarget = calibrator.llrs(rng.normal(distance, 1, 20_000)), calibrator.llrs(rng.normal(0, 1, 200_000))
    return (np.logaddexp(0, -target).mean() + np.logaddexp(0, nontarget).mean()) / (2 * np.log(2))


@pytest.mark.parametrize("seed", range(4))
def test_a_separable_list_gives_a_modest_calibrator_that_is_honest_about_it(seed, caplog):
    # the fault: a slope of 172, "Cllr 0.0065 on speakers
    # it did not hear", and 1.19 on speakers it did not hear
    table, sides = trials_of(30, 870, distance=6.5, seed=seed)
    calibrator, unheard = fit_calibrator(table, sides)
    assert calibrator.support["separable"] and calibrator.support["speakers"] == 30
    assert -np.log(91) < calibrator.bounds[0] < -3 and 3 < calibrator.bounds[1] < np.log(871)
    assert "do not show how often they err" in caplog.text and "do not show" in " ".join(calibrator.warnings)
    assert fresh_cllr(calibrator, 6.5) < 0.05
    assert abs(unheard["cllr"] - fresh_cllr(calibrator, 6.5)) < 0.03


def test_folds_that_are_separable_do_not_spoil_the_verdict():
    # the reverse fault: a list that is fine was told a Cllr of 2.02,
    # because some of its folds are separable
    for seed in range(4):
        table, sides = trials_of(12, 200, distance=4.5, seed=seed)
        calibrator, unheard = fit_calibrator(table, sides)
        assert abs(unheard["cllr"] - fresh_cllr(calibrator, 4.5)) < 0.15 and unheard["cllr"] < 0.4


def test_scores_that_say_nothing_are_held_near_zero(caplog):
    rng = np.random.default_rng(2)
    table, sides = trials_of(12, 200, distance=0.0)
    table = ScoreTable(*sides, rng.normal(np.where(table.labels, 0.02, 0), 1), table.labels)
    calibrator, unheard = fit_calibrator(table, sides, allow_inverted=True)
    assert abs(fresh_cllr(calibrator, 0.0) - 1) < 0.02
    assert not calibrator.supports("p_target 0.01") and calibrator.warnings


def test_points_have_counts_that_are_true():
    table, sides = trials_of(60, 6000, distance=3.0)
    calibrator, _ = fit_calibrator(table, sides, p_target=0.05)
    for point in calibrator.points:
        assert (point.targets, point.nontargets, point.speakers) == (180, 6000, 60)
    one_percent = calibrator.point("fpr 1e-2")
    assert one_percent.false_accepts == 60 and calibrator.supports("fpr 0.01", false_accepts=30)
    # the same thresholds on the bounded LLRs of the same trials: about as many errors
    again = {point["name"]: point for point in errors_at_points(calibrator, calibrator.apply(table))}
    assert abs(again["fpr 1e-2"]["false_accepts"] - 60) <= 6
    assert not calibrator.supports("fpr 1e-4")
    text = calibration_text(calibrator, {"cllr": 0, "min_cllr": 0, "act_dcf": [], "min_dcf": []})
    assert text.split("fpr 1e-4 ")[1].splitlines()[0].endswith("not supported")
    assert (
        max(map(len, text.splitlines())) <= 80 and max(map(len, points_text(list(again.values())).splitlines())) <= 80
    )
    assert calibrator.llr(float(table.scores[7])) == calibrator.llrs(table.scores)[7]


def test_a_kind_of_scores_is_remembered_and_checked(tmp_path, caplog):
    table, sides = trials_of(20, 500, distance=3.0)
    sources = {"sources": {"model": {"file": "m", "sha256": "a" * 64}}}
    calibrator, _ = fit_calibrator(table, sides, kind="cosine", provenance=sources)
    calibrator.save(tmp_path / "c.json")
    calibrator = Calibrator.load(tmp_path / "c.json")
    same = {"model": {"file": "m2", "sha256": "a" * 64}}
    for known, kind in ((same, "cosine"), ({}, None), (same, None), ({}, "cosine")):
        refuse_other_scores(calibrator, known, kind)
    with pytest.raises(ValueError, match="kind 'cosine', and these are 'as-norm top 300'.*--any-scores"):
        refuse_other_scores(calibrator, same, "as-norm top 300")
    with pytest.raises(ValueError, match="model 'aaa.*', and these are 'bbb"):
        refuse_other_scores(calibrator, {"model": {"file": "m", "sha256": "b" * 64}}, "cosine")
    with pytest.raises(ValueError, match="fitted to scores of the kind 'cosine', these are 'llr'"):
        calibrator.apply(table, kind="llr")
    caplog.clear()
    warn_of_other_range(calibrator, table.scores)
    assert caplog.text == ""
    warn_of_other_range(calibrator, table.scores * 20)
    assert "% of the scores are far from those that the calibrator was fitted to" in caplog.text


def test_a_calibrator_of_the_first_format_still_works(tmp_path):
    # as commit 962bb18 wrote it: no bounds, support, kind or warnings
    old = {
        "format": "alpha_sv.calibration/1",
        "weight": 20.0,
        "offset": -6.0,
        "qualities": [{"name": "log_duration_min", "mean": 1.0, "scale": 0.5, "weight": 0.25}],
        "points": [{"name": "fpr 1e-2", "threshold": 2.5, "false_accepts": 12, "misses": 3}],
        "provenance": {"targets": 60, "nontargets": 1200, "p_target": 0.01},
    }
    (tmp_path / "old.json").write_text(json.dumps(old))
    calibrator = Calibrator.load(tmp_path / "old.json")
    np.testing.assert_allclose(calibrator.llrs([1.0, 0.0], {"log_duration_min": [2.0, 99.0]}), [14.5, 43.0])
    assert calibrator.threshold("fpr 1e-2") == 2.5 and calibrator.supports("fpr 1e-2")
    calibrator.save(tmp_path / "new.json")
    assert Calibrator.load(tmp_path / "new.json") == calibrator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: (-s, t), "If the scores are distances, negate them"),
        (lambda s, t: (s, ~t), "if the labels are exchanged, correct them"),
        (lambda s, t: (s * 0 + 3, t), "in every trial"),
        (lambda s, t: (np.where(t, np.nan, s), t), "is nan"),
        (lambda s, t: (np.where(t, 1.7e308, -1.7e308), t), "in another unit"),
        (lambda s, t: (s.astype(complex), t), "real numbers are needed"),
        (lambda s, t: (s.astype(str), t), "real numbers are needed"),
        (lambda s, t: (s[:0], t[:0]), "0 target and 0 nontarget"),
        (lambda s, t: (s, np.where(t, 1, -1)), "booleans or 0 / 1"),
        (lambda s, t: (s, np.where(t, "target", "nontarget")), "booleans or 0 / 1"),
        (lambda s, t: (s, t[:, None]), "booleans or 0 / 1"),
        (lambda s, t: (s[1:], t), "one value for each"),
    ],
)
def test_a_hostile_list_is_refused_in_words(change, message):
    table, _ = trials_of(20, 400, distance=3.0)
    with pytest.raises(ValueError, match=message):
        fit_calibration(*change(table.scores, table.labels))


@pytest.mark.parametrize(
    "change",
    [
        lambda s, t: (s.astype(np.float16), t),
        lambda s, t: ((s * 10).astype(int), t.astype(int)),
        lambda s, t: (s > 1.5, t.tolist()),  # two scores only
        lambda s, t: (np.where(t, 1.0, 0.0), t),  # one score for each class
        lambda s, t: (s, np.arange(len(t)) < 1),  # one target trial
        lambda s, t: (s + 9 * (np.arange(len(t)) > 0), np.arange(len(t)) > 0),  # one nontarget trial
        lambda s, t: ([2.0, 1.0], [True, False]),
        lambda s, t: (s * 1e-200, t),
        lambda s, t: (s * 1e200, t),
        lambda s, t: (s + 1e9, t),
        lambda s, t: (np.where(np.arange(len(s)) % 2, s, -999999.0), t),  # half of all are sentinels
        lambda s, t: (np.where(t, s + 1e6, s), t),  # far apart
        lambda s, t: (np.random.default_rng(0).standard_cauchy(len(s)) + 5 * t, t),
    ],
)
def test_a_hostile_list_promises_no_more_than_it_knows(change):
    table, _ = trials_of(20, 400, distance=3.0)
    scores, labels = change(table.scores, table.labels)
    calibrator = fit_calibration(scores, labels)
    llrs, labels = calibrator.llrs(scores), np.asarray(labels, dtype=bool)
    assert (np.logaddexp(0, -llrs[labels]).mean() + np.logaddexp(0, llrs[~labels]).mean()) / (2 * np.log(2)) <= 1.0001
    assert -np.log(labels.sum() + 1) <= min(llrs.min(), -0.001) and llrs.max() <= max(
        np.log((~labels).sum() + 1), 0.001
    )
    order = np.argsort(scores, kind="stable")
    assert (np.diff(llrs[order]) >= 0).all()


@pytest.mark.parametrize("kind, scale", [("cosine", 0.1), ("as-norm top 30", 1.0)])
def test_the_calibrator_has_the_histogram_that_the_page_of_serve_draws(kind, scale):
    table, sides = trials_of(20, 400, distance=3.0)
    scores = np.concatenate([scale * table.scores, [-999999.0]])  # the last one, a sentinel, must not stretch it
    sides = tuple(np.append(side, name) for side, name in zip(sides, ("0", "1"), strict=True))
    table = ScoreTable(*sides, scores, np.append(table.labels, False))
    calibrator, _ = fit_calibrator(table, sides, kind=kind)
    found = json.loads(json.dumps(calibrator.provenance["histogram"]))
    assert (sum(found["targets"]), sum(found["nontargets"])) == (60, 401)
    assert found["low"] <= scores[:-1].min() and found["high"] >= scores.max() and found["low"] > -10
    edges = np.linspace(found["low"], found["high"], 61)
    assert found["targets"] == np.histogram(scores[table.labels], edges)[0].tolist()
    assert kind != "cosine" or found["high"] == 1.0


def test_durations_are_those_of_the_shorter_and_the_longer_side(world):
    seconds = {u.utt_id: u.duration for u in read_manifest(world / "manifest.csv")}
    enroll, test = np.random.default_rng(0).choice(sorted(seconds), size=(2, 50))
    found = manifest_durations(ScoreTable(enroll, test, np.zeros(50)), [world / "manifest.csv"])
    pairs = [sorted((seconds[a], seconds[b])) for a, b in zip(enroll.tolist(), test.tolist(), strict=True)]
    np.testing.assert_allclose(np.exp(found["log_duration_min"]), [low for low, _ in pairs])
    np.testing.assert_allclose(np.exp(found["log_duration_max"]), [high for _, high in pairs])


def test_an_utterance_without_a_duration_is_named(world):
    with pytest.raises(ValueError, match="manifest.csv: no duration of 1 utterances .*'nobody.wav'"):
        manifest_durations(ScoreTable(["nobody.wav"], ["test00/s0/00.wav"], [0.0]), [world / "manifest.csv"])
