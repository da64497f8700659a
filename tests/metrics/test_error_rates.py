"""EER, minDCF and FNR@FPR are facts about the scores: hand cases, brute-force oracles, and invariances."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

from alpha_sv.metrics import det_curve, eer, evaluate, fnr_at_fpr, min_dcf


def random_sides(seed, n_target=23, n_nontarget=41, levels=None):
    rng = np.random.default_rng(seed)
    target, nontarget = rng.normal(1, 1, n_target), rng.normal(0, 1, n_nontarget)
    if levels:
        target, nontarget = np.round(target * levels) / levels, np.round(nontarget * levels) / levels
    return target, nontarget


def operating_points(target, nontarget):
    """(threshold, p_miss, p_fa) by looping over every threshold, in exact fractions."""
    thresholds = sorted({*target.tolist(), *nontarget.tolist()}) + [np.inf]
    for threshold in thresholds:
        misses, false_accepts = int((target < threshold).sum()), int((nontarget >= threshold).sum())
        yield threshold, Fraction(misses, target.size), Fraction(false_accepts, nontarget.size)


def eer_by_hand(target, nontarget):
    points = [(p_miss, p_fa) for _, p_miss, p_fa in operating_points(target, nontarget)]
    for (miss_0, fa_0), (miss_1, fa_1) in itertools.pairwise(points):
        if miss_1 >= fa_1:
            # miss_0 + w (miss_1 - miss_0) = fa_0 + w (fa_1 - fa_0)
            w = (fa_0 - miss_0) / ((miss_1 - miss_0) - (fa_1 - fa_0))
            return miss_0 + w * (miss_1 - miss_0)
    raise AssertionError("the curve ends at p_miss = 1, p_fa = 0")


CASES = [(seed, levels) for seed in range(3) for levels in (None, 1, 4)]


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_eer_is_the_crossing_of_the_interpolated_curve(seed, levels):
    target, nontarget = random_sides(seed, levels=levels)
    value, threshold = eer(target, nontarget)
    assert value == pytest.approx(float(eer_by_hand(target, nontarget)), abs=1e-14)
    gap = {t: abs(p_miss - p_fa) for t, p_miss, p_fa in operating_points(target, nontarget)}
    assert gap[threshold] == min(gap.values())


@pytest.mark.parametrize(("seed", "levels"), CASES)
@pytest.mark.parametrize(("p_target", "c_miss", "c_fa"), [(0.01, 1, 1), (0.05, 1, 1), (0.5, 1, 3), (0.9, 10, 2)])
def test_min_dcf_is_the_least_cost_of_all_thresholds(seed, levels, p_target, c_miss, c_fa):
    target, nontarget = random_sides(seed, levels=levels)
    blind = min(c_miss * p_target, c_fa * (1 - p_target))
    costs = {
        t: float((c_miss * p_target * p_miss + c_fa * (1 - p_target) * p_fa) / blind)
        for t, p_miss, p_fa in operating_points(target, nontarget)
    }
    value, threshold = min_dcf(target, nontarget, p_target, c_miss, c_fa)
    assert value == pytest.approx(min(costs.values()), abs=1e-13)
    at_threshold = c_miss * p_target * np.mean(target < threshold) + c_fa * (1 - p_target) * np.mean(
        nontarget >= threshold
    )
    assert at_threshold / blind == pytest.approx(value, abs=1e-13)


@pytest.mark.parametrize(("seed", "levels"), CASES)
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_fnr_at_fpr_is_the_least_miss_rate_within_the_limit(seed, levels, fpr):
    target, nontarget = random_sides(seed, levels=levels)
    within = [p_miss for _, p_miss, p_fa in operating_points(target, nontarget) if float(p_fa) <= fpr]
    value, threshold = fnr_at_fpr(target, nontarget, fpr)
    assert value == float(min(within))
    assert np.mean(target < threshold) == value
    assert np.mean(nontarget >= threshold) <= fpr


def test_scores_without_information_have_an_eer_of_one_half():
    # peers: all-tied scores gave 0 or 100 % by file order
    assert eer(np.zeros(7), np.zeros(1000))[0] == 0.5
    assert min_dcf(np.zeros(7), np.zeros(1000))[0] == 1.0


def test_eer_is_not_the_worse_error_of_the_nearest_threshold():
    # peers: max(FPR, FNR) at the nearest vertex, here (1/3, 1/2), overstates the rate on few trials
    assert eer([1.0, 2.0, 3.0], [0.0, 1.5])[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_two_gaussians_at_distance_d_have_an_eer_of_phi_of_minus_half_d(distance):
    quantiles = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    value, threshold = eer(quantiles + distance, quantiles)
    assert value == pytest.approx(norm.cdf(-distance / 2), abs=1e-4)
    assert threshold == pytest.approx(distance / 2, abs=1e-2)


def test_separated_and_reversed_scores_reach_the_ends():
    low, high = np.arange(5.0), np.arange(10.0, 14.0)
    assert eer(high, low)[0] == 0 and min_dcf(high, low)[0] == 0 and fnr_at_fpr(high, low, 0)[0] == 0
    assert eer(low, high)[0] == 1 and min_dcf(low, high)[0] == 1 and fnr_at_fpr(low, high, 0)[0] == 1


@pytest.mark.parametrize("rise", [lambda s: 3 * s - 100, np.exp, np.arctan, lambda s: s**3])
def test_values_stay_and_thresholds_move_along_under_a_rising_map(rise):
    target, nontarget = random_sides(11)
    before, after = (target, nontarget), (rise(target), rise(nontarget))
    for measure in (eer, lambda t, n: min_dcf(t, n, 0.05), lambda t, n: fnr_at_fpr(t, n, 0.1)):
        value, threshold = measure(*before)
        assert measure(*after) == (value, pytest.approx(rise(threshold), rel=1e-12))


@pytest.mark.parametrize("levels", [None, 2])
def test_eer_treats_both_sides_alike(levels):
    target, nontarget = random_sides(12, levels=levels)
    value = eer(target, nontarget)[0]
    assert eer(-nontarget, -target)[0] == pytest.approx(value, abs=1e-15)
    assert eer(nontarget, target)[0] == pytest.approx(1 - value, abs=1e-15)


def test_min_dcf_is_normalised_by_the_better_blind_system():
    # peers: an unnormalised cost at p_target = 0.01 never exceeds 0.01 and looks excellent
    target, nontarget = random_sides(13)
    useless = np.zeros(10)
    for p_target in (0.01, 0.5, 0.99):
        assert min_dcf(useless, useless, p_target)[0] == 1.0
        assert min_dcf(target, nontarget, p_target)[0] <= 1.0
    assert min_dcf(target, nontarget, 0.05, 7.0, 7.0)[0] == pytest.approx(min_dcf(target, nontarget, 0.05)[0])


def test_a_limit_of_exactly_k_false_accepts_allows_k():
    nontarget = np.arange(100.0)
    for allowed in range(101):  # 0.29 * 100 = 28.999... in floating point
        _, threshold = fnr_at_fpr(nontarget + 0.5, nontarget, float(f"{allowed / 100:.2f}"))
        assert (nontarget >= threshold).sum() == allowed


def test_ten_allowed_false_accepts_make_a_rate_supported():
    target = np.linspace(0, 2, 50)
    for trials, expected in ((1000, [True, False, False]), (999, [False, False, False])):
        entries = evaluate(target, np.linspace(-1, 1, trials))["fnr_at_fpr"]
        assert [entry["fpr"] for entry in entries] == [1e-2, 1e-3, 1e-4]
        assert [entry["supported"] for entry in entries] == expected
    assert evaluate(target, np.linspace(-1, 1, 100_000))["fnr_at_fpr"][2]["supported"]


def test_evaluate_agrees_with_the_single_functions_and_is_json():
    target, nontarget = random_sides(14, 300, 2000)
    result = json.loads(json.dumps(evaluate(target, nontarget), allow_nan=False))
    assert result["trials"] == {"target": 300, "nontarget": 2000}
    assert (result["eer"]["value"], result["eer"]["threshold"]) == eer(target, nontarget)
    assert [entry["p_target"] for entry in result["min_dcf"]] == [0.01, 0.05]
    for entry in result["min_dcf"]:
        arguments = (entry["p_target"], entry["c_miss"], entry["c_fa"])
        assert (entry["value"], entry["threshold"]) == min_dcf(target, nontarget, *arguments)
    for entry in result["fnr_at_fpr"]:
        assert (entry["fnr"], entry["threshold"]) == fnr_at_fpr(target, nontarget, entry["fpr"])
        assert entry["false_accepts"] == (nontarget >= entry["threshold"]).sum()
        assert entry["misses"] == (target < entry["threshold"]).sum() == round(entry["fnr"] * 300)


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
    # Where errors are well populated, all steps of the drawn curve are about its length / 400, here 16 / 400
    # (rates run between 1 / 6,000 and its complement on one axis, 1 / 120,000 on the other).
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


@pytest.mark.parametrize("p_target", [0.0, 1.0, -0.1, np.nan])
def test_a_prior_must_be_a_probability(p_target):
    with pytest.raises(ValueError, match="p_target"):
        min_dcf([1.0], [0.0], p_target)


@pytest.mark.parametrize(("c_miss", "c_fa", "name"), [(0, 1, "c_miss"), (1, -1, "c_fa"), (np.inf, 1, "c_miss")])
def test_a_cost_must_be_positive_and_finite(c_miss, c_fa, name):
    with pytest.raises(ValueError, match=name):
        min_dcf([1.0], [0.0], 0.01, c_miss, c_fa)


@pytest.mark.parametrize("fpr", [-1e-9, 1.5, np.nan])
def test_a_false_acceptance_limit_must_be_a_fraction(fpr):
    with pytest.raises(ValueError, match="fraction between 0 and 1"):
        fnr_at_fpr([1.0], [0.0], fpr)
