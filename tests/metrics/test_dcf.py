"""Detection costs against loops over thresholds,
decision theory, and what normalisation promises."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_sv.metrics import act_dcf, c_primary, min_dcf
from tests.fixtures.trial_scores import CASES, operating_points, random_sides


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
@pytest.mark.parametrize(("p_target", "c_miss", "c_fa"), [(0.01, 1, 1), (0.5, 1, 3), (0.9, 10, 2)])
def test_act_dcf_is_the_cost_of_decisions_at_the_bayes_threshold(seed, levels, p_target, c_miss, c_fa):
    target, nontarget = (3 * side for side in random_sides(seed, levels=levels))
    value, threshold = act_dcf(target, nontarget, p_target, c_miss, c_fa)
    assert threshold == pytest.approx(np.log(c_fa * (1 - p_target) / (c_miss * p_target)), abs=1e-12)
    miss, false_accept = c_miss * p_target, c_fa * (1 - p_target)
    cost = miss * np.mean(target < threshold) + false_accept * np.mean(nontarget >= threshold)
    assert value == pytest.approx(cost / min(miss, false_accept), abs=1e-12)
    assert value >= min_dcf(target, nontarget, p_target, c_miss, c_fa)[0] - 1e-15


def test_true_likelihood_ratios_need_no_threshold_to_be_found():
    # N(d^2 / 2, d^2) and N(-d^2 / 2, d^2) are the
    # log-likelihood ratios of two unit Gaussians d apart
    rng, d = np.random.default_rng(20), 3.0
    target, nontarget = d * rng.normal(d / 2, 1, 100_000), d * rng.normal(-d / 2, 1, 300_000)
    for p_target in (0.01, 0.05, 0.5):
        minimum, actual = min_dcf(target, nontarget, p_target)[0], act_dcf(target, nontarget, p_target)[0]
        assert minimum <= actual <= 1.01 * minimum


def test_a_score_that_is_no_likelihood_ratio_can_cost_more_than_not_listening():
    assert act_dcf([9.0, 8.0], [5.0, 6.0, -1.0], 0.01)[0] == pytest.approx(99 * 2 / 3)
    assert min_dcf([9.0, 8.0], [5.0, 6.0, -1.0], 0.01)[0] == 0


def test_a_llr_exactly_at_the_bayes_threshold_accepts():
    assert act_dcf([0.0], [-1.0], 0.5) == (0.0, 0.0)
    assert act_dcf([1.0], [0.0], 0.5) == (1.0, 0.0)


def test_c_primary_is_the_mean_of_the_two_costs_of_sre16():
    target, nontarget = (5 * side for side in random_sides(22))
    minimum, actual = c_primary(target, nontarget, llr=True)
    assert minimum == pytest.approx(np.mean([min_dcf(target, nontarget, p)[0] for p in (0.01, 0.005)]))
    assert actual == pytest.approx(np.mean([act_dcf(target, nontarget, p)[0] for p in (0.01, 0.005)]))
    assert c_primary(target, nontarget) == (minimum, None)


def test_separated_and_reversed_scores_reach_the_ends():
    low, high = np.arange(5.0), np.arange(10.0, 14.0)
    assert min_dcf(high, low)[0] == 0 and min_dcf(low, high)[0] == 1


@pytest.mark.parametrize("rise", [lambda s: 3 * s - 100, np.exp, np.arctan, lambda s: s**3])
def test_the_least_cost_stays_and_its_threshold_moves_along_under_a_rising_map(rise):
    target, nontarget = random_sides(11)
    value, threshold = min_dcf(target, nontarget, 0.05)
    assert min_dcf(rise(target), rise(nontarget), 0.05) == (value, pytest.approx(rise(threshold), rel=1e-12))


def test_swapping_the_kinds_and_negating_swaps_the_two_errors():
    target, nontarget = (4 * side for side in random_sides(23))
    for cost in (min_dcf, act_dcf):
        value = cost(target, nontarget, 0.1, 2.0, 3.0)[0]
        assert cost(-nontarget, -target, 0.9, 3.0, 2.0)[0] == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("costs", [(0.01, 1e-300, 1e300), (5e-324, 1, 1), (0.5, 1e-320, 1e-320), (0.01, 1e-308, 1)])
@pytest.mark.parametrize("dcf", [min_dcf, act_dcf])
def test_costs_beyond_the_range_of_numbers_are_refused(dcf, costs):
    with pytest.raises(ValueError, match="p_target .* with c_miss .*out of the range of numbers"):
        dcf([0.9], [0.95], *costs)


def test_a_prior_of_next_to_nothing_has_its_cost():
    assert min_dcf([0.9, 0.7], [0.8], 1e-200) == (0.5, 0.9)  # no false accept, one miss of two


def test_min_dcf_is_normalised_by_the_better_blind_system():
    # peers: an unnormalised cost at p_target = 0.01 never exceeds 0.01 and looks excellent
    target, nontarget = random_sides(13)
    useless = np.zeros(10)
    for p_target in (0.01, 0.5, 0.99):
        assert min_dcf(useless, useless, p_target)[0] == 1.0
        assert min_dcf(target, nontarget, p_target)[0] <= 1.0
    assert min_dcf(target, nontarget, 0.05, 7.0, 7.0)[0] == pytest.approx(min_dcf(target, nontarget, 0.05)[0])


@pytest.mark.parametrize("p_target", [0.0, 1.0, -0.1, np.nan])
def test_a_prior_must_be_a_probability(p_target):
    for cost in (min_dcf, act_dcf):
        with pytest.raises(ValueError, match="p_target"):
            cost([1.0], [0.0], p_target)


@pytest.mark.parametrize(("c_miss", "c_fa", "name"), [(0, 1, "c_miss"), (1, -1, "c_fa"), (np.inf, 1, "c_miss")])
def test_a_cost_must_be_positive_and_finite(c_miss, c_fa, name):
    for cost in (min_dcf, act_dcf):
        with pytest.raises(ValueError, match=name):
            cost([1.0], [0.0], 0.01, c_miss, c_fa)
