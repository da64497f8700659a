"""minCllr and the ROCCH-EER, against definitions
that know nothing of pooling adjacent violators."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import logit

from alpha_sv.metrics import cllr, det_curve, eer, eer_rocch, min_cllr, min_dcf
from alpha_sv.metrics.dcf import min_dcf_of
from alpha_sv.metrics.hull import convex_hull
from tests.fixtures.trial_scores import CASES, operating_points, random_sides

MONOTONE = [lambda s: 3 * s - 100, np.exp, np.arctan, lambda s: s**3]


def best_llrs(target, nontarget):
    """Optimal llr of each distinct score: isotonic regression by its max-min formula, O(K^3)."""
    scores = np.array(sorted({*target.tolist(), *nontarget.tolist()}))
    t = np.array([(target == s).sum() for s in scores])
    n = np.array([(nontarget == s).sum() for s in scores])
    size = range(scores.size)
    fraction = [
        max(min(t[i : j + 1].sum() / (t + n)[i : j + 1].sum() for j in size if j >= k) for i in size if i <= k)
        for k in size
    ]
    with np.errstate(divide="ignore"):
        llrs = logit(fraction) - logit(target.size / (target.size + nontarget.size))
    # 500 nats stand for infinity: 1 + e^-500 is 1,
    # and no target trial has -infinity, no nontarget trial +infinity
    return dict(zip(scores.tolist(), np.clip(llrs, -500, 500).tolist(), strict=True))


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_min_cllr_is_the_cllr_of_the_best_non_decreasing_map(seed, levels):
    target, nontarget = random_sides(seed, 14, 20, levels=levels)
    llr_of = best_llrs(target, nontarget)
    calibrated = [[llr_of[score] for score in side.tolist()] for side in (target, nontarget)]
    assert min_cllr(target, nontarget) == pytest.approx(cllr(*calibrated), abs=1e-13)
    assert min_cllr(*calibrated) == pytest.approx(cllr(*calibrated), abs=1e-13)


def test_agrees_with_scikit_learns_isotonic_regression():
    isotonic = pytest.importorskip("sklearn.isotonic")
    target, nontarget = random_sides(3, 700, 2500, levels=30)
    scores, labels = np.concatenate([target, nontarget]), np.repeat([1.0, 0.0], [700, 2500])
    # the prior of the fit is free: both kinds weigh alike here, so the log odds are the llr
    weights = np.repeat([1 / 700, 1 / 2500], [700, 2500])
    odds = isotonic.IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels, sample_weight=weights)
    llrs = np.clip(logit(odds), -500, 500)
    assert min_cllr(target, nontarget) == pytest.approx(cllr(llrs[:700], llrs[700:]), abs=1e-12)


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_min_cllr_is_one_minus_the_divergence_of_the_two_kinds_over_the_hull(seed, levels):
    hull = convex_hull(det_curve(*random_sides(seed, levels=levels)))
    divergence = jensenshannon(np.diff(hull.p_miss), -np.diff(hull.p_fa), base=2) ** 2
    assert min_cllr(*random_sides(seed, levels=levels)) == pytest.approx(1 - divergence, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_no_rising_map_beats_the_minimum(seed):
    rng = np.random.default_rng(seed)
    target, nontarget = random_sides(seed, 40, 60)
    scores = np.sort(np.concatenate([target, nontarget]))
    for scale in (0.5, 2, 8):
        llrs = np.cumsum(rng.exponential(scale / scores.size, scores.size)) - rng.uniform(0, scale)
        mapped = [llrs[np.searchsorted(scores, side)] for side in (target, nontarget)]
        assert cllr(*mapped) > min_cllr(target, nontarget)


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_eer_rocch_is_the_bayes_error_at_the_least_favourable_prior(seed, levels):
    target, nontarget = random_sides(seed, levels=levels)
    points = np.array([(float(miss), float(fa)) for _, miss, fa in operating_points(target, nontarget)])
    # min over t is concave and piecewise linear in p:
    # its maximum is at a crossing of two of the lines
    best = 0.0
    for miss_i, fa_i in points:
        for miss_j, fa_j in points:
            slope = (miss_i - fa_i) - (miss_j - fa_j)
            p = (fa_j - fa_i) / slope if slope else 0.5
            if 0 <= p <= 1:
                best = max(best, (p * points[:, 0] + (1 - p) * points[:, 1]).min())
    assert eer_rocch(target, nontarget) == pytest.approx(best, abs=1e-13)
    assert eer_rocch(target, nontarget) <= eer(target, nontarget)[0] + 1e-15


@pytest.mark.parametrize(("seed", "levels"), CASES)
def test_the_hull_is_convex_below_the_curve_and_costs_the_same(seed, levels):
    curve = det_curve(*random_sides(seed, levels=levels))
    hull = convex_hull(curve)
    p_miss, p_fa = hull.p_miss, hull.p_fa
    assert (p_miss[0], p_fa[0], p_miss[-1], p_fa[-1]) == (0, 1, 1, 0)
    # no vertex of the curve, the hull's own included,
    # lies on the lower left of a line through a segment of the hull
    for x, y, dx, dy in zip(p_fa, p_miss, np.diff(p_fa), np.diff(p_miss), strict=False):
        assert (dy * (curve.p_fa - x) - dx * (curve.p_miss - y) > -1e-15).all()
    for p_target in (0.001, 0.01, 0.3, 0.5, 0.99):
        assert min_dcf_of(hull, p_target)[0] == pytest.approx(min_dcf_of(curve, p_target)[0], abs=1e-14)


@pytest.mark.parametrize("rise", MONOTONE)
@pytest.mark.parametrize("levels", [None, 2])
def test_discrimination_does_not_notice_a_rising_map(rise, levels):
    target, nontarget = random_sides(12, levels=levels)
    for measure in (min_cllr, eer_rocch):
        assert measure(rise(target), rise(nontarget)) == measure(target, nontarget)


@pytest.mark.parametrize("levels", [None, 2])
def test_swapping_the_kinds_and_negating_changes_nothing(levels):
    target, nontarget = random_sides(13, levels=levels)
    for measure in (min_cllr, eer_rocch):
        assert measure(-nontarget, -target) == pytest.approx(measure(target, nontarget), abs=1e-14)


def test_useless_and_perfect_scores_reach_the_ends():
    tied, low, high = np.zeros(7), np.arange(4.0), np.arange(5.0, 8.0)
    assert (min_cllr(tied, tied), eer_rocch(tied, tied)) == (1.0, 0.5)
    assert (min_cllr(high, low), eer_rocch(high, low)) == (0.0, 0.0)
    # no rising map helps reversed scores: the best one ignores them
    assert (min_cllr(low, high), eer_rocch(low, high)) == (1.0, 0.5)
    assert min_dcf(low, high)[0] == 1.0
