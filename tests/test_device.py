"""One rule for the device; the CUDA branches run here by telling torch that there are GPUs."""

import argparse
import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from alpha_sv.cli.parser import build_parser
from alpha_sv.device import HELP, device_for, pick_device
from alpha_sv.functional import alpha_softargmax
from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead
from alpha_sv.sb.brain_parts import loader_options
from tests.batteries.losses import INSTANCES
from tests.fixtures.devices import working_on


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


class Onnx:
    """As a network in ONNX where onnxruntime knows no CUDA."""

    def to(self, device):
        if device != "cpu":
            raise ValueError("knows no CUDA")


def test_a_model_that_cannot_be_on_a_gpu_is_on_the_cpu_unless_the_gpu_was_asked_for(gpus):
    gpus(1)
    assert device_for(Onnx()) == device_for(Onnx(), "cpu") == "cpu"
    with pytest.raises(ValueError, match="knows no CUDA"):
        device_for(Onnx(), "cuda")


def test_every_verb_with_a_device_has_the_one_rule():
    actions = [
        action for parser in all_parsers(build_parser()) for action in parser._actions if action.dest == "device"
    ]
    assert len(actions) > 8
    assert {(action.default, action.help) for action in actions} == {(None, HELP)}


def all_parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in {id(choice): choice for choice in action.choices.values()}.values():
                yield from all_parsers(inner)


@pytest.mark.parametrize("device, pinned", [("cpu", False), ("cuda:1", True)])
def test_memory_is_pinned_for_a_gpu(device, pinned):
    assert loader_options(SimpleNamespace(num_workers=0), device)["pin_memory"] == pinned


class TestPretendedGpu:
    """The rooms that compute on tensors take all their tests there too, in the slow tier."""

    def test_what_meets_a_tensor_of_the_cpu_fails_there(self):
        with working_on("cuda"):
            there = torch.ones(2, 3)
            assert there.device.type == "cuda" and (there * 2).sum().item() == 12 and there[[0]].tolist() == [[1, 1, 1]]
            for mix in (lambda: there + there.cpu(), lambda: torch.stack([there, torch.ones(2, 3, device="cpu")])):
                with pytest.raises(RuntimeError, match="same device"):
                    mix()
            with pytest.raises(TypeError, match="numpy"):
                there.numpy()

    def test_a_number_among_tensors_in_the_second_look_is_seen(self):
        """Once `alpha_softargmax(torch.zeros(1, 300,
        device="cuda"), 2.0)` stacked a float: seen on GPUs only."""
        with working_on("cuda"), patch.object(torch, "stack", side_effect=torch.stack) as stack:
            found = alpha_softargmax(torch.zeros(1, 300, dtype=torch.float64), 2.0)
            assert found.device.type == "cuda" and stack.called
        torch.testing.assert_close(found.cpu(), torch.full((1, 300), 1 / 300, dtype=torch.float64))

    @pytest.mark.parametrize("make", INSTANCES.values(), ids=INSTANCES.keys())
    @pytest.mark.parametrize("kind", [CosineHead, SparseHead])
    def test_a_step_is_that_of_the_cpu(self, make, kind):
        found = []
        for device in ("cpu", "cuda"):
            torch.manual_seed(0)
            with working_on(device):
                head = kind(8, 300, make())
                optimizer = PrototypeSGD(head.parameters(), lr=0.1)
                embeddings, labels = torch.randn(5, 8, requires_grad=True), torch.tensor([0, 299, 7, 7, 63])
                for _ in range(2):
                    optimizer.zero_grad()
                    loss = head(embeddings, labels)
                    loss.backward()
                    optimizer.step()
                optimizer.catch_up()
                assert head.weight.device.type == device
                found.append([x.detach().cpu() for x in (loss, embeddings.grad, head.weight)])
                assert head.statistics(embeddings, labels)["accuracy"] >= 0
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


GROWN = """
import resource, torch
from alpha_sv.device import keep_memory
kept = keep_memory()
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    (torch.ones(10_000_000) + torch.ones(10_000_000)).sum()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, min(faults) < 2_000)
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc")
@pytest.mark.parametrize(
    ("setting", "said"),
    [({}, "True True"), pytest.param({"MALLOC_TRIM_THRESHOLD_": "131072"}, "False False", marks=pytest.mark.slow)],
)
def test_freed_memory_is_used_again_without_page_faults_unless_the_user_says_otherwise(setting, said):
    """120 MB again and again: 30,000 pages each time, or none once the heap has grown,
    unless the system takes idle pages back in that very moment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", GROWN], env={**env, **setting}, capture_output=True, text=True)
    assert done.stdout.split() == said.split(), done.stderr
