"""A calibrated score is a log-likelihood ratio:
known where theory knows it, best where it can only be measured."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, an independent implementation")

from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from alpha_sv.data.trials.files import ScoreTable
from alpha_sv.metrics import evaluate
from alpha_sv.scoring import (
    Calibrator,
    cohort_qualities,
    cross_calibrate,
    duration_qualities,
    fit_calibration,
    with_points,
)
from alpha_sv.scoring.calibrator import OperatingPoint, Quality
from tests.batteries import damaged_files


def cllr(llrs, labels):
    """Bits (Brümmer and du Preez 2006)."""
    return (np.log1p(np.exp(-llrs[labels])).mean() + np.log1p(np.exp(llrs[~labels])).mean()) / (2 * np.log(2))


def min_cllr(scores, labels):
    """Cllr of the best monotone map, by scikit-learn's isotonic regression."""
    posterior = IsotonicRegression().fit_transform(scores, labels)
    with np.errstate(divide="ignore"):
        llrs = np.log(posterior) - np.log1p(-posterior) - np.log(labels.sum() / (~labels).sum())
    return cllr(llrs, labels)


def gaussians(targets, nontargets, seed=0, distance=4.0):
    """Scores whose true LLR is distance * score: unit variance, means +- distance / 2."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(distance / 2, 1, targets), rng.normal(-distance / 2, 1, nontargets)])
    order = rng.permutation(len(scores))
    return scores[order], (np.arange(len(scores)) < targets)[order]


@pytest.fixture(scope="module")
def crowd():
    """Scores between 30 speakers, five utterances each,
    with the duration of each side; short ones score lower."""
    rng = np.random.default_rng(1)
    speaker = np.repeat(np.arange(30), 5)
    enroll, test = np.triu_indices(len(speaker), k=1)
    labels = speaker[enroll] == speaker[test]
    seconds = rng.uniform(1, 10, len(speaker))
    shorter = np.minimum(seconds[enroll], seconds[test])
    scores = rng.normal(np.where(labels, 0.1 + 0.2 * np.log(shorter), 0.0), 0.1)
    names = np.char.add("s", speaker.astype(str))
    return scores, labels, names[enroll], names[test], duration_qualities(seconds[enroll], seconds[test])


@pytest.mark.parametrize(("p_target", "tolerance"), [(0.5, 0.03), (0.01, 0.08)])
@pytest.mark.parametrize("targets", [100_000, 10_000])
def test_two_gaussians_of_equal_variance_have_a_known_llr(p_target, tolerance, targets):
    # and the share of targets in the list is not part of it
    scores, labels = gaussians(targets, 100_000)
    calibrator = fit_calibration(0.1 * scores + 0.3, labels, p_target=p_target)
    assert calibrator.weight == pytest.approx(4.0 / 0.1, rel=tolerance)
    assert calibrator.offset == pytest.approx(-4.0 * 3, abs=4 * 3 * tolerance)


def test_the_fit_is_that_of_scikit_learn():
    # independent route: its class weights put the prior
    # into the intercept, where it has to be taken out again
    scores, labels = gaussians(500, 3000)
    for p_target in (0.01, 0.5):
        weights = np.where(labels, p_target / 500, (1 - p_target) / 3000)
        other = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000).fit(scores[:, None], labels, weights * 1e4)
        calibrator = fit_calibration(scores, labels, p_target=p_target)
        assert calibrator.weight == pytest.approx(other.coef_[0, 0], rel=1e-3)
        assert calibrator.offset == pytest.approx(
            other.intercept_[0] - np.log(p_target / (1 - p_target)), abs=1e-3 * calibrator.weight
        )


def test_calibrated_cllr_is_close_to_the_least_any_monotone_map_reaches():
    scores, labels = gaussians(20_000, 20_000)
    llrs = fit_calibration(scores / 7 + 2, labels, p_target=0.5).llrs(scores / 7 + 2)
    assert min_cllr(scores, labels) <= cllr(llrs, labels) < min_cllr(scores, labels) + 0.005
    assert cllr(scores / 7 + 2, labels) > 2 * cllr(llrs, labels)


@pytest.mark.parametrize("p_target", [0.5, 0.01])
def test_the_unit_of_the_scores_cancels(p_target):
    scores, labels = gaussians(300, 2000)
    quality = np.random.default_rng(2).normal(size=2300)
    expected = fit_calibration(scores, labels, {"q": quality}, p_target=p_target).llrs(scores, {"q": quality})
    for scale, shift in ((1e-6, 3.0), (1e5, -1e6)):
        moved, q = scale * scores + shift, {"q": shift - scale * quality}
        llrs = fit_calibration(moved, labels, q, p_target=p_target).llrs(moved, q)
        np.testing.assert_allclose(llrs, expected, atol=1e-6)


def test_exchanging_the_classes_negates_the_llr():
    scores, labels = gaussians(300, 2000)
    llrs = fit_calibration(scores, labels, p_target=0.2).llrs(scores)
    np.testing.assert_allclose(fit_calibration(-scores, ~labels, p_target=0.8).llrs(-scores), -llrs, atol=1e-7)


@pytest.mark.parametrize("gap", [0.1, 1.0, 1e3])
def test_separable_classes_have_finite_llrs(gap):
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.uniform(gap, gap + 1, 50), rng.uniform(-gap - 1, -gap, 500)])
    labels = np.arange(550) < 50
    calibrator = fit_calibration(scores, labels)
    llrs = calibrator.llrs(scores)
    assert llrs[labels].min() > 0 > llrs[~labels].max() and np.abs(llrs).max() < 1000


def test_a_quality_that_matters_helps_on_speakers_not_heard(crowd):
    scores, labels, enroll, test, durations = crowd
    options = {"p_target": 0.5, "folds": 5, "seed": 0}
    plain = cllr(cross_calibrate(scores, labels, enroll, test, **options), labels)
    aware = cllr(cross_calibrate(scores, labels, enroll, test, durations, **options), labels)
    assert aware < 0.95 * plain
    noise = {"noise": np.random.default_rng(4).normal(size=len(scores))}
    assert cllr(cross_calibrate(scores, labels, enroll, test, noise, **options), labels) > 0.99 * plain


def test_no_llr_comes_from_a_calibrator_that_heard_its_speakers(crowd):
    # if the speakers of a trial had a say in its calibrator,
    # spoiling all their other trials would move its LLR
    scores, labels, enroll, test, _ = crowd
    before = cross_calibrate(scores, labels, enroll, test, seed=7)
    for row in (0, 1000, np.flatnonzero(labels)[3]):
        own = np.isin(enroll, (enroll[row], test[row])) | np.isin(test, (enroll[row], test[row]))
        spoiled = np.where(own, scores + 5 * ~labels, scores)
        spoiled[row] = scores[row]
        after = cross_calibrate(spoiled, labels, enroll, test, seed=7)
        assert after[row] == pytest.approx(before[row], abs=1e-12)
        assert np.abs(after[~own] - before[~own]).max() > 0.01


def test_the_seed_decides_and_the_order_of_the_file_does_not(crowd):
    scores, labels, enroll, test, durations = crowd
    first = cross_calibrate(scores, labels, enroll, test, durations, seed=3)
    assert (cross_calibrate(scores, labels, enroll, test, durations, seed=3) == first).all()
    assert np.abs(cross_calibrate(scores, labels, enroll, test, durations, seed=4) - first).max() > 1e-3
    order = np.random.default_rng(5).permutation(len(scores))
    moved = {name: values[order] for name, values in durations.items()}
    again = cross_calibrate(scores[order], labels[order], enroll[order], test[order], moved, seed=3)
    np.testing.assert_allclose(again, first[order], atol=1e-6)
    swapped = cross_calibrate(scores, labels, test, enroll, durations, seed=3)
    np.testing.assert_allclose(swapped, first, atol=1e-6)


def test_qualities_do_not_know_which_side_is_which():
    rng = np.random.default_rng(6)
    a, b = rng.uniform(1, 9, size=(2, 20))
    for name, values in duration_qualities(a, b).items():
        np.testing.assert_array_equal(values, duration_qualities(b, a)[name])
    found = cohort_qualities((a, b), (b, a))
    assert set(found) == {"cohort_mean_min", "cohort_mean_max", "cohort_std_min", "cohort_std_max"}
    np.testing.assert_array_equal(found["cohort_mean_min"], np.minimum(a, b))
    np.testing.assert_array_equal(found["cohort_std_max"], np.maximum(a, b))
    with pytest.raises(ValueError, match="test side of trial 1 lasts 0.0 s"):
        duration_qualities([1.0, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="one value a trial"):
        duration_qualities([1.0, 1.0], [1.0])


def test_thresholds_of_named_points(crowd):
    scores, labels, enroll, test, _ = crowd
    calibrator = fit_calibration(scores, labels)
    llrs = cross_calibrate(scores, labels, enroll, test)
    # Bayes: accept when the posterior odds outweigh the costs
    assert calibrator.threshold("p_target 0.01") == pytest.approx(np.log(99))
    assert calibrator.threshold("p_target 0.05") == pytest.approx(np.log(19))
    full = with_points(calibrator, evaluate(llrs[labels], llrs[~labels]))
    named = {point.name: point for point in full.points}
    # 10,875 nontarget trials: 1e-3 allows 10 false accepts, 1e-4 fewer than the 10 it takes
    supported = {"p_target 0.01", "p_target 0.05", "eer", "fpr 1e-2", "fpr 1e-3"}
    assert {name for name, point in named.items() if point.supported} == supported
    assert set(named) == supported | {"fpr 1e-4"}
    for name, fpr in (("fpr 1e-2", 1e-2), ("fpr 1e-3", 1e-3)):
        accepts = (llrs[~labels] >= full.threshold(name)).sum()
        assert named[name].false_accepts == accepts <= fpr * (~labels).sum()
        assert named[name].misses == (llrs[labels] < full.threshold(name)).sum()
    with pytest.raises(ValueError, match="'fpr 1e-4' is not supported: it rests on 1 false accepts in 10875 .*'eer'"):
        full.threshold("fpr 1e-4")
    assert not full.supports("fpr 1e-4") and full.supports("fpr 0.001") and not full.supports("fpr 1e-5")
    assert full.point("fpr 0.0001").misses == (llrs[labels] < full.point("fpr 1e-4").threshold).sum()
    with pytest.raises(ValueError, match="no operating point 'fpr 1e-5'.*'eer'"):
        full.threshold("fpr 1e-5")


def test_a_calibrator_comes_back_from_its_file(crowd, tmp_path):
    # and is data: nothing to unpickle
    scores, labels, _, _, durations = crowd
    calibrator = fit_calibration(scores, labels, durations, provenance={"scores": "abc"})
    calibrator = with_points(calibrator, evaluate(scores[labels], scores[~labels]))
    calibrator.save(tmp_path / "calibration.json")
    back = Calibrator.load(tmp_path / "calibration.json")
    assert back == calibrator
    assert json.loads((tmp_path / "calibration.json").read_text())["format"] == "alpha_sv.calibration/2"
    assert back.provenance == {"targets": 300, "nontargets": 10875, "p_target": 0.01, "scores": "abc"}
    assert back.llrs(scores, durations).tobytes() == calibrator.llrs(scores, durations).tobytes()


def test_a_calibrator_is_never_unpickled(tmp_path):
    (tmp_path / "calibration.json").write_bytes(pickle.dumps({"weight": 1.0}))
    with pytest.raises(ValueError, match="calibration.json is not a whole calibrator"):
        Calibrator.load(tmp_path / "calibration.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], "alpha_sv.calibration/3", "'format' is not 'alpha_sv.calibration/2'"),
        (["weight"], "3", "'weight' must be a finite number, got '3'"),
        (["weight"], float("nan"), "'weight' must be a finite number, got nan"),
        (["offset"], None, "'offset'"),
        (["qualities"], {}, "'qualities' is not there or not a list"),
        (["qualities", 0, "scale"], 0.0, r"qualities\[0\]: the field 'scale' must be positive"),
        (["qualities", 0, "name"], "", r"qualities\[0\]: the field 'name'"),
        (["qualities", 0], [], r"qualities\[0\]: fields 'mean', 'name', 'scale', 'weight' missing"),
        (["points", 1, "threshold"], True, r"points\[1\]: the field 'threshold' must be a finite number"),
        (["points", 1, "treshold"], 1.0, r"points\[1\]: fields 'treshold' missing or unknown"),
        (["points", 1, "name"], "eer", "'points' has a name twice"),
        (["points", 1, "supported"], 1, r"points\[1\]: the field 'supported' must be true or false"),
        (["bounds"], 3.0, "'bounds' is not a list"),
        (["bounds"], [1.0, 2.0], "'bounds' must be a negative and a positive number"),
        (["kind"], 3, "'kind' and 'warnings' must be texts"),
        (["warnings"], "few", "'warnings'"),
        (["provenance"], "me", "'provenance' is not there or not a dict"),
        (["provenance", "sources"], {"model": {"sha256": 5}}, "'provenance.sources.model'"),
        (["weight"], 10**400, "'weight' must be a finite number"),
        (["support"], 5, "'support' is not there or not a dict"),
        (["qualities", 0, "name"], ["q"], r"qualities\[0\]: the field 'name' must be a text"),
        (["points", 0, "name"], "eer\x1b[2J", r"points\[0\]: the field .name. must be a text without control"),
        (["points", 1, "misses"], -(10**400), r"points\[1\]: the field 'misses' must be a finite number"),
        (["points", 1, "misses"], -1, r"points\[1\]: the field 'misses' must be 0 or more, got -1"),
        (["surprise"], 1, "'surprise' missing or unknown"),
    ],
)
def test_a_damaged_calibrator_names_file_and_field(tmp_path, path, value, message):
    points = (OperatingPoint("eer", 0.1), OperatingPoint("fpr 1e-2", 2.0, 10, 3))
    Calibrator(2.0, -1.0, (Quality("q", 0.0, 1.0, 0.5),), points).save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"c.json is not a whole calibrator: .*{message}"):
        Calibrator.load(tmp_path / "c.json")


def test_applied_to_another_list(crowd):
    scores, labels, _, _, durations = crowd
    calibrator = fit_calibration(scores, labels, durations)
    table = ScoreTable(["a", "b"], ["c", "d"], [0.5, -0.1], [True, False])
    given = {"log_duration_min": [0.0, 1.0], "log_duration_max": [1.0, 2.0], "unused": [1, 2]}
    result = calibrator.apply(table, given)
    assert (result.labels == table.labels).all() and (result.enroll == table.enroll).all()
    assert result.scores[0] > 0 > result.scores[1]
    # a trial's LLR is its own: not that of the list around it
    alone = calibrator.apply(ScoreTable(["b"], ["d"], [-0.1]), {name: values[1:] for name, values in given.items()})
    assert alone.scores[0] == result.scores[1]
    with pytest.raises(ValueError, match="needs the quality measures log_duration_max"):
        calibrator.apply(table, {"log_duration_min": [0.0, 1.0]})
    with pytest.raises(ValueError, match="log_duration_min of trial 1 is nan"):
        calibrator.apply(table, {**given, "log_duration_min": [0.0, np.nan]})
    with pytest.raises(ValueError, match="log_duration_max must have one value for each of the 2 trials"):
        calibrator.apply(table, {**given, "log_duration_max": [0.0]})
    with pytest.raises(ValueError, match="scores of trial 0 is inf"):
        calibrator.llrs([np.inf, 0.0], given)


def test_what_cannot_be_calibrated_is_refused():
    scores, labels = np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True])
    for wrong, message in (
        ({"labels": np.ones(4)}, "4 target and 0 nontarget trials"),
        ({"labels": np.array([0, 1, 2, 1])}, "labels must be booleans or 0 / 1"),
        ({"scores": np.array([0.1, np.nan, 0.3, 0.4])}, "scores of trial 1 is nan"),
        ({"scores": scores[:3]}, "scores must have one value for each of the 4 trials"),
        ({"scores": np.full(4, 0.7)}, "scores is 0.7 in every trial"),
        ({"qualities": {"q": np.full(4, 3.0)}}, "q is 3.0 in every trial.*leave it out"),
        ({"qualities": {"scores": scores}}, "cannot be called 'scores'"),
        ({"p_target": 1.0}, "strictly between 0 and 1"),
        ({"p_target": 1e-320}, "strictly between 0 and 1, by 1e-12 at least, got 1e-320"),
        ({"scores": np.ma.array(scores, mask=[0, 0, 0, 1])}, "scores has 1 masked values"),
        ({"labels": np.ma.array(labels, mask=[0, 0, 0, 1])}, "labels must be booleans"),
        ({"speakers": (["a", "b", "c", None], ["x", "b", "y", None])}, "speakers must be names, found None"),
        ({"speakers": (["a", "b", "c", np.nan], ["x", "b", "y", "d"])}, "speakers must be names, found nan"),
        ({"speakers": (np.ones(4), np.ones(4))}, "speakers must be names, got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_calibration(**{"scores": scores, "labels": labels, **wrong})


def test_folds_need_speakers_who_fit_the_labels(crowd):
    scores, labels, enroll, test, _ = crowd
    for folds in (2, 31, 5.0, True):
        with pytest.raises(ValueError, match="folds must be from 3 to the number of speakers"):
            cross_calibrate(scores, labels, enroll, test, folds=folds)
    with pytest.raises(ValueError, match="trial 0 is labelled 0 but its speakers are 's0' and 's0'"):
        cross_calibrate(scores, ~labels, enroll, test)
    with pytest.raises(ValueError, match="one per trial"):
        cross_calibrate(scores, labels, enroll[1:], test[1:])
    few = np.isin(enroll, ["s0", "s1", "s2"]) & np.isin(test, ["s0", "s1", "s2"])
    with pytest.raises(ValueError, match="without the speakers of groups 0 and 1 of 3: .*more speakers"):
        cross_calibrate(scores[few], labels[few], enroll[few], test[few], folds=3)


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_a_file_that_is_no_calibrator_is_named(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ValueError, match="c.json is not a whole calibrator"):
        Calibrator.load(tmp_path / "c.json")
