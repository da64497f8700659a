import pytest
import torch

from tests.fixtures.small_evaluation import run, world

__all__ = ["run", "world"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
