"""What a calibrator says of its origin is checked when it is read:
whoever uses it later need not."""

import json

import pytest

from alpha_sv.scoring.calibrator import Calibrator

SUPPORT = {"targets": 300, "nontargets": 5000, "speakers": None, "scores": [-0.5, 0.9]}
ORIGIN = {
    "targets": 300,
    "sources": {"model": {"file": "m", "sha256": "a" * 64}, "trials": {"file": "t"}},
    "histogram": {"low": -1.0, "high": 1.0, "targets": [1, 2], "nontargets": [3, 0]},
    "anything": ["else"],
}


def test_what_was_written_comes_back(tmp_path):
    calibrator = Calibrator(2.0, -1.0, support=SUPPORT, provenance=ORIGIN)
    calibrator.save(tmp_path / "c.json")
    assert Calibrator.load(tmp_path / "c.json") == calibrator and calibrator.fitted_model == "a" * 64
    assert Calibrator(2.0, -1.0).fitted_model is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["support", "scores"], ["a", "b"], "'support.scores' must be two numbers"),
        (["support", "scores"], [1.0], "'support.scores' must be two numbers"),
        (["support", "scores"], 5, "'support.scores' must be two numbers, the lower first, got 5"),
        (["support", "scores"], [2.0, 1.0], "'support.scores' must be two numbers"),
        (["support", "scores"], [float("nan"), 1.0], "'support.scores' must be two numbers"),
        (["support", "targets"], "x", "'support.targets' must be 0 or more, got 'x'"),
        (["support", "speakers"], -3, "'support.speakers' must be 0 or more, got -3"),
        (["provenance", "nontargets"], [], "'provenance.nontargets' must be 0 or more"),
        (["provenance", "sources"], [1], "'provenance.sources' must be an object"),
        (["provenance", "sources"], {"model": "abc"}, "'provenance.sources.model' must be an object"),
        (["provenance", "sources"], {"model": {"sha256": 5}}, "'provenance.sources.model' must be an object with"),
        (["provenance", "histogram"], {"low": 0, "high": 1, "targets": [1]}, "'provenance.histogram' must be"),
    ],
)
def test_a_damaged_note_names_file_and_field(tmp_path, path, value, message):
    Calibrator(2.0, -1.0, support=SUPPORT, provenance=ORIGIN).save(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    content[path[0]][path[1]] = value
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"c.json is not a whole calibrator: the field {message}"):
        Calibrator.load(tmp_path / "c.json")
