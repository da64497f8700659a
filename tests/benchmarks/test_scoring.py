"""The benchmark runs and agrees with the ways it compares with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scoring.py"


@pytest.mark.slow
def test_the_scoring_benchmark_runs_and_agrees():
    text = subprocess.run([sys.executable, SCRIPT, "--quick"], check=True, capture_output=True, text=True).stdout
    assert "Measured on: " in text
    differences = [float(found) for found in re.findall(r"\| (\de[+-]\d\d) \|", text)]
    assert len(differences) == 6 and max(differences) < 1e-4
