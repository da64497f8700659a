"""ShardedHead over two and three processes is SparseHead over all samples;
bad batches stop every rank, none waits."""

import re
import time

import pytest
import torch
import torch.multiprocessing as mp

from alpha_sv.heads import PrototypeSGD, ShardedHead, SparseHead, class_means, load_shards
from alpha_sv.heads.sharded import shard_range
from tests.batteries.solvers import value_and_gradients
from tests.fixtures import ranks as at_rank
from tests.fixtures.ranks import CASES, CLASSES, DIM, EACH, make_loss, one_machine

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
RANKS = 3
SECONDS = 60


def run(work, ranks, folder):
    """Results of all ranks; fails if one does or if they are
    not done in a minute, and leaves no process behind."""
    (folder / "meet").unlink(missing_ok=True)
    mp.set_forkserver_preload([at_rank.__name__])  # one process imports torch for all ranks
    context = mp.start_processes(
        at_rank.start, (ranks, str(folder), work), ranks, join=False, start_method="forkserver"
    )
    deadline = time.monotonic() + SECONDS
    try:
        while not context.join(timeout=max(deadline - time.monotonic(), 0.1)):
            assert time.monotonic() < deadline, f"a rank still waits after {SECONDS} s"
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def first(folder):
    return run(at_rank.first_run, RANKS, folder)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: "-".join(map(str, CASES[i])))
def test_loss_and_gradients_are_those_of_all_samples_on_one_machine(first, number):
    name, alpha, dtype = CASES[number]
    full, embeddings, labels = one_machine(RANKS, loss=make_loss(name, alpha), dtype=dtype)
    full.double()
    loss, grad_embeddings, grad_weight = value_and_gradients(full, embeddings.double(), labels)
    parts = [seen["cases"][number] for seen in first]
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    mean = sum(part[0].double() for part in parts) / RANKS
    torch.testing.assert_close(mean, loss, **tolerance)
    # as DistributedDataParallel expects them: it divides by the number of ranks
    ours = torch.cat([part[1] for part in parts]).double() / RANKS
    torch.testing.assert_close(ours, grad_embeddings, **tolerance)
    torch.testing.assert_close(torch.cat([part[2] for part in parts]).double(), grad_weight, **tolerance)


def test_each_step_reduces_two_numbers_a_row_and_there_are_few(first):
    for seen in first:
        for *_, shapes, _, _, _ in seen["cases"]:
            rows = EACH * RANKS
            assert 2 <= shapes.count((2, rows)) <= 9, "one for each step, and one that sees that it is done"
            # beside them: the targets' cosines, the level, the spread,
            # and ∂embeddings; for the monitor, three figures
            assert sorted(set(shapes)) == [(2, rows), (3, rows), (rows,), (rows, DIM)] and shapes.count((rows,)) == 3
            assert shapes.count((3, rows)) == 1


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: "-".join(map(str, CASES[i])))
def test_figures_and_clipping_are_those_of_all_samples_on_one_machine(first, number):
    name, alpha, dtype = CASES[number]
    full, embeddings, labels = one_machine(RANKS, loss=make_loss(name, alpha), dtype=dtype)
    expected = full.statistics(embeddings, labels)
    expected.pop("candidates")  # how many each rank looks at depends on what it has
    full(embeddings, labels).backward()
    norm = torch.nn.utils.clip_grad_norm_(full.parameters(), 0.1)
    for rank, seen in enumerate(first):
        *_, figures, monitored, (own_norm, clipped) = seen["cases"][number]
        assert figures == pytest.approx({**expected, "candidates": figures["candidates"]}, rel=1e-4)
        assert figures["candidates"] >= 1
        assert monitored == pytest.approx({key: figures[key] for key in monitored}, rel=1e-4)
        assert own_norm == pytest.approx(norm.item(), rel=1e-4)
        mine = shard_range(CLASSES, RANKS, rank)
        torch.testing.assert_close(
            clipped.double(), full.weight.grad.to_dense().double()[mine.start : mine.stop], rtol=1e-4, atol=1e-6
        )


def test_class_means_of_split_classes_are_those_of_one_machine(first):
    means, classes = class_means(at_rank.batches_for_means(), CLASSES)
    torch.testing.assert_close(torch.cat([seen["means"][0] for seen in first]), means)
    assert torch.cat([seen["means"][1] for seen in first]).tolist() == classes.tolist()
    assert [len(seen["means"][1]) for seen in first] == [20, 0, 20], "the middle rank has no class with samples"
    said = [seen["means"][2] for seen in first]
    assert said == ["rank 1 could not embed a batch, see its message", "a file is damaged", said[0]]


