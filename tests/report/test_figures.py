"""Figures: positions are read back from the SVG, and they are those of the metrics."""

import re

import matplotlib
import numpy as np
import pytest
from scipy.special import expit, ndtr, ndtri

from alpha_sv.report import (
    ape_plot,
    det_plot,
    histogram_plot,
    reliability_plot,
    sparsity_plot,
    training_plot,
)
from alpha_sv.report.figures.canvas import look
from tests.fixtures.metrics_json import of_scores, system, training_log


def group(svg, name):
    """The inside of <g id=name>, which holds no other named curve."""
    return re.search(rf'<g id="{name}">(.*?)\n   </g>', svg, flags=re.DOTALL)[1]


def vertices(svg, name):
    path = re.search(r'<path d="([^"]*)"', group(svg, name))[1]
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float)


def mark(svg, name):
    return np.array(re.search(r'<use [^>]*x="(\S+)" y="(\S+)"', group(svg, name)).groups(), dtype=float)


def tick_line(svg, axis):
    """Slope and intercept of pixel = a Φ⁻¹(rate) + b,
    fitted to the tick marks of one axis; they must lie on it."""
    ticks = re.findall(rf'<g id="det-{axis}tick_.*?<use [^>]*x="(\S+)" y="(\S+)".*?>(\S+) %</text>', svg, re.DOTALL)
    assert len(ticks) >= 4
    pixel = np.array([float(x if axis == "x" else y) for x, y, _ in ticks])
    deviate = ndtri(np.array([float(label) for *_, label in ticks]) / 100)
    (slope, intercept), residual, *_ = np.polyfit(deviate, pixel, 1, full=True)
    assert residual < 1e-6
    return slope, intercept


def test_det_axes_are_normal_deviates_and_every_mark_stands_where_it_should():
    one = system("one", 2.0, targets=2000, nontargets=20000)
    svg = det_plot([one])
    (ax, bx), (ay, by) = tick_line(svg, "x"), tick_line(svg, "y")
    assert ax == pytest.approx(-ay)  # the same scale on both axes: the diagonal is at 45 degrees
    rate = ndtri(one["eer"]["value"])
    assert mark(svg, "det-eer-0") == pytest.approx([ax * rate + bx, ay * rate + by], abs=1e-3)
    for fpr in (1e-2, 1e-3, 1e-4):
        assert vertices(svg, f"det-fpr-{fpr:g}")[:, 0] == pytest.approx([ax * ndtri(fpr) + bx] * 2, abs=1e-3)
    # 10 of 20,000: the grey area ends there,
    # and no vertex of the solid curve has fewer false accepts
    edge = ax * ndtri(10 / 20000) + bx
    assert vertices(svg, "det-unsupported")[:, 0].max() == pytest.approx(edge, abs=1e-3)
    solid, dotted = vertices(svg, "det-curve-0"), vertices(svg, "det-dotted-0")
    assert solid[:, 0].min() >= edge - 1e-3 and solid[:, 0].min() == pytest.approx(dotted[:, 0].max(), abs=1e-3)


def test_min_dcf_mark_has_the_cost_of_the_metrics():
    one = system("one", 2.0, targets=2000, nontargets=20000)
    svg = det_plot([one])
    lines = tick_line(svg, "x"), tick_line(svg, "y")
    for i, entry in enumerate(one["min_dcf"]):
        p_fa, p_miss = (ndtr((z - b) / a) for z, (a, b) in zip(mark(svg, f"det-dcf-0-{i}"), lines, strict=True))
        cost = p_miss + p_fa * (1 - entry["p_target"]) / entry["p_target"]
        assert cost == pytest.approx(entry["value"], rel=0.03)  # the stored curve is thinned


