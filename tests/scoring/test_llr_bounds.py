"""An LLR is worth stating while it beats not listening,
with one more error of each kind than was seen."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_sv.scoring.llr_bounds import LEAST, limit, llr_bounds


def better_than_none(t, target, nontarget):
    """Vergeer et al. 2016, with the misleading trials added one by one:
    cost at the prior where LLR t decides."""
    p_fa = np.mean(np.append(nontarget, np.inf) >= t)
    p_miss = np.mean(np.append(target, -np.inf) < t)
    return p_fa * np.exp(t) + p_miss <= 1 if t >= 0 else p_fa + p_miss * np.exp(-t) <= 1


@pytest.mark.parametrize("seed", range(8))
def test_bounds_end_where_the_definition_says(seed):
    # brute force over thresholds, fine enough to meet every interval between two LLRs
    rng = np.random.default_rng(seed)
    spread, count = rng.uniform(0.5, 4), rng.integers(1, 80, 2)
    target, nontarget = rng.normal(spread, 2, count[0]), rng.normal(-spread, 2, count[1])
    if seed == 7:
        target, nontarget = np.round(target), np.round(nontarget)  # ties
    lower, upper = llr_bounds(target, nontarget)
    step = 1e-2
    grid = np.arange(0, 12, step) + 1e-7
    above = np.array([better_than_none(t, target, nontarget) for t in grid])
    below = np.array([better_than_none(-t, target, nontarget) for t in grid])
    assert upper == pytest.approx(max(LEAST, grid[np.argmin(above)]), abs=2 * step)
    assert lower == pytest.approx(-max(LEAST, grid[np.argmin(below)]), abs=2 * step)


def test_exchanging_the_classes_exchanges_the_bounds():
    rng = np.random.default_rng(0)
    target, nontarget = rng.normal(1, 2, 40), rng.normal(-2, 3, 300)
    lower, upper = llr_bounds(target, nontarget)
    assert llr_bounds(-nontarget, -target) == (-upper, -lower)


def test_repeating_every_trial_is_no_new_evidence_if_it_does_not_count():
    rng = np.random.default_rng(1)
    target, nontarget = rng.normal(6, 1, 30), rng.normal(-6, 1, 200)
    once = llr_bounds(target, nontarget)
    again = llr_bounds(np.repeat(target, 9), np.repeat(nontarget, 9), targets=30, nontargets=200)
    np.testing.assert_allclose(again, once, rtol=1e-12)
    more = llr_bounds(np.repeat(target, 9), np.repeat(nontarget, 9))
    assert more[0] < once[0] - 1 and more[1] > once[1] + 1


def test_scores_that_say_nothing_support_nothing():
    same = np.random.default_rng(2).normal(0, 3, 50)
    for target, nontarget in ((same, same), (same - 5, same), ([0.0], [0.0]), ([9.0], [-9.0])):
        assert llr_bounds(np.array(target), np.array(nontarget)) == (-LEAST, LEAST)


@pytest.mark.parametrize("bounds", [(-2.0, 3.0), (-LEAST, LEAST), (-LEAST, 8.0)])
def test_limiting_keeps_the_order_and_the_bounds(bounds):
    llrs = np.unique(np.concatenate([np.linspace(-60, 60, 100_001), [0.0, 2.9999, 3.0001]]))
    held = limit(llrs, bounds)
    assert (np.diff(held) > 0).all()
    assert bounds[0] < held[0] and held[-1] < bounds[1]
    np.testing.assert_allclose(limit(np.array([-1e308, -np.inf, 1e308, np.inf]), bounds), np.repeat(bounds, 2))
    inside = (llrs > bounds[0] + 0.01) & (llrs < bounds[1] - 0.01)
    np.testing.assert_allclose(held[inside], llrs[inside], atol=1e-15)
