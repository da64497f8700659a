import pytest
import torch

from alpha_sv.functional import checks
from tests.fixtures.small_evaluation import run, world

__all__ = ["run", "world"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", "cpu, by the code for a GPU", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request, monkeypatch):
    """Where a test puts its tensors; the code for GPUs is seen on the CPU as well."""
    if "GPU" in request.param:
        monkeypatch.setattr(checks, "ASYNCHRONOUS", checks.ASYNCHRONOUS | {"cpu"})
    return request.param.partition(",")[0]
