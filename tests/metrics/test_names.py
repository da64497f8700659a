"""Each name of a metric is in one table, and what writes names takes them from there."""

import numpy as np
import pytest

from alpha_sv.metrics import act_dcf, cllr, eer, evaluate, fnr_at_fpr, min_cllr, min_dcf, speaker_bootstrap
from alpha_sv.metrics.names import METRICS, field_keys, metric, metric_of, power, values_by_key
from tests.fixtures.trial_scores import random_sides

MEASURES = {
    "eer": lambda t, n, _: eer(t, n)[0],
    "min_dcf": lambda t, n, p: min_dcf(t, n, p)[0],
    "fnr_at_fpr": lambda t, n, f: fnr_at_fpr(t, n, f)[0],
    "min_cllr": lambda t, n, _: min_cllr(t, n),
    "act_dcf": lambda t, n, p: act_dcf(t, n, p)[0],
    "cllr": lambda t, n, _: cllr(t, n),
}


def test_a_key_leads_to_the_number_it_names():
    target, nontarget = random_sides(3, 200, 3000)
    found = values_by_key(evaluate(target, nontarget, llr=True))
    assert list(found) == list(METRICS)
    for key, (value, supported) in found.items():
        of = METRICS[key]
        assert value == MEASURES[of.field](target, nontarget, of.point)
        assert supported == (key not in ("fnr at fpr 1e-3", "fnr at fpr 1e-4"))  # 3 and no false accepts
    assert list(values_by_key(evaluate(target, nontarget))) == [key for key, of in METRICS.items() if not of.llr]


def test_the_bootstrap_has_the_metrics_of_the_table_and_their_intervals_the_fields_of_evaluate():
    names = np.array([f"s{k}" for k in range(12)])
    enroll, test = np.concatenate([names, names]), np.concatenate([names, np.roll(names, 1)])
    for llr in (False, True):
        boot = speaker_bootstrap(np.arange(24.0), enroll, test, np.arange(24) < 12, replicates=80, llr=llr)
        assert list(boot.metrics) == [key for key, of in METRICS.items() if llr or not of.llr]
        intervals = boot.intervals()
        for field in {of.field for of in METRICS.values()}:
            assert intervals[field] is None or len(intervals[field]) == max(2, len(field_keys(field)))
            assert (intervals[field] is None) == (field in ("act_dcf", "cllr") and not llr)


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_is_found_again_by_its_key_its_field_and_its_point(key):
    of = METRICS[key]
    assert metric_of(key) == of == metric(of.field, of.point)
    assert len({other.label for other in METRICS.values()}) == len(METRICS)


def test_a_name_of_another_version_is_shown_as_it_is():
    assert metric_of("tmr at 5 %").label == "tmr at 5 %" and metric_of("x").factor == 1


@pytest.mark.parametrize("rate", [0.5, 0.01, 0.0025, 1e-4, 1e-10, 1.0])
def test_a_rate_is_written_so_that_it_can_be_read(rate):
    assert float(power(rate)) == rate
