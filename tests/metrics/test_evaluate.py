"""`evaluate` collects what the single functions say;
its curve and histogram lose nothing that is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy.special import ndtri

from alpha_sv.metrics import (
    act_dcf,
    c_primary,
    cllr,
    det_curve,
    eer,
    eer_rocch,
    evaluate,
    evaluate_conditions,
    fnr_at_fpr,
    min_cllr,
    min_dcf,
)
from tests.fixtures.trial_scores import random_sides


def test_evaluate_agrees_with_the_single_functions_and_is_json():
    target, nontarget = random_sides(14, 300, 2000)
    result = json.loads(json.dumps(evaluate(target, nontarget, llr=True), allow_nan=False))
    assert result["trials"] == {"target": 300, "nontarget": 2000}
    assert (result["eer"]["value"], result["eer"]["threshold"]) == eer(target, nontarget)
    assert result["eer"]["rocch"] == eer_rocch(target, nontarget)
    for key, cost in (("min_dcf", min_dcf), ("act_dcf", act_dcf)):
        assert [entry["p_target"] for entry in result[key]] == [0.01, 0.05]
        for entry in result[key]:
            arguments = (entry["p_target"], entry["c_miss"], entry["c_fa"])
            assert (entry["value"], entry["threshold"]) == cost(target, nontarget, *arguments)
    assert (result["c_primary"]["min"], result["c_primary"]["act"]) == c_primary(target, nontarget, llr=True)
    assert (result["min_cllr"], result["cllr"]) == (min_cllr(target, nontarget), cllr(target, nontarget))
    for entry in result["fnr_at_fpr"]:
        assert (entry["fnr"], entry["threshold"]) == fnr_at_fpr(target, nontarget, entry["fpr"])
        assert entry["false_accepts"] == (nontarget >= entry["threshold"]).sum()
        assert entry["misses"] == (target < entry["threshold"]).sum() == round(entry["fnr"] * 300)


def test_what_only_likelihood_ratios_have_is_none_without_the_promise():
    target, nontarget = random_sides(17)
    plain, promised = evaluate(target, nontarget), evaluate(target, nontarget, llr=True)
    only = {"cllr", "act_dcf", "calibration"}
    assert {key for key in plain if plain[key] is None} == only
    assert plain.pop("c_primary") == {"min": promised.pop("c_primary")["min"], "act": None}
    assert {key: value for key, value in promised.items() if key not in only} == {
        key: value for key, value in plain.items() if key not in only
    }


@pytest.mark.parametrize("levels", [None, 2])
def test_nothing_depends_on_the_order_of_the_trials(levels):
    rng = np.random.default_rng(18)
    target, nontarget = random_sides(18, 300, 700, levels=levels)
    target[:2], nontarget[:2] = (0.0, -0.0), (-0.0, 0.0)
    expected = json.dumps(evaluate(target, nontarget, llr=True))
    for _ in range(3):
        assert json.dumps(evaluate(rng.permutation(target), rng.permutation(nontarget), llr=True)) == expected


def test_zero_is_written_without_a_sign():
    for target, nontarget in (([-0.0], [0.0]), ([0.0], [-0.0]), ([-0.0, 1.0], [-0.0, -1.0])):
        assert repr(evaluate(target, nontarget)["eer"]["threshold"]) == "0.0"
    assert repr(evaluate([1.0], [-1.0])["min_cllr"]) == "0.0"


def test_memory_is_linear_in_the_trials():
    # peers: a thresholds x scores matrix asked for 479 GB
    target, nontarget = random_sides(19, 20_000, 180_000)
    tracemalloc.start()
    evaluate(target, nontarget, llr=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 200_000


def test_ten_counted_false_accepts_make_a_rate_supported():
    target = np.linspace(0, 2, 50)
    for trials, expected in ((1000, [True, False, False]), (999, [False, False, False])):
        entries = evaluate(target, np.linspace(-1, 1, trials))["fnr_at_fpr"]
        assert [entry["fpr"] for entry in entries] == [1e-2, 1e-3, 1e-4]
        assert [entry["supported"] for entry in entries] == expected
    assert evaluate(target, np.linspace(-1, 1, 100_000))["fnr_at_fpr"][2]["supported"]


def test_a_rate_that_tied_scores_leave_with_few_false_accepts_is_not_supported():
    # the limit allows 10 of 1,000, but the 20 best nontarget trials tie:
    # the only vertex within it counts none
    nontarget = np.concatenate([np.zeros(980), np.ones(20)])
    entry = evaluate(np.full(5, 2.0), nontarget)["fnr_at_fpr"][0]
    assert (entry["false_accepts"], entry["supported"]) == (0, False)


@pytest.mark.parametrize("spread", [0.25, 4.0])
def test_the_thinned_curve_keeps_ends_and_true_vertices_evenly(spread):
    target, nontarget = random_sides(15, 3000, 60_000)
    target = spread * target  # a steep or a flat curve on normal-deviate axes: slope 1 / spread
    det = evaluate(target, nontarget)["det"]
    curve = det_curve(target, nontarget)
    points = list(zip(det["p_fa"], det["p_miss"], strict=True))
    assert 200 < len(points) <= 400
    assert points[0] == (1, 0) and points[-1] == (0, 1)
    assert set(points) <= set(zip(curve.p_fa.tolist(), curve.p_miss.tolist(), strict=True))
    # Where errors are well populated, all steps of the drawn curve are about its length
    # / 400, here 16 / 400 (rates run between 1 / 6,000 and its complement on one axis, 1
    # / 120,000 on the other).
    drawn = [(ndtri(fa), ndtri(miss)) for fa, miss in points if 1e-3 < fa < 0.99 and 1e-2 < miss < 0.99]
    steps = np.abs(np.diff(drawn, axis=0)).sum(axis=1)
    assert len(steps) > 20 and steps.max() < 0.06


def test_a_short_curve_is_kept_whole():
    target, nontarget = random_sides(16)
    curve = det_curve(target, nontarget)
    det = evaluate(target, nontarget)["det"]
    assert det == {"p_fa": curve.p_fa.tolist(), "p_miss": curve.p_miss.tolist()}


@pytest.mark.parametrize("target", [np.array([3.0, 3.0]), np.array([3.0, 5.0])])
def test_the_histogram_counts_every_trial_once(target):
    nontarget = np.full(4, 3.0)
    histogram = evaluate(target, nontarget)["histogram"]
    edges = np.array(histogram["edges"])
    assert len(edges) == 61 and (np.diff(edges) > 0).all()
    assert edges[0] <= 3.0 and edges[-1] >= target.max()
    assert sum(histogram["target"]) == target.size and sum(histogram["nontarget"]) == nontarget.size


def test_each_condition_is_evaluated_by_itself():
    rng = np.random.default_rng(20)
    scores, labels = rng.normal(size=300), rng.random(300) < 0.4
    sex, room = rng.choice(["f", "m"], 300), rng.choice(["b", "a", "c"], 300)
    entries = evaluate_conditions(scores, labels, {"sex": sex, "room": room}, llr=True)
    assert [(e["column"], e["value"]) for e in entries] == [
        ("sex", "f"), ("sex", "m"), ("room", "a"), ("room", "b"), ("room", "c")
    ]  # fmt: skip
    for entry in entries:
        rows = {"sex": sex, "room": room}[entry["column"]] == entry["value"]
        whole = evaluate(scores[rows & labels], scores[rows & ~labels], llr=True)
        assert {k: v for k, v in entry.items() if k not in ("column", "value")} == {
            k: whole[k] for k in ("trials", "eer", "min_dcf", "fnr_at_fpr", "min_cllr", "cllr")
        }
    for column in ("sex", "room"):
        assert sum(e["trials"]["target"] for e in entries if e["column"] == column) == labels.sum()


def test_a_condition_with_one_kind_of_trial_has_counts_only():
    entries = evaluate_conditions([1.0, 0.0, 2.0], [True, False, True], {"room": ["a", "a", "b"]})
    assert entries[1] == {"column": "room", "value": "b", "trials": {"target": 1, "nontarget": 0}, "eer": None}


@pytest.mark.parametrize(("labels", "column"), [([True], ["a", "b"]), ([True, False], ["a"])])
def test_a_column_of_another_length_is_refused_by_name(labels, column):
    name = "labels" if len(labels) == 1 else "room"
    with pytest.raises(ValueError, match=f"'{name}' needs one value for each"):
        evaluate_conditions([1.0, 0.0], labels, {"room": column})


def test_the_names_evaluate_and_cllr_are_functions_and_their_modules_are_imported_by_path():
    code = """if True:
        from alpha_sv.metrics.evaluate import DET_POINTS, evaluate_conditions
        from alpha_sv.metrics.cllr import mean_cost
        import alpha_sv.metrics.evaluate, alpha_sv.metrics.cllr, importlib
        from alpha_sv.metrics import cllr, evaluate
        import alpha_sv
        assert importlib.import_module("alpha_sv.metrics.evaluate").DET_POINTS == DET_POINTS
        for of in (alpha_sv.metrics, importlib.import_module("alpha_sv.metrics")):
            assert of.evaluate is evaluate and evaluate([1.0], [0.0])["eer"]["value"] == 0
            assert of.cllr is cllr and cllr([0.0], [0.0]) == 1
    """
    subprocess.run([sys.executable, "-c", code], check=True)
