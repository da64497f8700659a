"""The report says what metrics.json says, no more; the page is whole, closed to the outside and safe to open."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from alpha_sv.metrics import evaluate
from alpha_sv.report import (
    det_plot,
    histogram_plot,
    load_log,
    load_metrics,
    sparsity_plot,
    to_markdown,
    training_plot,
    write_report,
)

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = '</text></svg><script src="http://evil.example/x.js">alert(1)</script>$x_1$ id="a" | \udcff\x00\n*.txt'
# what a reader should see of it: control characters and bytes that are no text are blanks
HARMLESS = '</text></svg><script src="http://evil.example/x.js">alert(1)</script>$x_1$ id="a" | *.txt'


def system(name, shift=2.5, targets=400, nontargets=4000, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(shift, 1.0, targets), generator.normal(0.0, 1.0, nontargets)
    return {"name": name, **evaluate(*scores)}


def metrics(*systems):
    return {"format": "alpha_sv.metrics/1", "systems": list(systems)}


def training_log(steps=200):
    rows = []
    for step in range(1, steps + 1):
        row = {
            "kind": "train",
            "step": step,
            "epoch": step / 50,
            "loss": 5 / step,
            "accuracy": 0.5,
            "lr": 1e-3,
        }
        row |= {
            "margin": 0.2,
            "scale": 10.0,
            "support": 1000 * 0.99**step,
            "zero_loss": 0.3,
            "zero_target": 0.1,
        }
        rows.append(row)
        if step % 50 == 0:
            rows.append({"kind": "valid", "step": step, "epoch": step // 50, "eer": 4 / step, "min_dcf": 0.5})
    return rows


class Page(HTMLParser):
    """Elements with their attributes, the text of each tag, table rows; complains about unbalanced tags."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else None, data.strip()))
        if self.open[-1:] in (["th"], ["td"]):
            self.rows[-1][-1] += data

    def text(self, tag):
        return [text for t, text in self.texts if t == tag]


