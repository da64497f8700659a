"""Cllr, the APE curve and the reliability bins,
by the written formula and by the theorem that joins them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import trapezoid

from alpha_sv.metrics import cllr, evaluate, min_cllr
from tests.fixtures.trial_scores import CASES, random_sides


def gaussian_llrs(seed, d=3.0, n_target=20_000, n_nontarget=60_000):
    """Exact llrs of two unit Gaussians d apart: N(d^2 / 2, d^2) and N(-d^2 / 2, d^2)."""
    rng = np.random.default_rng(seed)
    return d * rng.normal(d / 2, 1, n_target), d * rng.normal(-d / 2, 1, n_nontarget)


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_cllr_is_the_formula_of_bruemmer_and_du_preez(seed, levels):
    target, nontarget = (4 * side for side in random_sides(seed, levels=levels))
    by_hand = sum(math.log2(1 + math.exp(-s)) for s in target) / (2 * target.size)
    by_hand += sum(math.log2(1 + math.exp(s)) for s in nontarget) / (2 * nontarget.size)
    assert cllr(target, nontarget) == pytest.approx(by_hand, abs=1e-13)


def test_saying_nothing_costs_one_bit_and_confident_errors_their_size():
    assert cllr(np.zeros(3), np.zeros(9)) == 1.0
    assert cllr([1e4], [-1e4]) == 0.0
    assert cllr([-1e4], [-1e4]) == pytest.approx(1e4 / math.log(2) / 2, rel=1e-12)


def test_a_constant_or_a_factor_changes_cllr_but_not_its_minimum():
    target, nontarget = gaussian_llrs(1)
    value, least = cllr(target, nontarget), min_cllr(target, nontarget)
    assert least <= value <= 1.02 * least  # exact llrs are calibrated
    for target_2, nontarget_2 in (
        (target + 2, nontarget + 2),
        (target - 2, nontarget - 2),
        (3 * target, 3 * nontarget),
    ):
        assert cllr(target_2, nontarget_2) > 1.1 * value
        assert min_cllr(target_2, nontarget_2) == pytest.approx(least, abs=1e-14)


def test_swapping_the_kinds_and_negating_changes_nothing():
    target, nontarget = random_sides(2)
    assert cllr(-nontarget, -target) == pytest.approx(cllr(target, nontarget), abs=1e-15)


@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_the_area_under_the_ape_curve_is_cllr(offset):
    target, nontarget = (side + offset for side in gaussian_llrs(3, n_target=2000, n_nontarget=3000))
    ape = evaluate(target, nontarget, llr=True)["calibration"]
    for curve, value in (("act", cllr(target, nontarget)), ("min", min_cllr(target, nontarget))):
        area = trapezoid(ape[curve], ape["prior_log_odds"])
        # between grid points 0.1 apart, and beyond +-10 nats, at most e^-10 of it is lost a side
        assert area / (2 * math.log(2)) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize("levels", [None, 1])
def test_a_point_of_the_ape_curve_is_an_error_rate_counted_by_hand(levels):
    target, nontarget = (2 * side for side in random_sides(4, levels=levels))
    ape = evaluate(target, nontarget, llr=True)["calibration"]
    thresholds = [-math.inf, *target, *nontarget, math.inf]
    for index in range(0, 201, 20):
        odds = ape["prior_log_odds"][index]
        p = 1 / (1 + math.exp(-odds))
        rates = [p * np.mean(target < t) + (1 - p) * np.mean(nontarget >= t) for t in [-odds, *thresholds]]
        assert ape["act"][index] == pytest.approx(rates[0], abs=1e-15)
        assert ape["min"][index] == pytest.approx(min(rates), abs=1e-15)


def test_reliability_of_exact_likelihood_ratios_is_the_diagonal():
    target, nontarget = gaussian_llrs(5, n_target=200_000, n_nontarget=600_000)
    bins = evaluate(target, nontarget, llr=True)["calibration"]["reliability"]
    assert sum(bins["count"]) == 800_000 and len(bins["count"]) == 20
    both = [(x, y) for x, y in zip(bins["llr"], bins["empirical"], strict=True) if y is not None]
    assert len(both) >= 18 and both[0][0] < -7 and both[-1][0] > 7
    for promised, found in both:
        # the log odds of a bin of 10,000 targets,
        # e^|llr| times rarer trials of the other kind, and so on
        rarer = min(10_000 * 3 ** (promised < 0), 30_000) * math.exp(-abs(promised))
        assert abs(promised - found) < 4 / math.sqrt(rarer) + 0.02


def test_reliability_shows_an_offset_and_a_scale():
    target, nontarget = gaussian_llrs(7, n_target=200_000, n_nontarget=600_000)
    bins = evaluate(2 * target + 1, 2 * nontarget + 1, llr=True)["calibration"]["reliability"]
    for stated, found in zip(bins["llr"], bins["empirical"], strict=True):
        if found is not None and abs(found) < 3:
            assert stated == pytest.approx(2 * found + 1, abs=0.5)


def test_reliability_is_finite_for_scores_of_any_size():
    bins = evaluate([1e5, -3e4], [-1e5, 2e4], llr=True)["calibration"]["reliability"]
    assert bins["llr"] == [-1e5, -3e4, 2e4, 1e5]


def test_reliability_bins_keep_ties_together_and_say_nothing_where_one_kind_is_missing():
    bins = evaluate([1.0, 1.0, 2.0], [1.0, -3.0, -3.0], llr=True)["calibration"]["reliability"]
    assert bins["llr"] == pytest.approx([-3.0, 1.0, 2.0]) and bins["count"] == [2, 3, 1]
    assert bins["empirical"] == [None, pytest.approx(math.log(2)), None]


def test_reliability_resolves_targets_that_are_one_percent_of_the_list():
    bins = evaluate(*gaussian_llrs(6, n_target=2000, n_nontarget=198_000), llr=True)["calibration"]["reliability"]
    assert sum(value is not None for value in bins["empirical"]) >= 15
