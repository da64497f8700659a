import itertools
import math

import pytest

from alpha_sv.schedule import AlphaSchedule, ExponentialRate, MarginSchedule, TriangularRate


@pytest.mark.parametrize("kind, scale", [("linear", 0), ("exp", 0), ("measure", 10)])
def test_schedule_starts_ends_and_never_falls(kind, scale):
    ramp = MarginSchedule(0.05, 0.3, 2, 5, kind, scale)
    values = [ramp(epoch / 10) for epoch in range(80)]
    assert values[0] == values[19] == 0.05 and values[50] == values[-1] == 0.3
    assert values == sorted(values)
    assert ramp(4.999) == pytest.approx(0.3, abs=1e-3) and ramp(2.001) == pytest.approx(0.05, abs=1e-2)


def test_measure_type_moves_the_reference_measure_in_equal_steps():
    ramp = MarginSchedule(0.0, 0.2, 0, 10, "measure", scale=10)
    measures = [math.exp(-10 * ramp(epoch)) for epoch in range(11)]
    steps = [b - a for a, b in itertools.pairwise(measures)]
    assert steps == pytest.approx([(math.exp(-2) - 1) / 10] * 10)


def test_alpha_goes_from_one_end_to_the_other_in_equal_steps():
    anneal = AlphaSchedule(1.0, 1.75, 2, 5)
    assert [anneal(epoch) for epoch in (0, 2, 5, 99)] == [1.0, 1.0, 1.75, 1.75], (
        "the ends exactly: α = 1 is a special case"
    )
    assert [anneal(epoch) for epoch in (2, 3, 4, 5)] == pytest.approx([1.0, 1.25, 1.5, 1.75])
    assert [AlphaSchedule(1.0, 2.0, 1, 1)(epoch) for epoch in (0.99, 1.0)] == [1.0, 2.0]


def test_exponential_type_grows_early_and_a_jump_is_a_jump():
    assert MarginSchedule(0, 0.2, 0, 10, "exp")(3) > MarginSchedule(0, 0.2, 0, 10, "linear")(3)
    assert [MarginSchedule(0, 0.2, 1, 1)(e) for e in (0.99, 1.0)] == [0, 0.2]


@pytest.mark.parametrize(
    "bad",
    [
        {"increase_start_epoch": 5, "fix_start_epoch": 2},
        {"final_margin": -1},
        {"increase_type": "cubic"},
        {"increase_type": "measure"},
        {"scale": 10},
    ],
)
def test_bad_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="|".join(bad)):
        MarginSchedule(**bad)


@pytest.mark.parametrize("bad", [{"initial_alpha": 0.9}, {"final_alpha": 0}, {"increase_start_epoch": 3}])
def test_bad_alpha_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="|".join(bad)):
        AlphaSchedule(**bad)


def test_exponential_rate_is_a_straight_line_in_decibels_after_a_straight_warm_up():
    rate = ExponentialRate(0.1, 5e-5, warmup_epochs=6, number_of_epochs=150)
    assert rate(0) == 0 and rate(150) == pytest.approx(5e-5)
    logs = [math.log(rate(epoch)) for epoch in range(6, 151)]
    steps = [b - a for a, b in itertools.pairwise(logs)]
    assert steps == pytest.approx([math.log(5e-5 / 0.1) / 150] * 144)
    unwarmed = ExponentialRate(0.1, 5e-5, warmup_epochs=0, number_of_epochs=150)
    assert unwarmed(0) == 0.1
    for epoch in (0.01, 1, 3.3, 5.99):
        assert rate(epoch) / unwarmed(epoch) == pytest.approx(epoch / 6)
    assert all(rate(epoch) == unwarmed(epoch) for epoch in (6, 7.5, 149, 150))
    assert rate(151) == rate(150), "it stays"


def test_triangular_rate_is_speechbrains_step_by_step():
    schedulers = pytest.importorskip("speechbrain.nnet.schedulers", reason="SpeechBrain is not installed")
    steps, half = 40, 2.5
    theirs = schedulers.CyclicLRScheduler(base_lr=1e-8, max_lr=1e-3, step_size=half * steps)
    ours = TriangularRate(1e-8, 1e-3, half)
    for step in range(12 * steps):
        assert ours(step / steps) == pytest.approx(theirs.clr(step), rel=1e-6)


def test_triangular_rate_has_its_period_and_its_symmetry():
    rate = TriangularRate(0.1, 0.7, half_period=3)
    for epoch in (0.0, 0.7, 2.9, 3.0, 4.4):
        assert rate(epoch + 6) == pytest.approx(rate(epoch)) == pytest.approx(rate(6 - epoch))
    assert [rate(0), rate(3), rate(6)] == pytest.approx([0.1, 0.7, 0.1])


@pytest.mark.parametrize(
    "schedule, bad",
    [
        (ExponentialRate, {"initial_lr": 0.0}),
        (ExponentialRate, {"final_lr": -1e-5}),
        (ExponentialRate, {"warmup_epochs": 200}),
        (ExponentialRate, {"number_of_epochs": 0, "warmup_epochs": 0}),
        (TriangularRate, {"base_lr": 1.0}),
        (TriangularRate, {"half_period": 0}),
    ],
)
def test_bad_rates_are_refused(schedule, bad):
    good = {
        ExponentialRate: {"initial_lr": 0.1, "final_lr": 1e-5, "warmup_epochs": 6, "number_of_epochs": 150},
        TriangularRate: {"base_lr": 0.0, "max_lr": 0.1, "half_period": 1},
    }[schedule]
    schedule(**good)
    with pytest.raises(ValueError, match=next(iter(bad))):
        schedule(**{**good, **bad})
