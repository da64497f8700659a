"""One sort answers what a loop over every threshold would."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from alpha_sv.metrics import det_curve
from alpha_sv.metrics.dcf import act_dcf_of, min_dcf_of
from alpha_sv.metrics.det import rank_trials
from alpha_sv.metrics.errors import eer_of, fpr_vertex
from alpha_sv.metrics.hull import convex_hull, min_cllr_of
from tests.fixtures.trial_scores import random_sides


@pytest.mark.parametrize("levels", [None, 1, 3])
def test_every_distinct_threshold_is_there_with_its_counts(levels):
    target, nontarget = random_sides(0, levels=levels)
    curve = det_curve(target, nontarget)
    distinct = sorted(set(target.tolist()) | set(nontarget.tolist()))
    assert curve.thresholds[:-1].tolist() == distinct
    for threshold, misses, false_accepts in zip(curve.thresholds, curve.misses, curve.false_accepts, strict=True):
        assert misses == (target < threshold).sum()
        assert false_accepts == (nontarget >= threshold).sum()


def test_the_ends_accept_all_and_reject_all():
    curve = det_curve(*random_sides(1))
    assert (curve.p_miss[0], curve.p_fa[0]) == (0, 1)
    assert (curve.p_miss[-1], curve.p_fa[-1]) == (1, 0)
    assert np.isfinite(curve.thresholds).all()
    assert (np.diff(curve.thresholds) > 0).all()


def test_tied_scores_do_not_depend_on_file_order():
    # peers: without merging ties, all-tied scores gave an EER of 0 or 100 % by file order
    rng = np.random.default_rng(2)
    target, nontarget = random_sides(2, levels=2)
    expected = det_curve(target, nontarget)
    for _ in range(5):
        curve = det_curve(rng.permutation(target), rng.permutation(nontarget))
        for field in ("thresholds", "misses", "false_accepts"):
            np.testing.assert_array_equal(getattr(curve, field), getattr(expected, field))
    tied = det_curve(np.zeros(5), -np.zeros(3))  # 0.0 and -0.0 are the same score
    assert tied.p_miss.tolist() == [0, 1] and tied.p_fa.tolist() == [1, 0]


def test_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    target, nontarget = random_sides(3, levels=5)
    labels = np.concatenate([np.ones(target.size), np.zeros(nontarget.size)])
    p_fa, p_hit, _ = metrics.roc_curve(labels, np.concatenate([target, nontarget]), drop_intermediate=False)
    curve = det_curve(target, nontarget)
    np.testing.assert_allclose(curve.p_fa[::-1], p_fa, atol=1e-15)
    np.testing.assert_allclose(curve.p_miss[::-1], 1 - p_hit, atol=1e-15)


def test_memory_is_linear_in_the_trials():
    # peers: a thresholds x scores matrix of 40,000 trials has 1.6e9 entries
    target, nontarget = random_sides(4, 4_000, 36_000)
    tracemalloc.start()
    det_curve(target, nontarget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 40_000


@pytest.mark.parametrize("levels", [None, 1, 3])
def test_a_trial_of_weight_w_is_w_trials(levels):
    rng = np.random.default_rng(5)
    target, nontarget = random_sides(5, levels=levels)
    weights = [rng.integers(0, 4, side.size) for side in (target, nontarget)]
    weighted = rank_trials(target, nontarget).curve(*weights)
    copies = det_curve(np.repeat(target, weights[0]), np.repeat(nontarget, weights[1]))
    assert (weighted.num_target, weighted.num_nontarget) == (copies.num_target, copies.num_nontarget)
    # thresholds of trials of weight 0 are vertices that repeat a neighbour
    at = weighted.vertex(copies.thresholds)
    np.testing.assert_array_equal(weighted.misses[at], copies.misses)
    np.testing.assert_array_equal(weighted.false_accepts[at], copies.false_accepts)
    assert set(zip(weighted.p_miss, weighted.p_fa, strict=True)) == set(zip(copies.p_miss, copies.p_fa, strict=True))


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", [6, 7, 8])
def test_merging_runs_of_one_kind_leaves_what_is_read_off_the_line(seed, levels):
    rng = np.random.default_rng(seed)
    target, nontarget = random_sides(seed, 300, 500, levels=levels)
    ranked = rank_trials(target, nontarget)
    bayes = [-0.3, 0.7]
    merged = ranked.merged(keep=bayes)
    assert merged.thresholds.size < ranked.thresholds.size or levels
    weights = [rng.integers(0, 3, side.size) for side in (target, nontarget)]
    long, short = ranked.curve(*weights), merged.curve(*weights)
    assert eer_of(short)[0] == pytest.approx(eer_of(long)[0], abs=1e-14)
    for p_target in (0.01, 0.3, 0.9):
        assert min_dcf_of(short, p_target)[0] == min_dcf_of(long, p_target)[0]
    for fpr in (0, 0.01, 0.1, 0.77):
        assert short.p_miss[fpr_vertex(short, fpr)] == long.p_miss[fpr_vertex(long, fpr)]
    assert min_cllr_of(convex_hull(short)) == pytest.approx(min_cllr_of(convex_hull(long)), abs=1e-14)
    for threshold in bayes:
        p_target = 1 / (1 + np.exp(threshold))
        assert act_dcf_of(short, p_target)[0] == act_dcf_of(long, p_target)[0]


@pytest.mark.parametrize(
    ("target", "nontarget", "expected"),
    [
        ([], [0.0], "target_scores is empty"),
        ([0.0], [], "nontarget_scores is empty"),
        ([0.0, np.nan, np.nan], [0.0], r"target_scores: 2 of 3 .*\(first at index 1"),
        ([0.0], [0.0, -np.inf], "nontarget_scores: 1 of 2"),
        ([[0.0, 1.0]], [0.0], r"target_scores must be one-dimensional.*\(1, 2\)"),
        (0.5, [0.0], "target_scores must be one-dimensional"),
        (["0.5"], [0.0], "target_scores must be real numbers"),
        ([True], [0.0], "target_scores must be real numbers"),
        ([1j], [0.0], "target_scores must be real numbers"),
    ],
)
def test_unusable_scores_are_refused_by_side_and_count(target, nontarget, expected):
    with pytest.raises(ValueError, match=expected):
        det_curve(target, nontarget)