def test_prototypes_begin_as_those_of_one_machine(first):
    torch.manual_seed(0)
    assert torch.equal(torch.cat([seen["started"] for seen in first]), SparseHead(2, 200_000).weight)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("unequal", r"batches of different size, or none, \[4, 3, 4\]"),
        ("empty", "none"),
        ("label", r"\[0, 500\), got values from .* to 500"),
        ("shape", r"shape .* \(4,\), got \(3,\)"),
        ("alpha 1", "alpha <= 2, got 1.0"),
        ("alpha 3", "alpha <= 2, got 3.0"),
    ],
)
def test_bad_batches_are_refused_on_every_rank(first, kind, message):
    """A label out of range on one rank once left the others waiting for it."""
    for rank, seen in enumerate(first):
        elsewhere = kind in ("label", "shape") and rank != 1
        assert re.search(
            "rank 1 has labels or embeddings that do not fit" if elsewhere else message, seen["refusals"][kind]
        )


def test_a_steep_loss_keeps_its_certificate(first):
    """A level rounded up by float32 was above the root: "please report this batch" at κ = 1000."""
    full, embeddings, labels = one_machine(RANKS, loss=at_rank.A3M(2.0, 1000.0, 0.2), dtype=torch.float32, noise=0.1)
    mean = sum(seen["steep"] for seen in first) / RANKS
    torch.testing.assert_close(mean, full(embeddings, labels).detach(), rtol=1e-4, atol=1e-3)


def test_second_derivatives_are_refused(first):
    assert all("ShardedHead has first derivatives only" in seen["second derivative"] for seen in first)


def test_nan_on_one_rank_is_nan_there_and_right_elsewhere(first):
    """A row that is NaN once stopped the solve of all rows at its start,
    with finite and wrong losses elsewhere."""
    full, embeddings, labels = one_machine(RANKS)
    losses = [seen["nan"][0] for seen in first]
    assert losses[1].isnan()
    for rank in (0, 2):
        mine = slice(rank * EACH, (rank + 1) * EACH)
        loss, grad_embeddings, _ = value_and_gradients(full, embeddings[mine], labels[mine])
        torch.testing.assert_close(losses[rank], loss, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(first[rank]["nan"][1], grad_embeddings, rtol=1e-10, atol=1e-10)


def test_nan_prototype_on_one_rank_is_nan_on_every_rank(first):
    """A maximum over ranks passed the NaN on to its own rank only;
    the others trained on without those prototypes."""
    assert all(seen["nan prototype"][0].isnan() for seen in first)


@pytest.fixture(scope="module")
def straight():
    """Prototypes after three and after six steps of dense SGD on one machine."""
    full, _, _ = one_machine(RANKS)
    optimizer, weights = torch.optim.SGD(full.parameters(), 0.1, momentum=0.9), []
    for seed in range(6):
        _, embeddings, labels = one_machine(RANKS, seed)
        optimizer.zero_grad()
        full(embeddings, labels).backward()
        full.weight.grad = full.weight.grad.to_dense()
        optimizer.step()
        weights.append(full.weight.detach().clone())
    return weights[2], weights[5]


def test_training_and_what_it_saves_go_on_over_any_number_of_ranks(first, folder, straight):
    trained = torch.cat([seen["trained"] for seen in first])
    torch.testing.assert_close(trained, straight[0], rtol=1e-9, atol=1e-9)
    plain = SparseHead(DIM, CLASSES).double()
    optimizer = PrototypeSGD(plain.parameters(), 0.1)
    load_shards(folder / "shards", plain, optimizer)
    optimizer.catch_up()
    assert torch.equal(plain.weight.data, trained)

    resumed = torch.cat(run(at_rank.second_run, 2, folder))
    torch.testing.assert_close(resumed, straight[1], rtol=1e-9, atol=1e-9)
    load_shards(folder / "shards", plain, optimizer)
    optimizer.catch_up()
    assert torch.equal(plain.weight.data, resumed)
    assert len(list((folder / "shards").glob("shard-*.pt"))) == 2


@pytest.mark.parametrize("classes, ranks", [(1, 1), (10, 3), (12, 4), (500, 3), (7, 7)])
def test_shards_cover_every_class_once(classes, ranks):
    parts = [shard_range(classes, ranks, rank) for rank in range(ranks)]
    assert [label for part in parts for label in part] == list(range(classes))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_without_process_group_it_says_how_to_start():
    with pytest.raises(ValueError, match="torchrun"):
        ShardedHead(DIM, CLASSES)
