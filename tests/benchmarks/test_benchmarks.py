"""The benchmarks run, what they time computes the right thing, and they measure what they say."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
SECTIONS = (
    *("solver_speed", "loss_profile", "head_memory", "many_identities", "train_step", "scaling", "loader"),
    "throughput",
)

pytest.importorskip("threadpoolctl")


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """All of them at --quick size, in one process: most of the time goes into starting it."""
    folder = tmp_path_factory.mktemp("bench")
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import gen; print(gen.document(*gen.run('QUICK')))"
    text = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, cwd=folder
    ).stdout
    assert (folder / "results" / "scaling.svg").read_text().count("<path") > 10
    return text


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import common

    return common


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_timed_computes_the_right_thing(document, name):
    (section,) = re.findall(rf"^## {name}: .*?(?=^## |\Z)", document, re.DOTALL | re.MULTILINE)
    assert "Measured on: " in section
    tables = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    assert tables
    for lines in (found.splitlines() for found in tables):
        if lines[0].endswith("| calls | µs |"):  # the profile computes nothing
            continue
        assert lines[0].rstrip("| ").endswith("error")
        cells = [line.split("|")[-2].strip() for line in lines[2:]]
        errors = [float(cell) for cell in cells if cell]  # the GEMM has none
        assert errors and max(errors) < 1e-4


@pytest.mark.slow
def test_what_is_sent_to_a_rank_is_what_the_model_says(document):
    """Of docs/heads.md: the bytes that collectives deliver, counted."""
    (row,) = re.findall(r"^\| ShardedHead, 4 gloo processes \|.*", document, re.MULTILINE)
    counted, model = (float(cell.replace(",", "")) for cell in row.split("|")[7:9])
    assert counted == pytest.approx(model, rel=0.01)


@pytest.mark.slow
def test_a_start_is_timed_at_three_places_of_an_epoch(document):
    (section,) = re.findall(r"^## start_up: 1,200 files.*?(?=^## |\Z)", document, re.DOTALL | re.MULTILINE)
    seconds = {name.strip(): float(value) for name, value in re.findall(r"\| (.*?) \| ([\d.]+) s \|", section)}
    assert len(seconds) == 5 and sum("batch" in name for name in seconds) == 2
    assert "a worker of the loader" in section and all(value >= 0 for value in seconds.values())


@pytest.mark.skipif(importlib.util.find_spec("entmax") is None, reason="entmax is not installed")
@pytest.mark.slow
def test_the_entmax_package_is_held_against_the_same_posterior(document):
    """Its rows have errors against our oracle, so a wrong convention of logits would show there."""
    for theirs in ("entmax_bisect_loss α = 1.25", "entmax15_loss (sorts) α = 1.5", "sparsemax_loss (sorts) α = 2"):
        assert document.count(f"| {theirs} |") == 2


def test_candidates_take_turns(common):
    calls = []
    times = common.interleave({name: lambda name=name: calls.append(name) for name in "ABC"}, seconds=60, rounds=4)
    turns = len(calls) // 3
    assert "".join(calls) == "ABC" * turns and turns > 4  # with at least one to warm up
    assert all(0 <= t.least <= t.median for t in times.values())


def test_a_slow_candidate_still_gets_three_rounds(common):
    calls = []
    common.interleave({"A": lambda: calls.append(0)}, seconds=0.0)
    assert len(calls) >= 4


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux")
def test_peak_counts_what_was_freed_again_but_not_what_was_there(common):
    there = torch.ones(50_000_000)
    del there
    assert 95 < common.extra_mb(lambda: (torch.ones(25_000_000).sum(), torch.ones(5_000_000).sum())) < 115


@pytest.mark.parametrize("kind, cosine", [("trained", 0.5**0.5), ("random", 0.0)])
def test_cosine_of_a_target(common, kind, cosine):
    embeddings, weight, labels = common.world(common.Cell(500, 100, 192, kind))
    own = torch.cosine_similarity(embeddings, weight[labels])
    assert abs(own.mean() - cosine) < 0.03 and own.std() < 0.1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc and its page faults")
def test_rounds_do_not_count_while_the_process_grows(common):
    """The fault: a heap that still grew took page faults
    in the timed rounds, and dense heads looked slow."""
    kept, calls = [], []
    common.interleave({"A": lambda: (calls.append(0), kept.append(torch.ones(25_000_000)))}, seconds=0.0)
    assert len(calls) == 5 + 3
    kept.clear()


def test_ratios_are_of_medians_of_what_was_measured(common):
    times = {
        "trained": {"A": common.Times(6.0, 1.0), "B": common.Times(2.0, 1.0)},
        "random": {"A": common.Times(6.0, 1.0)},
    }
    target = common.ratio_target("A / B", 2.0, times, "A", "B", at_most=False)
    assert target.measured == {"trained": 3.0} and target.reached and "trained 1 ×" in target.note


def test_errors_are_relative_down_to_the_floor(common):
    truth = [torch.tensor([2.0, -4.0]).double(), torch.tensor(0.0).double()]
    found = [torch.tensor([2.0, -3.0]), torch.tensor(0.5)]
    assert common.relative_error(found, truth, [0.0, 10.0]) == 0.25
    assert common.relative_error(found, truth, [0.0, 1.0]) == 0.5


def test_a_target_is_reached_only_everywhere(common):
    assert common.Target("t", 1.1, {"trained": 1.0, "random": 1.1}).row()[-1] == "reached"
    assert common.Target("t", 1.1, {"trained": 1.0, "random": 1.2}).row()[-1] == "**not reached**"
    assert common.Target("t", 9, {"trained": 8.0}, at_most=False).row()[-1] == "**not reached**"
    assert common.Target("t", 9, {}).row()[-1] == "not measured"


@pytest.mark.slow
def test_what_a_gpu_has_to_answer_is_asked_in_one_command_that_goes_on(tmp_path):
    """On the CPU, at a size that shows that it runs:
    cut off after its first part, then finished."""
    command = [sys.executable, FOLDER / "device.py", "--device", "cpu", "--quick", "--output", tmp_path]
    assert subprocess.run([*command, "--seconds", "1"], capture_output=True).returncode == 1
    assert "Not done, the same command goes on: tests" in (tmp_path / "device.md").read_text()
    done = subprocess.run([*command, "--seconds", "3000"], capture_output=True, text=True)
    found, page = json.loads((tmp_path / "device.json").read_text()), (tmp_path / "device.md").read_text()
    assert done.returncode == 0, done.stderr
    assert " passed" in page and "**no**" not in page and "Not done" not in page
    assert set(found["parts"]) == {"tests", "repeats", "solver", "heads", "ecapa_c512 fp32", "ecapa_c512 bf16"}
    assert max(row["error"] for row in found["parts"]["solver"].values()) < 1e-4
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and not again.stderr and (tmp_path / "device.md").read_text() == page
