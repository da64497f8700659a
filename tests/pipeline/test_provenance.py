"""A note is believed for the very bytes it was written for, and for nothing else."""

import hashlib
import json
import threading
import time

import pytest

from alpha_sv.data.trials import read_scores, write_scores
from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.pipeline.provenance import read_sources, save_scores, source, write_sources

TABLE = ScoreTable(["a"], ["b"], [0.5], [True])


def test_a_note_comes_back_until_its_file_changes(tmp_path, caplog):
    path = tmp_path / "scores.txt"
    sources = {"trials": {"file": "trials.txt", "sha256": "0" * 64}}
    save_scores(path, TABLE, sources, ["alpha-sv score"])
    assert read_sources(path) == (sources, ["alpha-sv score"])
    path.write_text("a b 0.7 target\n")  # by some other program
    assert read_sources(path) == ({}, [])
    assert "scores.txt.sources.json was written for another scores.txt" in caplog.text


def test_a_file_without_a_note_is_as_good_as_any(tmp_path, caplog):
    (tmp_path / "scores.txt").write_text("a b 0.7 target\n")
    assert read_sources(tmp_path / "scores.txt") == ({}, []) and caplog.text == ""


def test_a_source_is_a_name_and_the_hash_of_the_bytes(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"abc")
    assert source(tmp_path / "x.bin") == {"file": "x.bin", "sha256": hashlib.sha256(b"abc").hexdigest()}


@pytest.mark.parametrize(
    "change",
    [
        "{",
        "[]",
        '{"format": "other"}',
        {"sources": 3},
        {"sources": {"model": "abc"}},
        {"sources": {"trials": 5}},
        {"sources": {"cohort": {"file": "x"}}},
        {"sources": {"trials": {"file": "x", "sha256": None}}},
        {"commands": [1]},
        {"kind": 5},
    ],
)
def test_a_damaged_note_is_an_error_that_names_it(tmp_path, change):
    path, note = tmp_path / "scores.txt", tmp_path / "scores.txt.sources.json"
    path.write_text("a b 0.7 target\n")
    write_sources(path, {})
    note.write_text(change if isinstance(change, str) else json.dumps({**json.loads(note.read_text()), **change}))
    with pytest.raises(ValueError, match="scores.txt.sources.json is damaged .*delete it"):
        read_sources(path)


def test_of_two_that_write_one_file_neither_puts_its_note_beside_the_others_scores(tmp_path, monkeypatch):
    path, between = tmp_path / "scores.txt", threading.Event()
    other = ScoreTable(["a"], ["b"], [0.25], [False])

    def slow(target, table):
        write_scores(target, table)
        if table is TABLE:
            between.set()
            time.sleep(0.1)  # the other one may come now

    monkeypatch.setattr("alpha_sv.pipeline.provenance.write_scores", slow)
    first = threading.Thread(target=save_scores, args=(path, TABLE, {"trials": {"file": "first", "sha256": ""}}))
    first.start()
    between.wait()
    save_scores(path, other, {"trials": {"file": "other", "sha256": ""}})
    first.join()
    assert read_sources(path)[0]["trials"]["file"] == "other"
    assert read_scores(path).scores.tolist() == [0.25]
