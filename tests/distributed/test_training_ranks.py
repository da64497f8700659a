"""Training on two processes takes the steps of training on one,
and may change the number in mid-run."""

import numpy as np
import pytest
import torch

from alpha_sv.sb.distributed import CommonBatchNorm, local_batch_size, with_common_batch_norm
from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import Training, arguments, finish, log_of, start_command

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ALPHA_1 = {"head": "sharded", "loss": "!new:alpha_sv.losses.AMSoftmax"}
DROPS = "[!new:speechbrain.augment.time_domain.DropFreq {}, !new:speechbrain.augment.time_domain.DropChunk {}]"
SGD = "!name:alpha_sv.heads.PrototypeSGD {lr: 0.1}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"), speakers=10, utterances=8)


def start(tree, output, ranks, model="ecapa", **overrides):
    return Training(arguments(tree, output, model, **{"batch_size": 16, **overrides}), ranks)


def assert_same_run(one, other, tolerance=1e-3):
    assert [(row["kind"], row["step"]) for row in one] == [(row["kind"], row["step"]) for row in other]
    for a, b in zip(one, other, strict=True):
        key = "loss" if a["kind"] == "train" else "train_loss"
        assert b[key] == pytest.approx(a[key], rel=tolerance), (a, b)
        if a["kind"] == "train":
            assert (a["lr"], a["margin"]) == (b["lr"], b["margin"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ecapa", "resnet"])
def test_two_processes_take_the_steps_of_one(model, tree, tmp_path):
    same = {"model": model, "wav_augment": DROPS, "reinit_epoch": 2, "speeds": "[1.0, 0.9]", "prototype_opt_class": SGD}
    # a bias before a batch normalisation has no gradient;
    # Adam would make whole steps of its rounding
    same["opt_class"] = "!name:torch.optim.SGD {lr: 0.003}"
    for ranks, name in ((1, "one"), (2, "two")):
        start(tree, tmp_path / name, ranks, **same).finish()
    one, two = (log_of(tmp_path / name) for name in ("one", "two"))
    assert len([row for row in one if row["kind"] == "train"]) == 6, "48 utterances, 3 steps an epoch on both"
    assert_same_run(one, two)
    last = [max((tmp_path / name / "save").glob("CKPT*")) / "head.ckpt" for name in ("one", "two")]
    weights = [torch.load(file, weights_only=True)["weight"] for file in last]
    # rounding, which depends on the processor, comes to 3e-5; trainings with half the batch end
    # 0.3 and 0.7 apart
    torch.testing.assert_close(*weights, rtol=0, atol=2e-4)
    assert (tmp_path / "two" / "model" / "config.json").is_file()


@pytest.mark.slow
def test_a_run_on_two_processes_continues_on_one(tree, tmp_path):
    same = {"ckpt_interval_steps": 1, "number_of_epochs": 2}
    start(tree, tmp_path / "whole", 1, **same).finish()
    start(tree, tmp_path / "killed", 2, **same).kill_at(4, tmp_path / "killed" / "train_log.jsonl")
    assert "Loading a checkpoint" in start(tree, tmp_path / "killed", 1, **same).finish()
    assert_same_run(log_of(tmp_path / "whole"), log_of(tmp_path / "killed"))


def test_an_indivisible_batch_and_a_split_head_of_a_dense_loss_are_refused(tree, tmp_path):
    for overrides, message in (({"batch_size": 15}, "use 14"), (ALPHA_1, "head: dense")):
        training = start(tree, tmp_path / message.replace(" ", ""), 2, **overrides)
        assert training.wait() != 0 and message in training.printed(), training.printed()[-3000:]


@pytest.mark.slow
def test_the_command_of_torchrun(tree, tmp_path):
    argv = arguments(tree, tmp_path, batch_size=16, number_of_epochs=1)
    finish(start_command([*TORCHRUN, "train.py", *argv, "--distributed_backend=gloo", "--device=cpu"]))
    assert len([row for row in log_of(tmp_path) if row["kind"] == "train"]) == 3


def test_a_batch_size_of_one_process_is_its_own():
    assert local_batch_size(7) == 7


def _norm_rank(rank, address, x, folder):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    norm = with_common_batch_norm(_norm(), torch.device("cpu"))
    own = x[2 * rank : 2 * rank + 2].clone().requires_grad_()
    y = norm(own)
    (y * torch.arange(y.numel()).reshape(y.shape).sin()).sum().backward()
    torch.save({"y": y.detach(), "grad": own.grad, **norm.state_dict()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _norm():
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm1d(3).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def test_common_batch_norm_is_batch_norm_over_both_ranks(tmp_path):
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    address = f"file://{tmp_path / 'rendezvous'}"
    torch.multiprocessing.start_processes(_norm_rank, (address, x, str(tmp_path)), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    norm, whole = _norm(), x.clone().requires_grad_()
    y = norm(whole)
    weights = torch.arange(y.numel() // 2).reshape(2, *y.shape[1:]).sin()
    (y * torch.cat([weights, weights])).sum().backward()
    torch.testing.assert_close(torch.cat([r["y"] for r in ranks]), y.detach())
    torch.testing.assert_close(torch.cat([r["grad"] for r in ranks]), whole.grad)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(ranks[0][name], value)
        torch.testing.assert_close(ranks[1][name], value)


def test_common_batch_norm_of_one_process_equals_batch_norm_when_evaluating():
    norm = _norm()
    norm(torch.randn(8, 3, dtype=torch.float64))
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = norm.eval()(x)
    np.testing.assert_allclose(CommonBatchNorm(norm).eval()(x).detach(), expected.detach())
