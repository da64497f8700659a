"""The page says what metrics.json says, no more;
it is whole, closed to the outside and safe to open."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from alpha_sv.report import write_report
from tests.fixtures.html_page import ERRORS, Page, page
from tests.fixtures.metrics_json import HARMLESS, HOSTILE, comparison, metrics, of_scores, system, training_log


@pytest.fixture(scope="module")
def pair():
    return metrics(system("cosine"), system("as-norm", 2.8, seed=1))


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


def test_what_there_is_nothing_of_has_no_heading(tmp_path):
    bare = system("bare", conditions=False)
    bare["hardest"], bare["sources"] = {"misses": [], "false_accepts": []}, {}
    headings = page(tmp_path, metrics(bare)).text("h2")
    assert not {"Comparison", "Conditions", "Hardest trials", "Sources", "Calibration"} & set(headings)
    full = metrics(system("full", llr=True), comparison=comparison(("b", ("eer", -0.01, [-0.02, -0.01]))))
    headings = page(tmp_path, full, training_log()).text("h2")
    assert headings[0] == "Comparison"
    # the figures stand in two columns
    assert set(headings[1:7]) == {"Error trade-off", "Scores", "Calibration", "Reliability", "Training", "Sparsity"}
    rest = ["All systems", "Costs and calibration", "Conditions", "Hardest trials", "Sources", "How to read this"]
    assert headings[7:] == rest


def test_verdict_says_in_words_what_the_metrics_say(tmp_path, pair):
    best = pair["systems"][1]
    entry, (low, high) = best["fnr_at_fpr"][0], best["intervals"]["fnr_at_fpr"][0]
    verdict = next(text for text in page(tmp_path, pair).text("p") if text.startswith("At 1 false accept"))
    verdict = verdict.replace("\u00a0", " ")
    assert verdict.startswith(
        f"At 1 false accept in 100 impostor trials, {100 * entry['fnr']:.2f} % of the genuine trials are refused "
        f"({entry['misses']} of 400; 95 % interval {100 * low:.2f} to {100 * high:.2f} %)."
    )
    assert "cannot tell at 1 in 1,000 and 1 in 10,000" in verdict


@pytest.mark.parametrize(("order", "first"), [(1, None), (-1, None), (-1, "cosine")])
def test_cards_are_about_the_best_system_or_the_chosen_one_and_end_with_what_has_no_support(
    tmp_path, pair, order, first
):
    found = page(tmp_path, metrics(*pair["systems"][::order]), first=first)
    entry = pair["systems"][0 if first == "cosine" else 1]  # as-norm has the lower EER
    names = ["FNR at FPR 1e-2", "EER", "minDCF 0.01", "minCllr", "FNR at FPR 1e-3", "FNR at FPR 1e-4"]
    assert found.text("h3")[:6] == names  # 4,000 nontarget trials support the first rate only
    assert f"{100 * entry['eer']['value']:.2f}" in found.text("p")
    low, high = entry["intervals"]["eer"]
    assert f"[{100 * low:.2f}, {100 * high:.2f}]" in found.text("p")
    assert found.text("b") == [entry["name"]]


def test_a_system_that_is_not_there_cannot_be_chosen(tmp_path, pair):
    with pytest.raises(ValueError, match="no system is called 'plda'; there is 'cosine', 'as-norm'"):
        write_report(tmp_path / "r.html", pair, first="plda")
    assert not list(tmp_path.iterdir())


def test_inverted_scores_get_a_hint_on_the_page(tmp_path):
    hints = [
        text for text in page(tmp_path, metrics(system("l2", -2.0), system("cosine"))).text("p") if "distances" in text
    ]
    assert len(hints) == 1 and hints[0].startswith("l2: the EER is")


def test_hostile_names_are_text(tmp_path):
    hostile = metrics(system(HOSTILE, llr=True), system("_hidden"), comparison=comparison((HOSTILE,)))
    trial = {"enroll": HOSTILE, "test": HOSTILE, "score": 1.0}
    first = hostile["systems"][0]
    first["hardest"]["misses"] = [trial]
    first["conditions"][0] |= {"column": HOSTILE, "value": HOSTILE}
    first["sources"] |= {"command": HOSTILE, "model": {"file": HOSTILE, "sha256": HOSTILE}}
    hostile["comparison"]["pairs"][0]["metrics"] = comparison(("b", (HOSTILE, 0.1, [0.0, 0.2])))["pairs"][0]["metrics"]
    found = page(tmp_path, hostile, title=HOSTILE, facts={HOSTILE: HOSTILE}, notes=[HOSTILE])
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
    for tag in ("title", "h1", "b", "dt", "dd"):
        assert HARMLESS in found.text(tag)
    assert found.table(["enrolment", "test", "score"])[0][:2] == [HARMLESS, HARMLESS]
    assert found.table(["source", "file", "SHA-256"])[-1][2] == HARMLESS
    labels = found.text("text")
    assert any(HARMLESS[:30] in label for label in labels)
    assert any(label.startswith("_hidden: EER") for label in labels)  # matplotlib's legend would drop it


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


@pytest.mark.parametrize("log", [None, []])
def test_report_without_a_log_says_so(tmp_path, pair, log):
    found = page(tmp_path, pair, log)
    assert found.text("h2")[:3] == ["Error trade-off", "Scores", "All systems"]
    assert "Training" not in found.text("h2")
    assert "There is no training log, hence no training curves." in found.text("p")


@pytest.mark.parametrize("number", [1, 3, pytest.param(12, marks=pytest.mark.slow)])
def test_any_number_of_systems_each_has_a_row_a_curve_and_a_histogram(tmp_path, number):
    found = page(tmp_path, metrics(*(system(f"system {i}", seed=i) for i in range(number))))
    assert len(found.table(ERRORS)) == number
    ids = {attributes.get("id") for _, attributes in found.elements}
    assert {f"det-curve-{i}" for i in range(number)} | {f"histogram-target-{i}" for i in range(number)} <= ids


def test_errorless_and_useless_systems_are_reported(tmp_path):
    perfect = of_scores("perfect", np.arange(3000) + 1e4, np.arange(3000))
    useless = of_scores("useless", np.zeros(20), np.zeros(20), llr=True)
    rows = page(tmp_path, metrics(perfect, useless)).table(ERRORS)
    assert rows[0][:3] == ["perfect", "0.000 [0.000, 0.000]", "0.0000 [0.0000, 0.0000]"]
    assert rows[1][:3] == ["useless", "50.000 [45.000, 55.000]", "1.0000 [0.9000, 1.1000]"]
