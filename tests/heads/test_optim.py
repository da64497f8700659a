"""PrototypeSGD is dense SGD with momentum that puts off what no gradient asks for."""

import io

import pytest
import torch

from alpha_sv.heads import PrototypeSGD, SparseHead

MOMENTA = pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
KINDS = pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
ROWS, STEPS = 9, 25


def gradients(seed=0, dtype=torch.float64):
    """One gradient a step; most rows are zero, row 0 always,
    row 1 but for the first step, and one step has none."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(STEPS, ROWS, 3, generator=g, dtype=torch.float64)
    values[torch.rand(STEPS, ROWS, generator=g) < 0.7] = 0
    values[:, 0], values[1:, 1], values[0, 1], values[7] = 0, 0, 1.0, 0
    return values.to(dtype)


def optimisers(momentum, dtype=torch.float64, lr=0.3):
    start = torch.arange(3.0 * ROWS, dtype=dtype).view(ROWS, 3)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    return ours, PrototypeSGD([ours], lr, momentum), theirs, torch.optim.SGD([theirs], lr, momentum)


def give(weight, grad, sparse):
    rows = grad.any(1).nonzero().squeeze(1)
    weight.grad = (
        torch.sparse_coo_tensor(rows[None], grad[rows], grad.shape, check_invariants=True) if sparse else grad.clone()
    )


@KINDS
@MOMENTA
def test_touched_rows_are_where_dense_sgd_has_them_and_catch_up_brings_the_others(momentum, sparse):
    ours, optimizer, theirs, dense = optimisers(momentum)
    for step, grad in enumerate(gradients()):
        give(ours, grad, sparse), give(theirs, grad, False)
        optimizer.step(), dense.step()
        touched = grad.any(1)
        torch.testing.assert_close(ours[touched], theirs[touched], rtol=0, atol=1e-12)
        assert torch.equal(ours[0], torch.arange(3.0, dtype=torch.float64)), "a row without gradient never moves"
        if step == 12:  # in the middle too, and twice is once
            optimizer.catch_up(), optimizer.catch_up()
            torch.testing.assert_close(ours.data, theirs.data, rtol=0, atol=1e-12)
    lag = (ours - theirs).abs()
    assert (lag.amax() > 1e-3) == (momentum > 0)
    optimizer.catch_up()
    torch.testing.assert_close(ours.data, theirs.data, rtol=0, atol=1e-12)
    assert momentum > 0 or not optimizer.state[ours]


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_a_row_lags_by_less_than_its_momentum_has_still_to_give(momentum):
    ours, optimizer, theirs, dense = optimisers(momentum, lr=0.1)
    grad = torch.zeros(ROWS, 3, dtype=torch.float64)
    grad[4] = 1.0
    for step in range(200):
        give(ours, grad if step < 5 else grad * 0, True), give(theirs, grad if step < 5 else grad * 0, False)
        optimizer.step(), dense.step()
    velocity = sum(momentum**k for k in range(5))
    limit = 0.1 * velocity * momentum / (1 - momentum)
    torch.testing.assert_close((ours - theirs)[4], torch.full((3,), limit, dtype=torch.float64))


@MOMENTA
def test_uncoalesced_gradients_add_up(momentum):
    ours, optimizer, theirs, dense = optimisers(momentum)
    for _ in range(3):
        ours.grad = torch.sparse_coo_tensor(
            torch.tensor([[5, 2, 5]]), torch.ones(3, 3, dtype=torch.float64), (ROWS, 3), check_invariants=True
        )
        theirs.grad = ours.grad.to_dense()
        optimizer.step(), dense.step()
    torch.testing.assert_close(ours.data, theirs.data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@KINDS
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(sparse, dtype):
    straight, optimizer, _, _ = optimisers(0.9, dtype)
    for step, grad in enumerate(gradients(dtype=dtype)):
        if step == 11:
            file = io.BytesIO()
            torch.save({"weight": straight.data, "optimiser": optimizer.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            resumed, second, _, _ = optimisers(0.9, dtype)
            resumed.data.copy_(saved["weight"])
            second.load_state_dict(saved["optimiser"])
            assert second.state[resumed]["current"].dtype == torch.int64
        give(straight, grad, sparse)
        optimizer.step()
        if step >= 11:
            give(resumed, grad, sparse)
            second.step()
    optimizer.catch_up(), second.catch_up()
    assert torch.equal(straight, resumed)


def test_what_is_owed_is_paid_at_the_learning_rate_of_the_day():
    """The documented difference: dense SGD would have
    moved the row at the rates of the steps between."""
    weight = torch.nn.Parameter(torch.zeros(2, 1, dtype=torch.float64))
    optimizer = PrototypeSGD([weight], 1.0, 0.5)
    for lr, grad in ((1.0, [[1.0], [1.0]]), (1.0, [[0.0], [1.0]]), (0.25, [[0.0], [1.0]])):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    assert weight.data.flatten().tolist() == [-1.0, -(1.0 + 1.5 + 0.25 * 1.75)]
    optimizer.catch_up()  # two steps: v (μ + μ²)
    assert weight.data.flatten().tolist()[0] == -(1.0 + 0.25 * (0.5 + 0.25))


def test_it_trains_a_sparse_head_as_dense_sgd_would():
    from tests.batteries.solvers import speech, twin_heads

    dense, sparse = twin_heads(8, 400, SparseHead(1, 1).loss)
    optimizers = torch.optim.SGD(dense.parameters(), 0.05, 0.9), PrototypeSGD(sparse.parameters(), 0.05, 0.9)
    for seed in range(6):
        embeddings, labels = speech(10, dense, seed)
        labels[:] = labels[:3].repeat(4)[:10]  # the same few speakers are active all along
        for head, optimizer in zip((dense, sparse), optimizers, strict=True):
            optimizer.zero_grad()
            head(embeddings, labels).backward()
            optimizer.step()
        if seed == 0:
            torch.testing.assert_close(sparse.weight.data, dense.weight.data, rtol=1e-10, atol=1e-10)
        optimizers[1].catch_up()
        torch.testing.assert_close(sparse.weight.data, dense.weight.data, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.0, 0.9), "lr must be positive"),
        ((float("nan"), 0.9), "lr"),
        ((0.1, 1.0), r"\[0, 1\)"),
        ((0.1, -0.1), "momentum"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PrototypeSGD([torch.nn.Parameter(torch.zeros(2, 2))], *arguments)


def test_a_closure_computes_the_gradients_first_and_its_loss_comes_back():
    """Lightning always hands one over."""
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = PrototypeSGD([weight], 0.1, 0.0)

    def closure():
        optimizer.zero_grad()
        loss = weight[0].sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 2.0
    torch.testing.assert_close(weight.data, torch.tensor([[0.9, 0.9], [1.0, 1.0]]))


def test_missing_gradients_are_none():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = PrototypeSGD([weight], 0.1)
    optimizer.step(), optimizer.catch_up()
    assert torch.equal(weight.data, torch.ones(2, 2))
