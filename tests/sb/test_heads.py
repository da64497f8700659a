"""Which head a run gets: by its speakers and processes,
as it was begun, and whatever form its prototypes are in."""

import json

import pytest
import torch
import torch.distributed as dist

from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead, save_shards
from alpha_sv.losses import AMSoftmax, QMargin
from alpha_sv.sb import heads
from alpha_sv.sb.checkpointer import SafeCheckpointer
from alpha_sv.sb.experiment import run
from alpha_sv.schedule import AlphaSchedule
from tests.fixtures.training_runs import RECIPE, arguments, checkpoints

MANY = 100_000


@pytest.mark.parametrize(
    "asked, classes, processes, begun, kind",
    [
        ("auto", MANY - 1, 1, None, "dense"),
        ("auto", MANY - 1, 8, None, "dense"),
        ("auto", MANY, 1, None, "sparse"),
        ("auto", MANY, 8, None, "sharded"),
        ("auto", MANY, 8, "dense", "dense"),
        ("auto", 10, 8, "sparse", "sharded"),
        ("auto", 10, 1, "sharded", "sparse"),
        ("sparse", 10, 2, None, "sharded"),
        ("sharded", 10, 1, None, "sparse"),
        ("dense", MANY, 8, None, "dense"),
    ],
)
def test_the_choice(monkeypatch, asked, classes, processes, begun, kind):
    monkeypatch.setattr(heads, "world_size", lambda: processes)
    found, reason = heads.choose_head({"head": asked, "loss": QMargin()}, classes, begun)
    assert found == kind and reason


@pytest.mark.parametrize(
    "more, message",
    [
        ({"loss": AMSoftmax()}, "α must be from 1.02 to 2"),
        ({"alpha_schedule": AlphaSchedule(1.0, 1.5)}, "from 1 to 1.5"),
        ({"prototype_opt_class": torch.optim.SparseAdam}, "SparseAdam"),
        ({"sub_centers": 3}, "sub_centers: 3 takes the nearest.*head: dense"),
        ({"loss": QMargin(inter_top_k=5)}, "inter-top-K.*head: dense"),
    ],
)
def test_what_cannot_be_split_is_dense_by_default_and_refused_if_asked_for(monkeypatch, more, message):
    monkeypatch.setattr(heads, "world_size", lambda: 2)
    assert heads.choose_head({"head": "auto", "loss": QMargin(), **more}, MANY)[0] == "dense"
    with pytest.raises(ValueError, match=message):
        heads.choose_head({"head": "sharded", "loss": QMargin(), **more}, MANY)


@pytest.mark.slow
def test_a_run_that_was_begun_dense_by_an_older_version_goes_on_dense(tree, tmp_path, monkeypatch):
    """Its recipe says `head: dense`, and nothing else does;
    the default was that, and is auto now."""
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr(heads, "MANY_CLASSES", 1)  # auto alone would take sparse
    run(arguments(tree, tmp_path, number_of_epochs=1, head="dense"))
    begun = json.loads((tmp_path / "save" / "run.json").read_text())
    assert begun.pop("head") == "dense"
    (tmp_path / "save" / "run.json").write_text(json.dumps(begun))
    for epochs in (2, 3):  # the second time the recipe says auto and run.json says what that was
        run(arguments(tree, tmp_path, number_of_epochs=epochs))
        assert "prototype_optimizer" not in checkpoints(tmp_path)[-1].paramfiles
    assert "head: dense, as the run was begun" in (tmp_path / "log.txt").read_text()
    with pytest.raises(ValueError, match=r"other settings \(head\)"):
        run(arguments(tree, tmp_path, number_of_epochs=4, head="sparse"))


def trained(head, seed):
    optimizer = PrototypeSGD(head.parameters(), 0.1)
    g = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        head(torch.randn(4, 6, generator=g), torch.randint(20, (4,), generator=g)).backward()
        optimizer.step()
    return head, optimizer


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")  # what SpeechBrain goes by
    dist.init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("writer, reader", [(SparseHead, ShardedHead), (ShardedHead, SparseHead)])
def test_each_of_the_two_reads_what_the_other_has_saved(alone, tmp_path, writer, reader):
    one, two = (trained(kind(6, 20), seed) for kind, seed in ((writer, 1), (reader, 2)))
    for head, optimizer in (one, two):
        checkpointer = SafeCheckpointer(tmp_path / "save")
        heads.add_head(checkpointer, head, optimizer)
        if head is one[0]:
            checkpointer.save_checkpoint()
    assert checkpointer.recover_if_possible() is not None
    assert torch.equal(two[0].weight, one[0].weight)
    states = [optimizer.state[head.weight] for head, optimizer in (one, two)]
    assert states[0]["step"] == states[1]["step"] == 3
    assert all(torch.equal(states[0][name], states[1][name]) for name in ("velocity", "current"))


def test_a_damaged_shard_is_set_aside_with_its_checkpoint(alone, tmp_path):
    head, optimizer = trained(ShardedHead(6, 20), 1)
    checkpointer = SafeCheckpointer(tmp_path)
    heads.add_head(checkpointer, head, optimizer)
    first = checkpointer.save_checkpoint().path
    before = head.weight.detach().clone()
    head.weight.data.zero_()
    second = checkpointer.save_checkpoint().path
    (shard,) = (second / "head.ckpt").glob("*.pt")
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert checkpointer.recover_if_possible().path == first and torch.equal(head.weight, before)
    save_shards(tmp_path / "after", head)
