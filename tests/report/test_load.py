"""Reading: what is not the metrics.json or the
training log it should be is refused, with the place."""

import copy
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from alpha_sv.metrics import evaluate
from alpha_sv.report import load_log, load_metrics, to_text, write_markdown, write_report
from tests.fixtures.metrics_json import comparison, metrics, system, training_log


def test_metrics_and_log_survive_the_disk(tmp_path):
    pair = metrics(
        system("cosine"), system("llr", llr=True), comparison=comparison(("llr", ("eer", -0.01, [-0.02, 0.01])))
    )
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


def _keys(value, schema_free=("sources",), path=()):
    """Every path to a key of the nested dicts and, of each list, of its first entry."""
    if isinstance(value, dict):
        for key in value:
            yield (*path, key)
            if key not in schema_free:
                yield from _keys(value[key], schema_free, (*path, key))
    elif isinstance(value, list) and value:
        yield from _keys(value[0], schema_free, (*path, 0))


def _changed(value, path, change):
    broken = copy.deepcopy(value)
    place = broken
    for key in path[:-1]:
        place = place[key]
    change(place, path[-1])
    return broken


def _refusal(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load_metrics(path)
    return str(caught.value)


def test_no_key_may_be_missing_or_hold_something_else(tmp_path):
    """All that the format has, taken away and spoiled one by one."""
    whole = metrics(
        system("llr", llr=True), comparison=comparison(("b", ("eer", -0.01, [-0.02, 0.01])), baseline="llr")
    )
    paths = [("systems", 0, *path) for path in _keys(whole["systems"][0]) if path != ("name",)]
    paths += [("comparison", *path) for path in _keys(whole["comparison"])]
    assert len(paths) > 80
    for path in paths:
        name = path[-1]
        lacking = _refusal(tmp_path, _changed(whole, path, lambda place, key: place.pop(key)))
        assert str(name) in lacking and "alpha-sv evaluate" in lacking
        assert _refusal(tmp_path, _changed(whole, path, lambda place, key: place.update({key: object_of_no_kind()})))


def object_of_no_kind():
    return [[["neither", "this"], {"nor": "that"}]]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("eer", "value"), None, "'eer.value' must be a number, found None"),
        (("eer", "value"), float("nan"), "'eer.value' must be a number, found nan"),
        (("trials", "target"), 2.5, "'trials.target' must be a whole number"),
        (("fnr_at_fpr", 1, "supported"), "yes", "'fnr_at_fpr[1].supported' must be true or false"),
        (("intervals", "eer"), [0.1], "'intervals.eer' must hold 2 values, found 1"),
        (("intervals", "min_dcf"), [[0.1, 0.2]], "intervals.min_dcf: lists of different lengths"),
        (("intervals", "fnr_at_fpr"), [], "intervals.fnr_at_fpr: lists of different lengths"),
        (("calibration", "act"), [0.1], "calibration: lists of different lengths"),
        (("calibration", "reliability", "llr"), [], "calibration.reliability: lists of different lengths"),
        (("det", "p_fa"), [1.0], "det: lists of different lengths"),
        (("histogram", "edges"), [1.0], "histogram: lists of different lengths"),
        (("min_dcf",), [], "'min_dcf' is empty"),
        (("conditions", 0, "min_cllr"), "low", "'conditions[0].min_cllr' must be a number"),
        (("sources", "scores"), {"file": "a"}, "'sources.scores' lacks sha256"),
        (("sources", "command"), 3, "'sources.command' must be text"),
        (("eer", "value"), 10**400, "'eer.value' must be a number"),
        (("eer", "threshold"), -(10**400), "'eer.threshold' must be a number"),
        (("eer", "value"), 1.5, "'eer.value' must be from 0 to 1, found 1.5"),
        (("fnr_at_fpr", 0, "fpr"), 0, "'fnr_at_fpr[0].fpr' must be from 1e-12 to 1, found 0"),
        (("min_dcf", 0, "p_target"), 1, "'min_dcf[0].p_target' must be from 1e-12 to 1, found 1"),
        (("trials", "nontarget"), 0, "'trials.nontarget' must be from 1"),
        (("trials", "target"), -5, "'trials.target' must be from 1"),
        (("det",), {"p_fa": [], "p_miss": []}, "'det.p_fa' is empty"),
        (("histogram", "edges"), [0.0] * 61, "'histogram.edges' must rise"),
        (("calibration", "act", 3), -0.1, "'calibration.act[3]' must be from 0 to 1"),
    ],
)
def test_a_broken_system_is_refused_with_its_name_and_the_field(tmp_path, path, value, problem):
    whole = metrics(system("llr", llr=True))
    changed = _changed(whole, ("systems", 0, *path), lambda place, key: place.__setitem__(key, value))
    assert f"system 'llr': {problem}" in _refusal(tmp_path, changed)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"format": "alpha_sv.metrics/9", "systems": []}, "alpha_sv.metrics/9"),
        ({"format": "alpha_sv.metrics/1", "systems": [{"name": "old"}]}, "run `alpha-sv evaluate` again"),
        ([], "list"),
        ({"format": "alpha_sv.metrics/2", "systems": 5}, "at least one system"),
        ({"format": "alpha_sv.metrics/2", "systems": {"a": 1}}, "at least one system"),
        (metrics(), "at least one system"),
        (metrics(1), "at least one system"),
        (metrics(system("a"), system("a")), "its own name"),
        (metrics({"name": "a"}), "lacks 'act_dcf', 'c_primary'"),
    ],
)
def test_broken_metrics_are_refused_with_the_file(tmp_path, content, problem):
    assert problem in _refusal(tmp_path, content)


