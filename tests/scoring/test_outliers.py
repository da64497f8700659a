"""A value that stands for a failure costs one trial, not the calibrator."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.special import ndtri

from alpha_sv.scoring import fit_calibration
from alpha_sv.scoring.outliers import repeated_score


def quantiles(count, mean, deviation):
    return mean + deviation * ndtri((np.arange(count) + 0.5) / count)


SCORES = np.concatenate([quantiles(200, 0.6, 0.1), quantiles(2000, 0.1, 0.1)])
LABELS = np.arange(2200) < 200
PLAIN = fit_calibration(SCORES, LABELS)


def cllr(llrs, labels):
    return (np.logaddexp(0, -llrs[labels]).mean() + np.logaddexp(0, llrs[~labels]).mean()) / (2 * np.log(2))


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("values", [[-999999.0], [-1e4], [1e6], [-1.0], [-999999.0, 1e6, 99.0, -1e4], [-1e300]])
@pytest.mark.parametrize("label", [True, False])
def test_sentinel_scores_on_either_side_do_not_move_the_line(values, label, unit, caplog):
    scores = np.concatenate([SCORES * unit, np.array(values) * unit])
    labels = np.append(LABELS, [label] * len(values))
    found = fit_calibration(scores, labels)
    assert found.weight * unit == pytest.approx(PLAIN.weight, abs=0.1)
    assert found.offset == pytest.approx(PLAIN.offset, abs=0.05)
    assert found.support["set_aside"] == len(values) == found.support["targets"] + found.support["nontargets"] - 2200
    assert f"{len(values)} of {len(scores)} scores lie far outside of all others (trial 2200: " in caplog.text
    assert any("take these trials out" in text for text in found.warnings)
    others = cllr(found.llrs(SCORES * unit), LABELS)
    assert others == pytest.approx(cllr(PLAIN.llrs(SCORES), LABELS), abs=0.02)


def test_a_trial_set_aside_still_counts_as_an_error():
    missed = fit_calibration(np.append(SCORES, [-999999.0] * 20), np.append(LABELS, [True] * 20))
    assert PLAIN.bounds[0] < -5 and missed.bounds[0] == pytest.approx(np.log(21 / 221), abs=0.05)
    accepted = fit_calibration(np.append(SCORES, [1e6] * 20), np.append(LABELS, [False] * 20))
    assert PLAIN.bounds[1] > 7 and accepted.bounds[1] == pytest.approx(-np.log(21 / 2021), abs=0.15)


@pytest.mark.parametrize("rows", [[5], [1500], [0, 5, 700, 1500]])
@pytest.mark.parametrize("value", [-999999.0, 1e6, 1e300])
def test_sentinels_in_quality_measures_do_not_move_the_fit(rows, value, caplog):
    quality = np.random.default_rng(0).normal(size=2200)
    kept = ~np.isin(np.arange(2200), rows)
    expected = fit_calibration(SCORES[kept], LABELS[kept], {"snr": quality[kept]})
    spoiled = quality.copy()
    spoiled[rows] = value
    found = fit_calibration(SCORES, LABELS, {"snr": spoiled})
    assert found.weight == pytest.approx(expected.weight, rel=2e-3)
    assert found.qualities[0].weight == pytest.approx(expected.qualities[0].weight, abs=2e-2)
    assert f"{len(rows)} of 2200 snr lie far outside" in caplog.text
    # and when it is applied, a measure counts as the nearest one that was fitted
    ends = found.llrs(SCORES[:2], {"snr": [value, np.sign(value) * 99]})
    assert np.isfinite(ends).all() and ends.min() > PLAIN.bounds[0] - 1


def test_ordinary_lists_have_nothing_set_aside(caplog):
    caplog.set_level(logging.WARNING)
    rng = np.random.default_rng(1)
    labels = np.arange(4000) < 1000
    for scores in (
        rng.normal(np.where(labels, 12, 0), np.where(labels, 4, 1)),  # AS-normed
        np.where(labels, rng.normal(20, 10, 4000), rng.normal(-60, 30, 4000)),  # LLRs
        np.where(labels, rng.beta(8, 2, 4000), rng.beta(1, 30, 4000)),  # probabilities
        np.round(rng.normal(np.where(labels, 3, 0), 1)),  # ties
        np.where(labels, 1.0, 0.0) + (rng.random(4000) < 0.2),  # tied but for a fifth
    ):
        assert fit_calibration(scores, labels).support["set_aside"] == 0
    chunks = np.where(rng.random(4000) < 0.8, 3.0, rng.uniform(1, 20, 4000))  # most of one length
    found = fit_calibration(rng.normal(np.where(labels, 3, 0), 1), labels, {"seconds": chunks})
    assert found.support["set_aside"] == 0 and "far outside" not in caplog.text


@pytest.mark.parametrize(
    ("target", "nontarget", "expected"), [(0.0, 0.0, "450 of 2650"), (0.0, -999.0, "4000 of 6250")]
)
def test_a_failure_written_as_a_usual_score_or_most_of_a_class_is_said(target, nontarget, expected):
    count = 400 if nontarget == 0 else 4000
    scores = np.concatenate([SCORES, np.full(50, target), np.full(count, nontarget)])
    found = fit_calibration(scores, np.concatenate([LABELS, np.ones(50, bool), np.zeros(count, bool)]))
    assert any(f"{expected} scores are exactly {nontarget:g}" in text for text in found.warnings)


def test_scores_rounded_or_on_a_scale_of_a_few_steps_have_no_value_that_sticks_out():
    for decimals in (0, 1, 2, 3):
        assert repeated_score((10 * SCORES).round(decimals)) is None
    assert repeated_score(np.repeat([1.0, 2.0, 3.0], [50, 200, 120])) is None