def page(tmp_path, *arguments, **options):
    return Page(write_report(tmp_path / "report.html", *arguments, **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pair():
    return metrics(system("cosine"), system("as-norm", 2.8, seed=1))


# ---- the page


def test_page_needs_nothing_from_elsewhere_and_runs_nothing(tmp_path, pair):
    found = page(tmp_path, pair, training_log(), facts={"corpus": "https://example.org/corpus"})
    tags = {tag for tag, _ in found.elements}
    assert tags.isdisjoint({"script", "link", "iframe", "img", "object", "embed", "base", "form", "image"})
    for _, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                assert value.startswith("#")
            elif not name.startswith("xmlns"):
                assert "://" not in (value or "")
    styles = " ".join(found.text("style"))
    assert "@import" not in styles and "url(" not in styles


def test_every_id_of_the_page_is_unique_and_every_reference_resolves(tmp_path, pair):
    text = write_report(tmp_path / "r.html", pair, training_log()).read_text(encoding="utf-8")
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 50
    references = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert references and references <= set(ids)


def test_page_fits_a_phone_and_names_its_language(tmp_path, pair):
    found = page(tmp_path, pair)
    assert ("html", {"lang": "en"}) in found.elements
    assert any(a.get("name") == "viewport" and "width=device-width" in a["content"] for _, a in found.elements)


def test_table_holds_every_number_of_the_metrics(tmp_path, pair):
    header, *rows = page(tmp_path, pair).rows
    assert header[:4] == ["system", "EER %", "minDCF 0.01", "minDCF 0.05"]
    assert header[4:] == [f"FNR % @ FPR {fpr}(false accepts)" for fpr in ("1e-2", "1e-3", "1e-4")]
    for entry, cells in zip(pair["systems"], rows, strict=True):
        assert cells[0] == entry["name"]
        assert float(cells[1]) == pytest.approx(100 * entry["eer"]["value"], abs=5e-4)
        for cell, cost in zip(cells[2:4], entry["min_dcf"], strict=True):
            assert float(cell) == pytest.approx(cost["value"], abs=5e-5)
        value, count = re.fullmatch(r"([\d.]+) \((\d+)\)", cells[4]).groups()
        assert float(value) == pytest.approx(100 * entry["fnr_at_fpr"][0]["fnr"], abs=5e-3)
        assert int(count) == entry["fnr_at_fpr"][0]["false_accepts"] == 40
        assert cells[5:] == ["n/a (4 false accepts)", "n/a (0 false accepts)"]  # of 4,000 nontargets


def test_markdown_and_page_show_the_same_table(tmp_path, pair):
    header, rule, *lines = to_markdown(pair).splitlines()
    assert rule.count("|") == header.count("|") == 8
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert cells == page(tmp_path, pair).rows[1:]


def test_a_rate_on_fewer_than_ten_false_accepts_is_never_stated(tmp_path):
    few = system("few", 1.0, targets=300, nontargets=700)  # at 1e-2: 7 false accepts
    assert few["fnr_at_fpr"][0]["fnr"] > 0.5
    text = (tmp_path / "r.html", metrics(few))
    words = " ".join(data for tag, data in Page(write_report(*text).read_text()).texts if tag != "text")
    for entry in few["fnr_at_fpr"]:
        assert f"{100 * entry['fnr']:.2f}" not in words + to_markdown(metrics(few))
    assert "cannot tell" in words and "would rest on 7 false accepts" in words


def test_ties_that_leave_fewer_than_ten_false_accepts_count_as_too_few():
    tied = {"name": "tied", **evaluate([0.5] * 50 + [0.9] * 50, [0.9] * 3 + [0.5] * 1997)}
    assert tied["fnr_at_fpr"][0]["supported"] and tied["fnr_at_fpr"][0]["false_accepts"] == 3
    assert "n/a (3 false accepts)" in to_markdown(metrics(tied))


def test_verdict_says_in_words_what_the_metrics_say(tmp_path, pair):
    entry = pair["systems"][0]["fnr_at_fpr"][0]
    verdict = next(text for text in page(tmp_path, pair).text("p") if text.startswith("At 1 false accept"))
    assert verdict.startswith(
        f"At 1 false accept in 100 impostor trials, {100 * entry['fnr']:.2f} % of the genuine trials are refused "
        f"({entry['misses']} of 400)."
    )
    assert "cannot tell at 1 in 1,000 and 1 in 10,000" in verdict


def test_cards_are_about_the_first_system_or_the_one_asked_for(tmp_path, pair):
    for options, entry in (({}, pair["systems"][0]), ({"main": "as-norm"}, pair["systems"][1])):
        found = page(tmp_path, pair, **options)
        assert found.text("h3") == ["EER", "minDCF", "FNR at FPR 1e-2", "FNR at FPR 1e-3"]
        assert f"{100 * entry['eer']['value']:.2f}" in found.text("p")
        assert found.text("b") == [entry["name"]]
    with pytest.raises(ValueError, match="no system is called 'z-norm'.*'cosine', 'as-norm'"):
        write_report(tmp_path / "r.html", pair, main="z-norm")


def test_hostile_names_are_text(tmp_path):
    hostile = metrics(system(HOSTILE), system("_hidden"))
    found = page(tmp_path, hostile, title=HOSTILE, facts={HOSTILE: HOSTILE}, notes=[HOSTILE])
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
    for tag in ("title", "h1", "b", "th", "dt", "dd"):
        assert HARMLESS in found.text(tag)
    labels = found.text("text")
    assert any(HARMLESS[:30] in label for label in labels)
    assert any(label.startswith("_hidden: EER") for label in labels)  # matplotlib's legend would drop it
    assert '<script src="http' not in to_markdown(hostile) and "\\|" in to_markdown(hostile)


def test_equal_input_gives_equal_bytes_in_any_process_whatever_the_matplotlib_settings(tmp_path, pair):
    (tmp_path / "metrics.json").write_text(json.dumps(pair))
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.hashsalt: other\nsvg.fonttype: path\naxes.grid: False\n")
    code = """if True:
        import sys
        from alpha_sv.report import load_metrics, write_report
        write_report(sys.argv[2], load_metrics(sys.argv[1]))
        assert "matplotlib.pyplot" not in sys.modules
    """
    arguments = [sys.executable, "-c", code, tmp_path / "metrics.json", tmp_path / "other.html"]
    environment = os.environ | {
        "MATPLOTLIBRC": str(tmp_path),
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "0",
    }
    subprocess.run(arguments, check=True, env=environment)
    here = write_report(tmp_path / "here.html", pair)
    assert here.read_bytes() == (tmp_path / "other.html").read_bytes()


def test_plots_leave_the_global_settings_alone(pair):
    before = dict(dict.items(matplotlib.rcParams))  # rcParams["backend"] itself would choose a backend
    det_plot(pair["systems"])
    assert dict(dict.items(matplotlib.rcParams)) == before


@pytest.mark.parametrize("log", [None, []])
def test_report_without_a_log_says_so(tmp_path, pair, log):
    found = page(tmp_path, pair, log)
    assert found.text("h2")[:3] == ["Error trade-off", "Scores", "All systems"]
    assert "There is no training log, hence no training curves." in found.text("p")


def test_report_with_a_log_shows_training_and_sparsity(tmp_path, pair):
    assert page(tmp_path, pair, training_log()).text("h2")[2:4] == ["Training", "Sparsity"]


@pytest.mark.parametrize("number", [1, 3, 9])
def test_any_number_of_systems_each_has_a_row_a_curve_and_a_histogram(tmp_path, number):
    found = page(tmp_path, metrics(*(system(f"system {i}", seed=i) for i in range(number))))
    assert len(found.rows) == number + 1
    ids = {attributes.get("id") for _, attributes in found.elements}
    assert {f"det-curve-{i}" for i in range(number)} | {f"histogram-target-{i}" for i in range(number)} <= ids


def test_errorless_and_useless_systems_are_reported(tmp_path):
    perfect = {"name": "perfect", **evaluate(np.arange(3000) + 1e4, np.arange(3000))}
    useless = {"name": "useless", **evaluate(np.zeros(20), np.zeros(20))}
    rows = page(tmp_path, metrics(perfect, useless)).rows
    assert rows[1][:3] == ["perfect", "0.000", "0.0000"]
    assert rows[2][:3] == ["useless", "50.000", "1.0000"]


# ---- figures: positions read back from the SVG


def group(svg, name):
    """The inside of <g id=name>, which holds no other named curve."""
    return re.search(rf'<g id="{name}">(.*?)\n   </g>', svg, flags=re.DOTALL)[1]


def vertices(svg, name):
    path = re.search(r'<path d="([^"]*)"', group(svg, name))[1]
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float)


def mark(svg, name):
    return np.array(re.search(r'<use [^>]*x="(\S+)" y="(\S+)"', group(svg, name)).groups(), dtype=float)


def tick_line(svg, axis):
    """Slope and intercept of pixel = a Φ⁻¹(rate) + b, fitted to the tick marks of one axis; they must lie on it."""
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
    # 10 of 20,000: the grey area ends there, and no vertex of the solid curve has fewer false accepts
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


# ---- reading


def test_metrics_and_log_survive_the_disk(tmp_path, pair):
    (tmp_path / "metrics.json").write_text(json.dumps(pair))
    assert load_metrics(tmp_path / "metrics.json") == pair
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in training_log()))
    assert load_log(tmp_path / "log.jsonl") == training_log()
    (tmp_path / "empty.jsonl").write_text("")
    assert load_log(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"kind": "train", "step": 2, "lo', "not JSON"),
        ('{"kind": "test", "step": 2}', '"kind"'),
        ("[1, 2]", '"kind"'),
        ('{"kind": "train", "loss": 2.0}', "'step'"),
        ('{"kind": "train", "step": 2.5}', "'step'"),
        ('{"kind": "train", "step": 2, "loss": "low"}', "'loss' must be a number"),
    ],
)
def test_a_bad_log_line_is_named(tmp_path, line, problem):
    path = tmp_path / "train_log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}:3: ")) as caught:
        load_log(path)
    assert problem in str(caught.value)