def test_miss_rates_and_their_intervals_stand_at_their_false_acceptance_rate():
    one = system("one", 2.0, targets=2000, nontargets=20000)
    svg = det_plot([one])
    (ax, bx), (ay, by) = tick_line(svg, "x"), tick_line(svg, "y")
    for j, (entry, limits) in enumerate(zip(one["fnr_at_fpr"], one["intervals"]["fnr_at_fpr"], strict=True)):
        if not entry["supported"]:
            assert f'"det-fnr-0-{j}"' not in svg and f'"det-bar-0-{j}"' not in svg
            continue
        x = ax * ndtri(entry["false_accepts"] / 20000) + bx
        assert mark(svg, f"det-fnr-0-{j}") == pytest.approx([x, ay * ndtri(entry["fnr"]) + by], abs=1e-3)
        ends = vertices(svg, f"det-bar-0-{j}")
        assert ends[:, 1] == pytest.approx(ay * ndtri(limits) + by, abs=1e-3)
        assert ends[:, 0] == pytest.approx([x, x], abs=1e-3)  # a single system is not moved aside
    assert [entry["supported"] for entry in one["fnr_at_fpr"]] == [True, True, False]


def test_bars_of_several_systems_do_not_cover_each_other_and_many_systems_have_none():
    several = [system(f"system {i}", seed=i) for i in range(4)]
    svg = det_plot(several)
    x = sorted(vertices(svg, f"det-bar-{i}-0")[0, 0] for i in range(4))
    assert min(np.diff(x)) > 2.6  # points, the width of a bar
    assert "det-bar-" not in det_plot([*several, system("fifth", seed=5)])
    assert "det-bar-" not in det_plot([system("without", intervals=False)])


def test_fifty_systems_but_one_look_different():
    assert len({look(i) for i in range(49)}) == 49


def test_det_plot_of_many_nontarget_trials_has_no_grey_area():
    many = system("many")
    many["trials"] = {"target": 400, "nontarget": 1_000_000}
    assert "fewer than 10" in det_plot([system("few")])
    assert "fewer than 10" not in det_plot([many])


def test_densities_have_equal_area_and_the_threshold_stands_at_the_eer():
    one = system("one")
    svg = histogram_plot([one])

    def area(name):
        (x0, y0), (x1, y1) = (part.T for part in (vertices(svg, name), np.roll(vertices(svg, name), -1, axis=0)))
        return abs(np.sum(x0 * y1 - x1 * y0)) / 2

    assert area("histogram-target-0") == pytest.approx(area("histogram-nontarget-0"), rel=1e-6)
    x = vertices(svg, "histogram-target-0")[:, 0]
    edges = one["histogram"]["edges"]
    where = (one["eer"]["threshold"] - edges[0]) / (edges[-1] - edges[0])
    expected = x.min() + where * (x.max() - x.min())
    assert vertices(svg, "histogram-threshold-0")[:, 0] == pytest.approx([expected] * 2, abs=1e-3)


def axis_line(svg, kind, axis):
    """Slope and intercept of pixel = a value + b, fitted to the tick marks of a linear axis."""
    ticks = re.findall(rf'<g id="{kind}-{axis}tick_.*?<use [^>]*x="(\S+)" y="(\S+)".*?>(\S+)</text>', svg, re.DOTALL)
    pixel = np.array([float(x if axis == "x" else y) for x, y, _ in ticks])
    value = np.array([float(label.replace("−", "-")) for *_, label in ticks])
    (slope, intercept), residual, *_ = np.polyfit(value, pixel, 1, full=True)
    assert residual < 1e-6
    return slope, intercept


def positions(svg, kind, name):
    """What a curve's vertices are in the units of the axes."""
    return np.array(
        [(pixel - b) / a for pixel, (a, b) in zip(vertices(svg, f"{kind}-{name}").T, lines(svg, kind), strict=True)]
    )


def lines(svg, kind):
    return axis_line(svg, kind, "x"), axis_line(svg, kind, "y")


