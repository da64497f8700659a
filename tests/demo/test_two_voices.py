"""`alpha-sv demo --verify`: voices that the quality rules like,
and a word about the model where there is none."""

import importlib.util

import pytest
import soundfile

from alpha_sv.cli import main
from alpha_sv.demo.two_voices import PAIRS, RECORDINGS, make_voices
from alpha_sv.verify.quality import findings, measure


def test_without_the_model_it_says_how_to_get_it_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALPHA_SV_CACHE", str(tmp_path / "cache"))
    assert main(["demo", "--verify", "--output", str(tmp_path / "voices")]) == 2
    assert "alpha-sv models get campplus" in capsys.readouterr().err
    assert not (tmp_path / "voices").exists()


def test_pairs_are_of_recordings_and_the_same_name_is_the_same_speaker():
    assert {name for pair in PAIRS for name in pair} <= set(RECORDINGS)
    for a in RECORDINGS:
        for b in RECORDINGS:
            same = RECORDINGS[a].split("/")[0] == RECORDINGS[b].split("/")[0]
            assert same == (a.rstrip("12") == b.rstrip("12"))
            assert a == b or RECORDINGS[a].rpartition("/")[0] != RECORDINGS[b].rpartition("/")[0], "another session"


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs pip install 'alpha_sv[demo]'")
def test_the_voices_pass_the_quality_rules_and_are_made_once(tmp_path):
    paths = make_voices(tmp_path)
    for path in paths.values():
        samples, rate = soundfile.read(path, dtype="float32")
        assert not findings(measure(samples, rate)), path
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert make_voices(tmp_path) == paths
    assert before == {path: path.stat().st_mtime_ns for path in paths.values()}
