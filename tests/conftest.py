import os
import sys

import pytest
import torch

from tests.fixtures.devices import working_on
from tests.fixtures.small_evaluation import run, world

__all__ = ["run", "world"]


@pytest.fixture(autouse=True, scope="session")
def _no_fsync():
    """It is for power cuts, which no test can make: what a killed process has written stays
    without it. A training of half a second calls it thirty times, each as slow as the disk;
    processes of their own still do.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    """Hypothesis asks every module for its `__file__`;
    SpeechBrain's lazy ones then import what is not installed."""
    for module in list(sys.modules.values()):
        if "Lazy" in type(module).__name__ or "Redirect" in type(module).__name__:
            vars(module).setdefault("__file__", None)


PRETENDED = [] if torch.cuda.is_available() else [pytest.mark.slow]  # five times as slow as the CPU


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=PRETENDED)])
def device(request):
    """Where a test works, the GPU being a pretended one
    where there is none: see tests/fixtures/devices.py.

    All tests of the rooms that compute on tensors have it, by the conftest.py of their folders.
    What goes wrong with a GPU is seen in the fast tests too, by tests/test_device.py.
    """
    with working_on(request.param):
        yield request.param
