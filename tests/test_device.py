"""One rule for the device; the CUDA branches run here by telling torch that there are GPUs."""

import pytest
import torch

from alpha_sv.device import pick_device


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("count", "given", "rank", "expected"),
    [
        (0, None, None, "cpu"),
        (0, "cpu", "3", "cpu"),
        (1, None, None, "cuda:0"),
        (4, None, "3", "cuda:3"),
        (4, "cuda", "3", "cuda:3"),
        (4, "cuda:1", "3", "cuda:1"),
        (4, "CUDA", None, "cuda:0"),
        (4, "cpu", "3", "cpu"),
    ],
)
def test_the_device_is_the_one_asked_for_or_the_process_own_gpu(gpus, monkeypatch, count, given, rank, expected):
    gpus(count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert pick_device(given) == expected


@pytest.mark.parametrize(
    ("count", "given", "said"),
    [
        (0, "cuda", "finds no CUDA device"),
        (2, "cuda:2", "has 2 CUDA devices"),
        (2, "mps", "no float64"),
        (2, "mps:0", "no float64"),
        (2, "cuda:", "must be cpu"),
        (2, "cuda:-1", "must be cpu"),
        (2, "cpu:x", "must be cpu"),
        (2, "tpu", "must be cpu"),
    ],
)
def test_what_is_not_there_is_refused(gpus, monkeypatch, count, given, said):
    gpus(count)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ValueError, match=said):
        pick_device(given)
