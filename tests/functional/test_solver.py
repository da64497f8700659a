"""The theorems that the fast solver rests on,
and the certificate that finds out when one does not hold."""

import math

import pytest
import torch

from alpha_sv.functional import alpha_softargmax, fenchel_young_loss, newton, solver
from alpha_sv.functional.plain import plain_softargmax, solve
from tests.batteries.losses import random_cosines
from tests.batteries.solvers import ORDERS, assert_solved, counting, random_logits, targets_everywhere

EVERY_ORDER = pytest.mark.parametrize("alpha", ORDERS)
EVERY_TYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def root_of(logits, alpha, log_q=None):
    """t = (α−1)τ − 1 of each row [N, 1], in float64 and from the row's maximum."""
    gap = solve(logits.double(), alpha, None if log_q is None else log_q.double()).gap
    best = logits.double().argmax(1, keepdim=True)
    return -(alpha - 1) * gap.gather(1, best) - 1


@EVERY_TYPE
@EVERY_ORDER
def test_root_of_a_subset_and_its_bound_are_lower_bounds(alpha, dtype):
    for seed in range(8):
        logits = random_logits(8, 120, seed, spread=0.1 + seed).to(dtype)
        chosen = torch.randperm(120, generator=torch.Generator().manual_seed(seed))[: 1 + 8 * seed]
        log_q = -random_logits(8, 120, seed + 50).abs().to(dtype) if seed % 2 else torch.zeros_like(logits)
        whole = root_of(logits, alpha, log_q) + (alpha - 1) * logits.double().amax(1, keepdim=True)
        subset, weights = logits[:, chosen], ((alpha - 1) * log_q[:, chosen]).exp()
        part = root_of(subset, alpha, log_q[:, chosen]) + (alpha - 1) * subset.double().amax(1, keepdim=True)
        assert (part <= whole + 1e-9).all()
        for a in (weights, *[None] * (1 - seed % 2)):
            shift, bound = newton.lower_bound(subset, a, alpha - 1, alpha)
            assert (shift.double() * (alpha - 1) + bound.double() <= part).all()
            alone = (alpha - 1) * (subset - shift) - weights.reciprocal()
            slack = 2 * newton.SLACK / weights.amax(1, keepdim=True)
            assert (bound >= alone.amax(1, keepdim=True) - slack).all()


@pytest.mark.parametrize("alpha", [1.03, 1.07, 1.3, 1.6, 1.9, 2.2, 3.0])
def test_rounding_the_exponent_up_lowers_the_root(alpha):
    """z = (α−1)θ and a = q^{α−1} stay, β becomes ⌈β⌉, that is α' = 1 + 1/⌈β⌉."""
    logits, log_q = random_logits(50, 40, spread=2), random_logits(50, 40, 1)
    rounded = 1 + 1 / math.ceil(1 / (alpha - 1))
    ratio = (alpha - 1) / (rounded - 1)
    lower = root_of(logits * ratio, rounded, log_q * ratio)
    assert (lower <= root_of(logits, alpha, log_q) + 1e-12).all()
    assert (lower < root_of(logits, alpha, log_q) - 1e-6).any()


@pytest.mark.parametrize("with_q", [False, True])
@pytest.mark.parametrize("alpha", [1.02, 1.05, 1.25, 1.5, 1.75, 2.0])
def test_newton_on_the_norm_climbs_and_never_overshoots(alpha, with_q, monkeypatch, device):
    steps, honest = [], solver.climb

    def watched(z, a, t, beta, per_entry, sums, done=None):
        spread = lambda t: steps.append(t) or per_entry(t)  # noqa: E731
        return honest(z, a, t, beta, spread, sums, done)

    monkeypatch.setattr(solver, "climb", watched)  # the last climb; those of the bounds are not looked at
    logits = random_logits(40, 200, spread=3 / (alpha - 1))
    log_q = random_logits(40, 200, 1) if with_q else None
    alpha_softargmax(logits, alpha, None if log_q is None else log_q.exp())
    root = root_of(logits, alpha, log_q).squeeze(1)
    assert 1 < len(steps) <= (9 if device == "cpu" else 2 * solver._BETWEEN_LOOKS)  # a GPU is asked seldom
    for before, after in zip(steps, steps[1:], strict=False):
        assert (after >= before - 1e-12).all() and (after <= root + 1e-12).all()
    assert ((root - steps[-1]).abs() < 1e-9).all() and (root - steps[0] > 1e-6).any()


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 2.5])
def test_posterior_over_the_candidates_is_that_over_all_and_they_are_few(alpha):
    cosines, target = random_cosines(32, 5994)
    logits = 5 / (alpha - 1) * cosines
    found = solver.find_active(logits, target, alpha=alpha, target_value=logits.gather(1, target[:, None]).squeeze(1))
    p = torch.zeros_like(logits).view(-1).index_add_(0, found.flat, found.p).view_as(logits)
    full = plain_softargmax(logits, alpha)
    torch.testing.assert_close(p, full, rtol=0, atol=1e-12)
    assert torch.equal(found.flat[found.at], torch.arange(32) * 5994 + target)
    assert torch.equal(found.rows, found.flat // 5994) and (found.rows.diff() >= 0).all()
    active_classes = (full > 0).sum().item()
    assert len(found.p) <= (1.5 if alpha <= 2 else 2.0) * active_classes + 32  # β = 1 bounds are looser


@pytest.mark.parametrize(
    "classes, too_high", [(100, 3e-5), (100, 0.05), (100, 5.0), (300, 0.05), (300, 0.3), (300, 5.0)]
)
@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 2.5])
def test_a_bound_that_is_none_is_found_out(alpha, classes, too_high, monkeypatch):
    """The certificate: with a bound above the root the
    plain solver takes over, and the result is right."""
    honest = solver.lower_bound

    def wrong(*arguments):
        shift, bound = honest(*arguments)
        return shift, bound + too_high

    monkeypatch.setattr(solver, "lower_bound", wrong)
    logits, target = random_logits(20, classes), targets_everywhere(20, classes)
    with counting() as count:
        assert_solved(lambda x: fenchel_young_loss(x, target, alpha), logits, target, alpha)
    assert count.solves == 2 and count.fallbacks == 2  # float32 and float64
