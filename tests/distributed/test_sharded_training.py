"""A recipe with its prototypes split over two and three
processes takes the steps of one process, whatever happens."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import arguments, checkpoints, finish, log_of, start_command

# a bias before a batch normalisation has no gradient; Adam would make whole steps of its rounding
SAME = {
    "head": "sharded",
    "opt_class": "!name:torch.optim.SGD {lr: 0.003}",
    "batch_size": 12,
    "speeds": "[1.0, 0.9]",
    "reinit_epoch": 2,
    "average": 2,
    "number_of_epochs": 3,
}
OPTIONS = ["--grad_accumulation_factor=2", "--max_grad_norm=0.5"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """56 training utterances: 28, or 18 and two left over,
    for each process; no whole number of its batches."""
    return make_tree(tmp_path_factory.mktemp("tree"), speakers=11, utterances=8)


def start(tree, output, processes, options=OPTIONS, **overrides):
    argv = ["train.py", *arguments(tree, output, **{**SAME, **overrides}), *options, "--device=cpu"]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        argv = [*launch, *argv, "--distributed_backend=gloo"]
    return start_command(argv, start_new_session=True)


def assert_same_run(one, other, rel=2e-3):
    assert [(row["kind"], row["step"]) for row in one] == [(row["kind"], row["step"]) for row in other]
    for a, b in zip(one, other, strict=True):
        keys = ("loss", "support", "zero_target", "target_probability") if a["kind"] == "train" else ("train_loss",)
        for key in keys:
            assert b[key] == pytest.approx(a[key], rel=rel, abs=1e-5), (key, a, b)


def prototypes(folder):
    return safetensors.torch.load_file(folder / "prototypes.safetensors")["weight"]


@pytest.fixture(scope="module")
def one(tree, tmp_path_factory):
    """The run in one process, where `sharded` is a SparseHead."""
    folder = tmp_path_factory.mktemp("one")
    out = finish(start(tree, folder, 1))
    assert "head: sparse, as asked for" in out
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_with_a_part_of_the_prototypes_each_take_the_steps_of_one(processes, one, tree, tmp_path):
    out = finish(start(tree, tmp_path, processes))
    assert f"head: sharded, as asked for, split over {processes} processes" in out
    assert len(re.findall(r"14 prototypes set to their speakers' mean embedding", out)) == 1, "7 speakers at 2 speeds"
    assert_same_run(log_of(one), log_of(tmp_path))
    torch.testing.assert_close(prototypes(tmp_path), prototypes(one), rtol=0, atol=1e-4)
    newest = max((tmp_path / "save").glob("CKPT*"))
    assert len(list((newest / "head.ckpt").glob("shard-*.pt"))) == processes
    assert (tmp_path / "model" / "config.json").is_file()


def children(pid):
    """Processes of a launcher that train, in the order of their ranks."""
    return sorted(
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if stat.read_text().rpartition(")")[2].split()[1] == str(pid)
    )


def wait_for(process, log, text):
    while process.poll() is None and not (log.exists() and text in log.read_text()):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0][-3000:]


@pytest.mark.slow
def test_a_killed_and_a_slow_process(one, tree, tmp_path):
    """kill -9 of one of two: all end within a minute and say so. Then on three, one of
    which sleeps, from the checkpoint before the newest, of which a shard is damaged: to the
    same end as one process.
    """
    often, log = {"ckpt_interval_steps": 2}, tmp_path / "train_log.jsonl"
    killed = start(tree, tmp_path, 2, **often)
    wait_for(killed, log, '"step": 4, ')
    os.kill(children(killed.pid)[1], signal.SIGKILL)
    began = time.monotonic()
    out, _ = killed.communicate(timeout=120)
    assert time.monotonic() - began < 60 and killed.returncode != 0
    assert re.search(r"Signal 9 \(SIGKILL\)|exitcode\s*: -9", out), out[-3000:]
    assert re.search("lost another process of this run.*same command|same command again", out), out[-3000:]

    shard = sorted((checkpoints(tmp_path)[-1].path / "head.ckpt").glob("shard-*.pt"))[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    again = start(tree, tmp_path, 3, **often)
    wait_for(again, log, '"step": 5, ')
    sleeper = children(again.pid)[2]
    os.kill(sleeper, signal.SIGSTOP)
    time.sleep(3)
    os.kill(sleeper, signal.SIGCONT)
    assert f"{shard.name}): set aside as damaged-" in finish(again)
    assert_same_run(log_of(one), log_of(tmp_path))
    torch.testing.assert_close(prototypes(tmp_path), prototypes(one), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_warm_starts_from_split_prototypes_in_bfloat16(one, tree, tmp_path):
    """keep: the very prototypes; means: moved before the first epoch;
    and the loss is that of one process."""
    for policy in ("keep", "means"):
        same = {"warm_start": one, "warm_start_head": policy, "reinit_epoch": 0, "number_of_epochs": 1, "average": 1}
        options = ["--precision=bf16", "--max_grad_norm=5"]
        runs = [tmp_path / f"{policy}{processes}" for processes in (1, 2)]
        for processes, folder in zip((1, 2), runs, strict=True):
            finish(start(tree, folder, processes, options, **same))
        assert_same_run(*map(log_of, runs), rel=0.05)
        torch.testing.assert_close(*map(prototypes, runs), rtol=0, atol=0.05)
