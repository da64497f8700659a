"""The tables hold every number of metrics.json,
what it rests on and its interval, and no number that means nothing."""

import re

import numpy as np
import pytest

from alpha_sv.report import to_markdown
from tests.fixtures.html_page import ERRORS, page
from tests.fixtures.metrics_json import metrics, of_scores, sha256, system

NUMBER = r"([-−+\d.]+)"


@pytest.fixture(scope="module")
def pair():
    return metrics(system("cosine"), system("as-norm", 2.8, seed=1))


def test_table_holds_every_number_of_the_metrics_with_its_interval(tmp_path, pair):
    found = page(tmp_path, pair)
    header = next(table[0] for table in found.tables if table[0][:4] == ERRORS)
    assert header[4:] == [f"FNR % @ FPR {fpr}(false accepts)" for fpr in ("1e-2", "1e-3", "1e-4")]
    for entry, cells in zip(pair["systems"], found.table(ERRORS), strict=True):
        assert cells[0] == entry["name"]
        expected = [(100 * entry["eer"]["value"], 100 * np.array(entry["intervals"]["eer"]))]
        expected += [
            (e["value"], limits) for e, limits in zip(entry["min_dcf"], entry["intervals"]["min_dcf"], strict=True)
        ]
        for cell, (value, limits) in zip(cells[1:4], expected, strict=True):
            numbers = re.fullmatch(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]", cell).groups()
            assert [float(number) for number in numbers] == pytest.approx([value, *limits], abs=5e-4)
        value, count, low, high = re.fullmatch(rf"{NUMBER} \((\d+)\) \[{NUMBER}, {NUMBER}\]", cells[4]).groups()
        limits = entry["intervals"]["fnr_at_fpr"][0]
        expected = 100 * np.array([entry["fnr_at_fpr"][0]["fnr"], *limits])
        assert [float(value), float(low), float(high)] == pytest.approx(expected, abs=5e-3)
        assert int(count) == entry["fnr_at_fpr"][0]["false_accepts"] == 40
        assert cells[5:] == ["n/a (4 false accepts)", "n/a (0 false accepts)"]  # of 4,000 nontargets


def test_without_intervals_there_are_no_brackets(tmp_path):
    found = page(tmp_path, metrics(system("cosine", intervals=False, conditions=False)))
    assert not any("[" in cell for table in found.tables for row in table for cell in row)
    assert not any("[" in text for text in found.text("p"))


def test_actual_costs_are_shown_for_declared_ratios_only(tmp_path):
    both = metrics(system("raw"), system("llr", llr=True))
    raw, llr = page(tmp_path, both).table(["system", "EER %(convex hull)", "minCllr(bits)", "C_primary(least)"])
    assert raw[4:] == ["–", "–", "–", "–"]
    entry = both["systems"][1]
    expected = [entry["cllr"], entry["c_primary"]["act"], *(e["value"] for e in entry["act_dcf"])]
    assert [float(cell.split()[0]) for cell in llr[4:]] == pytest.approx(expected, abs=5e-5)
    assert len(page(tmp_path, metrics(system("raw"))).table(["system", "EER %(convex hull)"])[0]) == 4


def test_a_group_of_one_kind_has_its_counts_and_no_rate(tmp_path, pair):
    rows = page(tmp_path, pair).table(["condition", "target", "nontarget"])
    assert rows[2] == ["gender = unknown", "3", "0", *["n/a"] * 7]
    group = pair["systems"][1]["conditions"][0]  # of the best system
    assert rows[0][:3] == ["gender = f", "198", "2,000"]
    assert float(rows[0][3]) == pytest.approx(100 * group["eer"]["value"], abs=5e-4)
    assert len(rows) == 3 * 2  # of both systems


def test_hardest_trials_say_what_is_wrong_with_them(tmp_path):
    one = of_scores("one", [0.9, 0.8, 0.7, 0.2], [0.5, 0.3, 0.1, 0.0])
    rows = page(tmp_path, metrics(one)).table(["enrolment", "test", "score"])
    assert one["eer"]["threshold"] == 0.5
    assert rows[0] == ["spk0/a.wav", "spk0/misses.wav", "0.2000 miss by 0.300"]
    assert rows[1] == ["spk1/a.wav", "spk1/misses.wav", "0.7000 right by 0.200"]
    assert rows[4] == ["spk0/a.wav", "spk0/false_accepts.wav", "0.5000 false accept by 0.000"]
    assert rows[5] == ["spk1/a.wav", "spk1/false_accepts.wav", "0.3000 right by 0.200"]


def test_sources_show_each_file_once_with_the_whole_hash_and_the_exact_command(tmp_path, pair):
    command = "alpha-sv  evaluate 'a  b.txt' \\\n  --trials <list> \x07"
    first, second = (dict(entry) for entry in pair["systems"])
    first["sources"] = {**first["sources"], "command": command, "model": None}
    found = page(tmp_path, metrics(first, second))
    assert found.table(["source", "file", "SHA-256"]) == [
        ["trials", "trials.txt of all systems", sha256("trials")],
        ["scores", "scores_cosine.txt of cosine", sha256("cosine")],
        ["scores", "scores_as-norm.txt of as-norm", sha256("as-norm")],
    ]
    assert ("code", {"title": sha256("trials")}) in found.elements
    assert found.text("pre") == [command.replace("\x07", "\ufffd"), "alpha-sv evaluate scores_as-norm.txt"]
    assert "Command of cosine" in found.text("h3")


def test_a_rate_on_fewer_than_ten_false_accepts_is_never_stated(tmp_path):
    few = system("few", 1.0, targets=300, nontargets=700, conditions=False)  # at 1e-2: 7 false accepts
    assert few["fnr_at_fpr"][0]["fnr"] > 0.5
    found = page(tmp_path, metrics(few))
    words = " ".join(data for tag, data in found.texts if tag != "text")
    for entry in few["fnr_at_fpr"]:
        assert f"{100 * entry['fnr']:.2f}" not in words + to_markdown(metrics(few))
    assert "cannot tell" in words and "would rest on 7 false accepts" in words