def _without(*keys):
    broken = json.loads(json.dumps(metrics(system("cosine"))))
    place = broken["systems"][0]
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return broken


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"format": "alpha_sv.metrics/9", "systems": []}, "alpha_sv.metrics/9"),
        ([], "list"),
        (metrics(), "at least one system"),
        (metrics(system("a"), system("a")), "its own name"),
        (_without("name"), "its own name"),
        (_without("eer"), "'eer' lacks threshold, value"),
        (_without("eer", "value"), "'eer' lacks value"),
        (_without("fnr_at_fpr", 2, "supported"), "'fnr_at_fpr' lacks supported"),
        (_without("det", "p_fa", 0), "different lengths"),
        (_without("histogram", "edges", 0), "different lengths"),
    ],
)
def test_broken_metrics_are_refused_with_the_file_and_the_field(tmp_path, content, problem):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_metrics(path)
    assert problem in str(caught.value)


def test_broken_json_is_refused_with_its_line_and_a_missing_file_with_the_remedy(tmp_path):
    (tmp_path / "metrics.json").write_text('{"format":\n "alpha_sv')
    with pytest.raises(ValueError, match=r"metrics\.json:2: not JSON"):
        load_metrics(tmp_path / "metrics.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json.*alpha-sv evaluate"):
        load_metrics(tmp_path / "none.json")


def test_a_refused_report_leaves_the_old_one(tmp_path, pair):
    path = write_report(tmp_path / "report.html", pair)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="lacks"):
        write_report(path, _without("eer", "value"))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["report.html"]