def test_bayes_error_rates_stand_where_the_metrics_have_them():
    one = system("one", llr=True)
    svg = ape_plot([one])
    found = one["calibration"]
    for name, rates in (("act-0", found["act"]), ("min-0", found["min"])):
        odds, error = positions(svg, "ape", name)
        # matplotlib leaves out vertices that lie on a straight line
        assert error == pytest.approx(100 * np.interp(odds, found["prior_log_odds"], rates), abs=0.02)
    odds, blind = positions(svg, "ape", "blind")
    inside = blind < 100 * max(found["act"])  # the curve is cut off above the axes
    assert inside.sum() > 20
    assert blind[inside] == pytest.approx(100 * np.minimum(expit(odds), expit(-odds))[inside], abs=0.1)
    (a, b), _ = lines(svg, "ape")
    for prior in (0.01, 0.05):
        where = a * np.log(prior / (1 - prior)) + b
        assert vertices(svg, f"ape-prior-{prior:g}")[:, 0] == pytest.approx([where] * 2, abs=1e-3)


def test_reliability_leaves_out_groups_without_a_ratio_and_has_the_diagonal():
    one = system("one", llr=True)
    one["calibration"]["reliability"] = {"llr": [-5.0, -1, 2, 6], "empirical": [None, -0.5, 1, None], "count": [9] * 4}
    svg = reliability_plot([one])
    assert positions(svg, "reliability", "points-0").T == pytest.approx(np.array([[-1, -0.5], [2, 1]]), abs=1e-3)
    x, y = positions(svg, "reliability", "diagonal")
    assert x == pytest.approx(y, abs=1e-3)


def test_scores_twice_too_large_are_half_as_reliable():
    """Of Gaussians of variance 1 at 0 and d the ratio is d x - d² / 2; twice that is claimed."""
    d = 2.0
    generator = np.random.default_rng(1)
    target, nontarget = (2 * (d * generator.normal(mean, 1, 20000) - d * d / 2) for mean in (d, 0))
    found = of_scores("double", target, nontarget, llr=True)["calibration"]["reliability"]
    known = np.array([(x, y) for x, y in zip(found["llr"], found["empirical"], strict=True) if y is not None])
    assert np.polyfit(*known.T, 1)[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("known", [[None, None], [1.0, None]])
def test_reliability_of_next_to_nothing_is_drawn(known):
    one = system("one", llr=True)
    one["calibration"]["reliability"] = {"llr": [1.0, 2.0], "empirical": known, "count": [5, 5]}
    assert reliability_plot([one]).startswith("<svg")


def test_support_is_drawn_on_a_log_axis():
    log = [{"kind": "train", "step": i, "support": value} for i, value in enumerate([1000, 10, 100, 1], start=1)]
    y = vertices(sparsity_plot(log), "sparsity-support")[:, 1]
    assert np.diff(y) / (y[1] - y[0]) == pytest.approx([1, -0.5, 1], abs=1e-3)  # in decades: -2, +1, -2


def test_training_plot_marks_the_lowest_validation_eer():
    log = training_log()
    log[-1]["eer"] = 0.5
    assert "lowest 2.67 % at step 150" in training_plot(log)


def test_log_without_validation_rows_says_so():
    log = [row for row in training_log() if row["kind"] == "train"]
    assert training_plot(log).count("no values in the log") == 1
    assert training_plot(training_log()).count("no values in the log") == 0


def test_loss_that_became_nan_leaves_a_gap_not_an_error():
    log = training_log()
    log[100]["loss"] = float("nan")
    assert "nan" not in group(training_plot(log), "training-loss").lower()


def test_what_a_resumed_run_had_logged_beyond_its_checkpoint_is_dropped():
    log = training_log(100)
    spoiled = [dict(row, step=row["step"] + 7, loss=99.0, lr=9.0, eer=0.9) for row in log[60:80]]
    assert training_plot(log[:60] + spoiled + log[60:]) == training_plot(log)


def test_plots_leave_the_global_settings_alone():
    before = dict(dict.items(matplotlib.rcParams))  # rcParams["backend"] itself would choose a backend
    det_plot([system("one")])
    assert dict(dict.items(matplotlib.rcParams)) == before
