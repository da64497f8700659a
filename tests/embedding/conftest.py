import pytest


@pytest.fixture(autouse=True)
def _on_every_device(device):
    """Every test of this room runs on the CPU and on a GPU."""
