"""Checkpoints of prototypes on one machine:
whole or not at all, and refused where they do not fit."""

import json

import pytest
import torch

from alpha_sv.heads import PrototypeSGD, SparseHead, checkpoint, load_shards, save_shards
from tests.batteries import damaged_files


def trained(seed, classes=30, dim=4, momentum=0.9):
    torch.manual_seed(seed)
    head = SparseHead(dim, classes)
    optimizer = PrototypeSGD(head.parameters(), 0.1, momentum)
    step(head, optimizer, seed)
    return head, optimizer


def step(head, optimizer, seed):
    g = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    head(torch.randn(5, 4, generator=g), torch.randint(len(head.weight), (5,), generator=g)).backward()
    optimizer.step()


def test_round_trip_goes_on_identically(tmp_path):
    head, optimizer = trained(0)
    save_shards(tmp_path / "new" / "folder", head, optimizer)
    other, second = trained(1)
    load_shards(tmp_path / "new" / "folder", other, second)
    assert torch.equal(other.weight, head.weight)
    for seed in (5, 6):
        step(head, optimizer, seed), step(other, second, seed)
    assert torch.equal(other.weight, head.weight)
    plain = SparseHead(4, 30)
    load_shards(tmp_path / "new" / "folder", plain)


@pytest.mark.parametrize("when", ["before the shard", "before the index", "while the index is moved"])
def test_a_save_cut_short_leaves_the_old_one_in_force(tmp_path, monkeypatch, when):
    head, optimizer = trained(0)
    save_shards(tmp_path, head, optimizer)
    saved = head.weight.detach().clone()
    step(head, optimizer, 3)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if when == "before the shard":
            patch.setattr(checkpoint.torch, "save", killed)
        elif when == "before the index":
            patch.setattr(checkpoint.json, "dumps", killed)
        else:
            move = checkpoint.os.replace
            patch.setattr(checkpoint.os, "replace", lambda a, b: killed() if str(b).endswith("json") else move(a, b))
        save_shards(tmp_path, head, optimizer)
    other, second = trained(1)
    load_shards(tmp_path, other, second)
    assert torch.equal(other.weight, saved)
    save_shards(tmp_path, head, optimizer)  # and the next save is a save
    load_shards(tmp_path, other, second)
    assert torch.equal(other.weight, head.weight)
    assert len(list(tmp_path.glob("shard-*.pt"))) == 1, "old shards are cleared away"


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no save was completed"):
        load_shards(tmp_path, SparseHead(4, 30))
    save_shards(tmp_path, *trained(0))
    with pytest.raises(ValueError, match="holds 30 prototypes, this head has 31"):
        load_shards(tmp_path, SparseHead(4, 31))
    with pytest.raises(ValueError, match="dimension 4, this head 5"):
        load_shards(tmp_path, SparseHead(5, 30))


def test_no_optimiser_state_in_the_folder_leaves_none_in_the_optimiser(tmp_path):
    """Velocities of other prototypes than those just read would push them somewhere."""
    head, _ = trained(0)
    save_shards(tmp_path, head)
    other, second = trained(1)
    load_shards(tmp_path, other, second)
    assert torch.equal(other.weight, head.weight) and not second.state[other.weight]


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_a_damaged_index_is_named(tmp_path, content):
    head, optimizer = trained(0)
    save_shards(tmp_path, head, optimizer)
    before = head.weight.clone()
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"index\.json: "):
        load_shards(tmp_path, head)
    assert torch.equal(head.weight, before)


@pytest.mark.parametrize("name", ["../shard-1-0-29.pt", "shard-1-0.pt", "shard-1-0-" + "9" * 5000 + ".pt", "x.pt"])
def test_an_index_names_shards_of_its_folder_alone(tmp_path, name):
    head, optimizer = trained(0)
    save_shards(tmp_path, head, optimizer)
    (tmp_path / "index.json").write_text(json.dumps({"save": 1, "num_classes": 30, "files": [name]}))
    with pytest.raises(ValueError, match=r"index\.json: .* is no shard"):
        load_shards(tmp_path, head)


@pytest.mark.parametrize("state", [b"", b"garbage", [1], {}, {"weight": 3}, {"weight": torch.ones(29, 4)}])
def test_a_damaged_shard_is_named(tmp_path, state):
    head, optimizer = trained(0)
    save_shards(tmp_path, head, optimizer)
    (path,) = tmp_path.glob("*.pt")
    path.write_bytes(state) if isinstance(state, bytes) else torch.save(state, path)
    with pytest.raises(ValueError, match=f"{path.name} is damaged, or no shard"):
        load_shards(tmp_path, head)
