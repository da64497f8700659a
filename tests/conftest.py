import sys

import pytest
import torch

from alpha_sv.functional import checks
from tests.fixtures.small_evaluation import run, world

__all__ = ["run", "world"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    """Hypothesis asks every module for its `__file__`; SpeechBrain's lazy ones then import what is not installed."""
    for module in list(sys.modules.values()):
        if "Lazy" in type(module).__name__ or "Redirect" in type(module).__name__:
            vars(module).setdefault("__file__", None)


@pytest.fixture(params=["cpu", "cpu, by the code for a GPU", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request, monkeypatch):
    """Where a test puts its tensors; the code for GPUs is seen on the CPU as well."""
    if "GPU" in request.param:
        monkeypatch.setattr(checks, "ASYNCHRONOUS", checks.ASYNCHRONOUS | {"cpu"})
    return request.param.partition(",")[0]
