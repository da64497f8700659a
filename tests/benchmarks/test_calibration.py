"""Calibrators of a few speakers are worth something on others:
the simulation of benchmarks/calibration.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def simulate(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import calibration

    yield calibration.simulate
    del sys.modules["calibration"]


@pytest.mark.parametrize("lists", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_no_calibrator_is_worse_than_none_on_fresh_speakers(simulate, lists):
    found = simulate(lists)
    assert max(row["fresh"] for row in found) <= 1
    assert any(row["separable"] for row in found) and not all(row["separable"] for row in found)
    assert np.median([row["fresh"] - row["ideal"] for row in found]) < 0.05
    # the number for speakers it did not hear errs in neither direction
    assert abs(np.median([row["unheard"] - row["fresh"] for row in found])) < 0.03
    assert max(abs(row["unheard"] - row["fresh"]) for row in found) < 0.3
