"""The fit is the minimum of its objective,
found by a general minimiser of the objective written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from alpha_sv.scoring import fit_calibration
from alpha_sv.scoring.logistic import PSEUDO_TRIALS, RIDGE


def objective(theta, columns, labels, p_target, units):
    """Mean cost of both classes,
    their normal distributions counting as three trials each; a ridge."""
    normal_z = np.linspace(-9, 9, 6001)
    density = np.exp(-(normal_z**2) / 2) / np.exp(-(normal_z**2) / 2).sum()
    total, logit = 0.0, np.log(p_target / (1 - p_target))
    for side, share, sign, unit in zip((labels, ~labels), (p_target, 1 - p_target), (1, -1), units, strict=True):
        cost = lambda margin, sign=sign: np.logaddexp(0, -sign * (margin + logit))  # noqa: E731
        rows = columns[side]
        mean = theta[:-1] @ rows.mean(axis=0) + theta[-1]
        deviation = np.sqrt(theta[:-1] @ np.atleast_2d(np.cov(rows.T)) @ theta[:-1]) + 1e-12
        normal = density @ cost(mean + deviation * normal_z)
        real = cost(rows @ theta[:-1] + theta[-1]).mean()
        total += share * (unit * real + PSEUDO_TRIALS * normal) / (unit + PSEUDO_TRIALS)
    entropy = -p_target * np.log(p_target) - (1 - p_target) * np.log(1 - p_target)
    return total + entropy * RIDGE / 2 * ((theta[:-1] * columns.std(axis=0)) ** 2).sum()


@pytest.mark.parametrize("measures", [0, 1, 2])
@pytest.mark.parametrize(("distance", "p_target"), [(2.0, 0.01), (2.0, 0.5), (9.0, 0.2)])
def test_the_fit_is_the_minimum_of_the_objective(distance, p_target, measures):
    # a distance of 9 makes the classes separable: the pseudo-trials alone keep the slope finite
    rng = np.random.default_rng(measures)
    labels = np.arange(400) < 60
    columns = rng.normal(size=(400, 1 + measures)) @ np.triu(np.ones((1 + measures, 1 + measures)))
    columns[:, 0] += distance * labels
    qualities = {f"q{index}": columns[:, index] for index in range(1, 1 + measures)}
    found = fit_calibration(columns[:, 0], labels, qualities, p_target=p_target)
    slopes = [found.weight, *(quality.weight / quality.scale for quality in found.qualities)]
    intercept = found.offset - sum(q.weight * q.mean / q.scale for q in found.qualities)
    theta = np.array([*slopes, intercept])
    arguments = (columns, labels, p_target, (60, 340))
    least = minimize(objective, theta * 0.9, arguments, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-14})
    least = minimize(objective, least.x, arguments, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-15})
    np.testing.assert_allclose(theta, least.x, rtol=2e-3, atol=2e-3)
    assert objective(theta, *arguments) <= least.fun + 1e-7


def test_the_slope_of_separable_classes_is_that_of_normal_ones():
    # the fault: a slope of 172 where the distributions say 5
    rng = np.random.default_rng(0)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = np.arange(960) < 60
        scores = rng.normal(np.where(labels, 8, 0), 1)
        assert 6 < fit_calibration(scores, labels).weight < 14


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_copies_of_a_column_share_its_slope(columns):
    rng = np.random.default_rng(2)
    labels = np.arange(500) < 100
    scores = rng.normal(np.where(labels, 2, 0), 1)
    alone = fit_calibration(scores, labels, p_target=0.3).llrs(scores)
    copies = {f"copy{index}": scores * (index + 1) for index in range(columns)}
    np.testing.assert_allclose(
        fit_calibration(scores, labels, copies, p_target=0.3, allow_inverted=True).llrs(scores, copies),
        alone,
        atol=1e-4,
    )
