"""The extraction benchmark holds our best path of
full precision against the fastest of the others'."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("threadpoolctl")
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def extraction(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("extraction")


def test_targets_compare_the_fastest_of_either_side_and_no_8_bits(extraction):
    seconds = {
        "ours, torch": [4.0, 4.0, 90.0],
        "ours, onnxruntime": [2.0, 2.0, 2.0],
        "ours, int8": [0.1, 0.1, 0.1],
        "onnxruntime loop": [9.0, 5.0, 5.0],
        "SpeechBrain, one by one": [3.0, 3.0, 3.0],
    }
    lists = ("words", "sentences", "long")
    found = {name: {"seconds": dict.fromkeys(lists, taken), "features": 0.2} for name, taken in seconds.items()}
    targets = extraction.compare("ecapa", 1, found, lists)
    assert [list(target.measured.values()) for target in targets] == [[1.5], [1.5], [1.5], [5.0]]
    assert [target.limit for target in targets] == [1.5, 1.5, 1.0, 10]
    assert all(target.reached for target in targets)


def test_the_long_list_is_made_of_the_sentences(extraction, tmp_path):
    for corpus, seconds in (("speech_commands", 1.0), ("speechocean762", 20.0)):
        for speaker in range(6):
            folder = tmp_path / corpus / "wav" / f"s{speaker}" / "0"
            folder.mkdir(parents=True)
            noise = 0.1 * np.random.default_rng(speaker).standard_normal(round(seconds * 16000))
            soundfile.write(folder / "a.wav", noise, 16000)
    lists = extraction.file_lists(tmp_path, tmp_path / "work", 6)
    assert [len(files) for files in lists.values()] == [6, 3, 1]
    assert [soundfile.info(file).duration for file in lists["long"]] == [60.0]
    assert extraction.cosines([[1, 0], [1, 1]], [[2, 0], [-1, 1]]).tolist() == [1.0, 0.0]
