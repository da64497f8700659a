"""EER, FNR@FPR and TAR@FAR are facts about the scores:
hand cases, brute-force oracles, and invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from alpha_sv.metrics import eer, fnr_at_fpr, tar_at_far
from tests.fixtures.trial_scores import CASES, operating_points, random_sides


def eer_by_hand(target, nontarget):
    points = [(p_miss, p_fa) for _, p_miss, p_fa in operating_points(target, nontarget)]
    for (miss_0, fa_0), (miss_1, fa_1) in itertools.pairwise(points):
        if miss_1 >= fa_1:
            # miss_0 + w (miss_1 - miss_0) = fa_0 + w (fa_1 - fa_0)
            w = (fa_0 - miss_0) / ((miss_1 - miss_0) - (fa_1 - fa_0))
            return miss_0 + w * (miss_1 - miss_0)
    raise AssertionError("the curve ends at p_miss = 1, p_fa = 0")


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_eer_is_the_crossing_of_the_interpolated_curve(seed, levels):
    target, nontarget = random_sides(seed, levels=levels)
    value, threshold = eer(target, nontarget)
    assert value == pytest.approx(float(eer_by_hand(target, nontarget)), abs=1e-14)
    gap = {t: abs(p_miss - p_fa) for t, p_miss, p_fa in operating_points(target, nontarget)}
    assert gap[threshold] == min(gap.values())


@pytest.mark.parametrize(("seed", "levels"), CASES)
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_fnr_at_fpr_is_the_least_miss_rate_within_the_limit(seed, levels, fpr):
    target, nontarget = random_sides(seed, levels=levels)
    within = [p_miss for _, p_miss, p_fa in operating_points(target, nontarget) if float(p_fa) <= fpr]
    value, threshold = fnr_at_fpr(target, nontarget, fpr)
    assert value == float(min(within))
    assert np.mean(target < threshold) == value
    assert np.mean(nontarget >= threshold) <= fpr


@pytest.mark.parametrize(("seed", "levels"), CASES)
@pytest.mark.parametrize("far", [0.0, 0.1, 0.5])
def test_tar_at_far_is_the_share_of_targets_its_threshold_accepts(seed, levels, far):
    target, nontarget = random_sides(seed, levels=levels)
    value, threshold = tar_at_far(target, nontarget, far)
    assert value == pytest.approx(np.mean(target >= threshold), abs=1e-15)
    assert np.mean(nontarget >= threshold) <= far


def test_agrees_with_scikit_learns_roc():
    metrics = pytest.importorskip("sklearn.metrics")
    target, nontarget = random_sides(21, 500, 3000, levels=40)
    labels = np.concatenate([np.ones(target.size), np.zeros(nontarget.size)])
    p_fa, p_hit, _ = metrics.roc_curve(labels, np.concatenate([target, nontarget]))
    # the EER by interpolating p_fa over the rising p_fa - p_miss
    assert eer(target, nontarget)[0] == pytest.approx(np.interp(0, p_fa + p_hit - 1, p_fa), abs=1e-12)
    for limit in (0.001, 0.01, 0.1):
        assert fnr_at_fpr(target, nontarget, limit)[0] == pytest.approx(1 - p_hit[p_fa <= limit].max(), abs=1e-12)


def test_scores_without_information_have_an_eer_of_one_half():
    # peers: all-tied scores gave 0 or 100 % by file order
    assert eer(np.zeros(7), np.zeros(1000))[0] == 0.5


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
    assert eer(high, low)[0] == 0 and fnr_at_fpr(high, low, 0)[0] == 0
    assert eer(low, high)[0] == 1 and fnr_at_fpr(low, high, 0)[0] == 1


@pytest.mark.parametrize("rise", [lambda s: 3 * s - 100, np.exp, np.arctan, lambda s: s**3])
def test_values_stay_and_thresholds_move_along_under_a_rising_map(rise):
    target, nontarget = random_sides(11)
    before, after = (target, nontarget), (rise(target), rise(nontarget))
    for measure in (eer, lambda t, n: fnr_at_fpr(t, n, 0.1)):
        value, threshold = measure(*before)
        assert measure(*after) == (value, pytest.approx(rise(threshold), rel=1e-12))


@pytest.mark.parametrize("levels", [None, 2])
def test_eer_treats_both_sides_alike(levels):
    target, nontarget = random_sides(12, levels=levels)
    value = eer(target, nontarget)[0]
    assert eer(-nontarget, -target)[0] == pytest.approx(value, abs=1e-15)
    assert eer(nontarget, target)[0] == pytest.approx(1 - value, abs=1e-15)


def test_a_limit_of_exactly_k_false_accepts_allows_k():
    nontarget = np.arange(100.0)
    for allowed in range(101):  # 0.29 * 100 = 28.999... in floating point
        _, threshold = fnr_at_fpr(nontarget + 0.5, nontarget, float(f"{allowed / 100:.2f}"))
        assert (nontarget >= threshold).sum() == allowed


@pytest.mark.parametrize("fpr", [-1e-9, 1.5, np.nan])
def test_a_false_acceptance_limit_must_be_a_fraction(fpr):
    with pytest.raises(ValueError, match="fraction between 0 and 1"):
        fnr_at_fpr([1.0], [0.0], fpr)
