"""A slice of `make torture`, with the verbs that start in no time:
nothing is lost, whatever happens at a file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and shutil.which("cc")), reason="needs Linux and a compiler of C"
)


@pytest.mark.slow
def test_a_verb_survives(tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "TORTURE": str(tmp_path), "TORTURE_SCRATCH": str(tmp_path / "scratch")}
    options = ["--light", "--limit", "2", "--cases", "evaluate"]
    command = [sys.executable, "-m", "tests.torture", "kills", "signals", "disk", "read-only", "two", *options]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len([line for line in done.stdout.splitlines() if line.endswith(" tried, 0 lost")]) == 7, done.stdout