def test_broken_json_is_refused_with_its_line_and_a_missing_file_with_the_remedy(tmp_path):
    (tmp_path / "metrics.json").write_text('{"format":\n "alpha_sv')
    with pytest.raises(ValueError, match=r"metrics\.json:2: not JSON"):
        load_metrics(tmp_path / "metrics.json")
    with pytest.raises(FileNotFoundError, match=r"none\.json.*alpha-sv evaluate"):
        load_metrics(tmp_path / "none.json")


def test_a_refused_report_leaves_the_old_one(tmp_path):
    whole = metrics(system("cosine"))
    path = write_report(tmp_path / "report.html", whole)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="lacks"):
        write_report(path, _changed(whole, ("systems", 0, "eer", "value"), lambda place, key: place.pop(key)))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "{", "\x00", '"\\ud800"', ""])
def test_text_that_is_no_metrics_is_refused_with_its_file(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        load_metrics(tmp_path / "metrics.json")
    (tmp_path / "log.jsonl").write_text(f'{{"kind": "valid", "step": 1}}\n{text or "0"}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl:2"):
        load_log(tmp_path / "log.jsonl")


MADE_BEFORE = Path(__file__).parents[1] / "fixtures" / "made_before"  # by the program as it was before it had rooms


def test_a_file_made_by_an_earlier_program_is_read_and_reported(tmp_path):
    old = load_metrics(MADE_BEFORE / "metrics.json")
    page = write_report(tmp_path / "r.html", old).read_text(encoding="utf-8")
    text = write_markdown(tmp_path / "r.md", old).read_text(encoding="utf-8")
    for words in ("llrs and cosine cannot be told apart at any of the 4 metrics.", "8.333", "16.667"):
        assert words in page and words in text and (words in to_text(old) or words.startswith("llrs"))


def test_the_numbers_of_an_earlier_program_are_those_of_today():
    (old,) = (s for s in load_metrics(MADE_BEFORE / "metrics.json")["systems"] if s["name"] == "cosine")
    rows = [line.split() for line in (MADE_BEFORE / "cosine.txt").read_text().splitlines()]
    scores, labels = np.array([float(row[3]) for row in rows]), np.array([row[2] for row in rows])
    new = evaluate(scores[labels == "1"], scores[labels == "0"])
    for key in ("eer", "min_dcf", "fnr_at_fpr", "c_primary", "det", "histogram"):
        assert new[key] == old[key]
    assert new["min_cllr"] == pytest.approx(old["min_cllr"], abs=1e-12)
