import pytest

from alpha_sv.schedule import MarginSchedule


@pytest.mark.parametrize("kind", ["linear", "exp"])
def test_schedule_starts_ends_and_never_falls(kind):
    ramp = MarginSchedule(0.05, 0.3, 2, 5, kind)
    values = [ramp(epoch / 10) for epoch in range(80)]
    assert values[0] == values[19] == 0.05 and values[50] == values[-1] == 0.3
    assert values == sorted(values)
    assert ramp(4.999) == pytest.approx(0.3, abs=1e-3) and ramp(2.001) == pytest.approx(0.05, abs=1e-2)


def test_exponential_type_grows_early_and_a_jump_is_a_jump():
    assert MarginSchedule(0, 0.2, 0, 10, "exp")(3) > MarginSchedule(0, 0.2, 0, 10, "linear")(3)
    assert [MarginSchedule(0, 0.2, 1, 1)(e) for e in (0.99, 1.0)] == [0, 0.2]


@pytest.mark.parametrize(
    "bad",
    [{"increase_start_epoch": 5, "fix_start_epoch": 2}, {"final_margin": -1}, {"increase_type": "cubic"}],
)
def test_bad_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="|".join(bad)):
        MarginSchedule(**bad)
