"""The benchmark of whole trainings: its contenders take turns, and do the same work."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.speech_tree import make_tree

pytest.importorskip("threadpoolctl")
FOLDER = Path(__file__).parents[2] / "benchmarks"


class Pipe:
    """The other end gives so many turns."""

    def __init__(self, turns):
        self.turns, self.sent = turns, []

    def send(self, step):
        self.sent.append(step)

    def recv(self):
        self.turns -= 1
        return self.turns >= 0


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_a_step_lasts_from_the_end_of_one_batch_to_the_end_of_the_next(module):
    turns = module("turns")

    class Brain:
        def fit_batch(self, batch):
            return sum(range(200_000)) * 0.0 + batch

    brain, pipe = Brain(), Pipe(3)
    turns.Turns(pipe).between_steps_of(brain, lambda: 7)
    with pytest.raises(turns.Ended):
        for batch in range(100):
            brain.fit_batch(float(batch))
    first, *steps = pipe.sent
    assert first.wall == 0, "nobody has given it a turn yet"
    assert [step.loss for step in steps] == [1.0, 2.0, 3.0] and {step.chunks for step in steps} == {7}
    assert all(0 < step.cpu <= 1.5 * step.wall for step in steps)


def test_a_section_takes_the_place_of_the_one_of_its_name(module):
    gen = module("gen")
    text = "# B\n\n## a: one\n\nold\n\n## Files\n\nf\n"
    assert gen.put("## a: two\n\nnew\n", text) == "# B\n\n## a: two\n\nnew\n\n## Files\n\nf\n"
    long, rows = "word " * 40 + "end", "| a " * 40 + "|"
    lines = gen.wrapped(f"# Title\n\n{long}\n\n{rows}\n{rows}\n").split("\n")
    assert [len(line) for line in lines] == [7, 0, 99, 99, 3, 0, 161, 161, 0]
    assert gen.put("## b: three\n\nx\n", text) == text.replace("## Files", "## b: three\n\nx\n\n## Files")
    with pytest.raises(SystemExit, match="no section"):
        gen.put("Traceback", text)


@pytest.mark.slow
def test_contenders_do_the_same_work(tmp_path):
    tree = make_tree(tmp_path / "tree", speakers=8, utterances=8)
    (tmp_path / "data" / "corpus").mkdir(parents=True)
    (tmp_path / "data" / "corpus" / "wav").symlink_to(tree / "wav")
    for name in ("noise", "rir"):
        (tmp_path / "data" / name).mkdir()
        (tmp_path / "data" / name / "wav").symlink_to(tree / name)
    command = [sys.executable, FOLDER / "training.py", "--data", tmp_path / "data", "--quick"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    rows = {row[0]: row[1:] for row in rows if len(row) == 8 and row[1].isdigit()}
    assert len(rows) == 12
    chunks = {name: int(row[0]) for name, row in rows.items()}
    assert {name for name, count in chunks.items() if count != 4} == {"SpeechBrain's recipe: a copy with each"}
    assert chunks["SpeechBrain's recipe: a copy with each"] == 4 * 5
    loss = {name: float(row[-1]) for name, row in rows.items()}
    assert loss["bare network, memory kept"] == loss["bare network, default allocator"] > 0, "no number depends on it"
    assert loss["ours, --precision=bf16"] == pytest.approx(loss["ours"], rel=0.01)
