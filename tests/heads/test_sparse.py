"""SparseHead is CosineHead, in value, both gradients
and statistics, without ever holding the cosines."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alpha_sv.functional import solver
from alpha_sv.heads import CosineHead, SparseHead, scan
from alpha_sv.heads.optim import _norm_of_values
from alpha_sv.losses import A3M, AAMSoftmax, Entmax, MarginLoss, QMargin, Sparsemax
from tests.batteries.solvers import counting, speech, twin_heads, value_and_gradients
from tests.fixtures.devices import LABELS, needs_a_real_gpu, needs_the_cpu
from tests.fixtures.replaced import set_sizes

LOSSES = {
    **{f"QMargin {alpha}": (lambda alpha=alpha: QMargin(alpha, "auto", 0.2)) for alpha in (1.05, 1.25, 1.5, 2.0, 2.5)},
    **{f"A3M {alpha}": (lambda alpha=alpha: A3M(alpha, "auto", 0.3)) for alpha in (1.25, 1.5, 2.0, 3.0)},
    "Entmax": lambda: Entmax(1.75),
    "Sparsemax": lambda: Sparsemax(),
    "cosine margin": lambda: MarginLoss(1.5, 10.0, 0.2, "cosine"),
    "q_y = e^-70": lambda: QMargin(1.5, 70.0, 1.0),
    "steep": lambda: A3M(2.0, 64.0, 0.2),
}
EVERY_LOSS = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
CHUNK = 4 * 64  # prototypes at least


@pytest.fixture
def small_chunks(monkeypatch):
    set_sizes(monkeypatch, scan, CPU_CELLS=1)


@pytest.fixture(params=[False, True], ids=["", "bfloat16 first"])
def rough(request, monkeypatch):
    """Whether the processor is said to multiply bfloat16 natively."""
    monkeypatch.setattr(scan, "has_fast_bfloat16", lambda device: request.param)


def assert_twins_agree(dense, sparse, embeddings, labels):
    expected = value_and_gradients(dense, embeddings, labels)
    with counting() as count:
        found = value_and_gradients(sparse, embeddings, labels)
    assert count.solves == 1 and count.fallbacks == 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * (1 + theirs.abs().max().item()))


@pytest.mark.parametrize("classes", [1, 2, 63, 64, 65, 256, 257, 300, 4 * CHUNK, 5 * CHUNK + 1, 6 * CHUNK + 65, 2047])
def test_equals_the_dense_head_over_any_number_of_chunks(classes, small_chunks):
    for make in (LOSSES["QMargin 1.5"], LOSSES["A3M 2.0"]):
        dense, sparse = twin_heads(16, classes, make())
        assert_twins_agree(dense, sparse, *speech(7, dense))


@EVERY_LOSS
def test_equals_the_dense_head_with_every_loss(make, small_chunks):
    dense, sparse = twin_heads(16, 5 * CHUNK + 37, make())
    for noise in (0.3, 2.0):  # easy: most losses are zero; hard: p_y = 0
        assert_twins_agree(dense, sparse, *speech(12, dense, noise=noise))


@EVERY_LOSS
def test_float32_is_the_dense_head_in_float64(make, small_chunks, rough, device):
    dense, sparse = twin_heads(16, 3 * CHUNK + 37, make())
    sparse.float()
    dense.weight.data = sparse.weight.data.double()
    embeddings, labels = (x.to(device) for x in speech(12, sparse))
    dense, sparse = dense.to(device), sparse.to(device)
    expected = value_and_gradients(dense, embeddings, labels)
    with counting() as count:
        found = value_and_gradients(sparse, embeddings, labels, torch.float32)
    assert count.fallbacks == 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5 * (1 + theirs.abs().max().item()))


def test_targets_in_every_chunk_repeated_targets_and_a_third_axis(small_chunks):
    dense, sparse = twin_heads(8, 6 * CHUNK + 5, QMargin())
    labels = torch.cat([torch.arange(0, 6 * CHUNK + 5, 128), torch.tensor([7, 7, 7, 6 * CHUNK + 4])])
    embeddings = torch.randn(len(labels), 8, dtype=torch.float64)
    assert_twins_agree(dense, sparse, embeddings, labels)
    flat = sparse(embeddings, labels)
    assert torch.equal(flat, sparse(embeddings.unsqueeze(1), labels.unsqueeze(1)))


@pytest.mark.parametrize("make", [lambda: QMargin(), lambda: A3M(2.0, 5.0)], ids=["QMargin", "A3M"])
def test_zero_prototypes_and_zero_embeddings(make, small_chunks):
    dense, sparse = twin_heads(8, 3 * CHUNK + 1, make())
    for head in (dense, sparse):
        head.weight.data[[5, 300, 3 * CHUNK]] = 0
    embeddings, labels = speech(6, dense)
    embeddings[2], labels[3] = 0, 300
    assert_twins_agree(dense, sparse, embeddings, labels)


def test_tied_prototypes_share(small_chunks):
    dense, sparse = twin_heads(4, 2 * CHUNK + 3, Sparsemax())
    for head in (dense, sparse):
        head.weight.data = head.weight.data[torch.arange(2 * CHUNK + 3) % 11]
    assert_twins_agree(dense, sparse, *speech(5, dense, noise=0.1))


@pytest.mark.parametrize("alpha", [1.25, 2.0, 3.0])
def test_nan_embedding_poisons_its_row_and_no_other(alpha, small_chunks):
    dense, sparse = twin_heads(8, 2 * CHUNK + 9, QMargin(alpha, "auto"))
    embeddings, labels = speech(5, dense)
    embeddings[2, 3] = torch.nan
    for head in (sparse, dense):
        assert head(embeddings, labels).isnan()
    with counting() as count:
        rows = sparse._per_example(embeddings, labels, None)
    assert count.fallbacks >= 1
    expected = dense.loss.per_example(dense.cosines(embeddings), labels)
    assert rows[2].isnan() and expected[2].isnan()
    torch.testing.assert_close(rows[[0, 1, 3, 4]], expected[[0, 1, 3, 4]], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("too_high", [0.05, 0.3, 3.0])
def test_a_bound_that_is_none_is_found_out(too_high, small_chunks, monkeypatch):
    """What an early chunk left out under a wrong bound
    must not be certified by a later, right one."""
    honest = scan.lower_bound

    def wrong(*arguments):
        shift, bound = honest(*arguments)
        return shift, bound + too_high

    monkeypatch.setattr(scan, "lower_bound", wrong)
    dense, sparse = twin_heads(8, 3 * CHUNK + 9, QMargin())
    embeddings, labels = speech(20, dense, noise=1.0)
    with counting() as count:
        found = value_and_gradients(sparse, embeddings, labels)
    assert count.fallbacks >= (too_high == 3.0)  # the first chunk's bound may be lower than the root by the others
    for ours, theirs in zip(found, value_and_gradients(dense, embeddings, labels), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: AAMSoftmax(), lambda: QMargin(1.01, 30.0)], ids=["1", "1.01"])
def test_near_alpha_one_it_is_the_dense_head(make):
    dense, sparse = twin_heads(8, 300, make())
    embeddings, labels = speech(6, dense)
    for ours, theirs in zip(*(value_and_gradients(h, embeddings, labels) for h in (sparse, dense)), strict=True):
        assert torch.equal(ours, theirs)
    assert not sparse.weight.grad.is_sparse
    assert sparse.statistics(embeddings, labels) == dense.statistics(embeddings, labels)


def test_autocast_changes_nothing():
    head, embeddings = SparseHead(32, 700), torch.randn(6, 32)
    labels = torch.randint(700, (6,))
    plain = value_and_gradients(head, embeddings, labels, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = value_and_gradients(head, embeddings, labels, torch.float32)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(inside, plain, strict=True))


class LargestTensor(TorchDispatchMode):
    """The largest number of elements of any tensor
    made inside the block, prototypes' views aside."""

    def __init__(self, weight):
        super().__init__()
        self.elements, self._weight = 0, weight.untyped_storage().data_ptr()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.layout == torch.strided:
                storage = x.untyped_storage()
                if storage.data_ptr() != self._weight:
                    self.elements = max(self.elements, storage.nbytes() // x.element_size())
        return out


def test_never_holds_more_than_a_chunk_of_cosines(monkeypatch, device):
    needs_the_cpu(device, "a chunk is larger on a GPU; benchmarks/device.py measures the memory there")
    set_sizes(monkeypatch, scan, CPU_CELLS=64 * 512)
    rows, classes = 64, 8192
    embeddings, labels = torch.randn(rows, 4, requires_grad=True), torch.randint(classes, (rows,))
    for head, few in ((SparseHead(4, classes, QMargin(2.0, 50.0)), True), (CosineHead(4, classes), False)):
        with LargestTensor(head.weight) as largest:
            head(embeddings, labels).backward()
        assert (largest.elements < rows * classes / 4) == few, "the dense head shows that the test sees"


def test_gradient_is_sparse_with_one_row_for_each_active_class():
    dense, sparse = twin_heads(16, 700, QMargin())
    embeddings, labels = speech(10, dense, noise=1.0)
    sparse(embeddings, labels).backward()
    cosines = dense.cosines(embeddings).detach().requires_grad_()
    dense.loss(cosines, labels).backward()
    wanted = (cosines.grad != 0).any(0).nonzero().squeeze(1)
    grad = sparse.weight.grad
    assert grad.is_sparse and torch.equal(grad._indices()[0], wanted)
    assert 0 < len(wanted) < 300
    torch.sparse_coo_tensor(grad._indices(), grad._values(), grad.shape, is_coalesced=True, check_invariants=True)


@EVERY_LOSS
@pytest.mark.parametrize("noise", [0.1, 0.5, 3.0])
def test_statistics_are_those_of_the_dense_head(make, noise, small_chunks):
    dense, sparse = twin_heads(16, 3 * CHUNK + 21, make())
    embeddings, labels = speech(40, dense, noise=noise)
    ours, theirs = sparse.statistics(embeddings, labels), dense.statistics(embeddings, labels)
    assert ours.keys() == theirs.keys()
    assert ours.pop("candidates") >= 1 and theirs.pop("candidates") >= 1
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    assert sparse.statistics(embeddings.unsqueeze(1), labels.unsqueeze(1))["accuracy"] == ours["accuracy"]


def test_margin_set_between_steps_is_in_force():
    dense, sparse = twin_heads(8, 300, QMargin(margin=0.0))
    embeddings, labels = speech(6, dense)
    values = []
    for margin in (0.0, 0.1, 0.3):
        dense.loss.margin = sparse.loss.margin = margin
        values.append(sparse(embeddings, labels).item())
        assert values[-1] == pytest.approx(dense(embeddings, labels).item(), abs=1e-12)
    assert values[0] < values[1] < values[2]


def test_monitor_is_fed_while_training_only():
    head = SparseHead(8, 300)
    embeddings, labels = speech(4, head)
    head.eval()
    head(embeddings, labels)
    assert head.loss.monitor.figures == {}
    head.train()
    head(embeddings, labels)
    figures = head.statistics(embeddings, labels)
    assert head.loss.monitor.figures == {key: figures[key] for key in head.loss.monitor.figures}


@pytest.mark.parametrize(
    "labels, message", [([0, 5], r"\[0, 5\)"), ([-1, 0], "from -1"), ([0.0, 1.0], "integer"), ([0], "shape")]
)
def test_bad_labels_are_refused(labels, message, device):
    if isinstance(labels[0], int) and len(labels) == 2:
        needs_the_cpu(device, LABELS)
    with pytest.raises(ValueError, match=message):
        SparseHead(8, 5)(torch.randn(2, 8), torch.tensor(labels))


def test_margin_beyond_float32_and_an_empty_batch_are_refused():
    with pytest.raises(ValueError, match="beyond float32"):
        SparseHead(8, 5, QMargin(margin=20))(torch.randn(2, 8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="empty"):
        SparseHead(8, 5)(torch.randn(0, 8), torch.zeros(0, dtype=torch.long))


def test_second_derivatives_are_refused_also_where_the_incoming_gradient_has_none():
    """They were silently zero: once_differentiable speaks
    up only if the incoming gradient wants a derivative."""
    head, x, y = SparseHead(8, 300), torch.randn(3, 8, requires_grad=True), torch.tensor([0, 5, 299])
    with pytest.raises(RuntimeError, match="first derivatives only.*CosineHead"):
        torch.autograd.grad(head(x, y), x, create_graph=True)
    with pytest.raises(RuntimeError, match="CosineHead"):
        torch.autograd.functional.hessian(lambda x: head(x, y), x.detach())
    with pytest.raises(ValueError, match="torch.func.*CosineHead"):
        torch.func.grad(lambda x: head(x, y))(x.detach())
    torch.autograd.grad(head(x, y), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prototypes_in_half_precision_are_multiplied_in_float32(dtype, small_chunks):
    dense, sparse = twin_heads(16, 3 * CHUNK + 37, QMargin(), dtype)
    embeddings, labels = speech(12, dense)
    ours, theirs = (value_and_gradients(head, embeddings, labels, torch.float32) for head in (sparse, dense))
    assert sparse.weight.grad.dtype == dtype
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[2], theirs[2], rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_a_parametrised_weight_is_refused():
    head = torch.nn.utils.parametrizations.weight_norm(SparseHead(8, 300))
    with pytest.raises(ValueError, match="weight_norm.*leave it out; or use CosineHead"):
        head(torch.randn(3, 8), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("order", [1, 2, 3.5, float("inf")])
def test_the_norm_of_a_sparse_gradient_is_that_of_its_dense_form(order):
    """What PyTorch before 2.14 lacks and clips through; here it may never be called otherwise."""
    grad = torch.sparse_coo_tensor([[0, 2, 2]], torch.randn(3, 4), (5, 4))  # row 2 twice: they add up
    expected = torch.linalg.vector_norm(grad.to_dense(), order)
    torch.testing.assert_close(_norm_of_values(grad, order), expected)
    with pytest.raises(NotImplementedError):
        _norm_of_values(grad, order, dim=1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: torch.optim.SGD(p, 0.1, weight_decay=1e-4), "SGD with weight_decay cannot take.*PrototypeSGD"),
        (lambda p: torch.optim.Adam(p), "Adam cannot take the sparse gradient.*PrototypeSGD"),
        (lambda p: torch.optim.AdamW(p), "AdamW with weight_decay cannot take.*PrototypeSGD"),
    ],
)
def test_an_optimizer_that_cannot_take_the_gradient_is_told_so(make, message, device):
    head = SparseHead(8, 300)
    head(torch.randn(3, 8), torch.tensor([0, 1, 2])).backward()
    with pytest.raises(ValueError, match=message):
        make(head.parameters()).step()
    for together in (None, False):
        with pytest.raises(ValueError, match="clip_grad_norm_"):
            torch.nn.utils.clip_grad_value_(head.parameters(), 1.0, foreach=together)
    needs_a_real_gpu(device)
    dense = head.weight.grad.to_dense()
    torch.testing.assert_close(torch.nn.utils.clip_grad_norm_(head.parameters(), 0.01), dense.norm())
    torch.testing.assert_close(head.weight.grad.to_dense(), dense * 0.01 / dense.norm(), rtol=1e-4, atol=0)
    for fit in (torch.optim.SGD(head.parameters(), 0.1), torch.optim.SparseAdam(list(head.parameters()))):
        fit.step()
    torch.optim.AdamW(torch.nn.Linear(2, 2).parameters()).step()


def test_it_is_told_before_a_closure_makes_the_first_gradient():
    """As Lightning steps; torch would say that Adam has no sparse gradients."""
    head, dense = SparseHead(8, 300), SparseHead(8, 300, QMargin(1.0))
    for one in (head, dense):
        optimizer = torch.optim.Adam(one.parameters())
        optimizer.step()  # nothing to do

        def closure(one=one):
            loss = one(torch.randn(3, 8), torch.tensor([0, 1, 2]))
            loss.backward()
            return loss

        if one is dense:
            optimizer.step(closure)
        else:
            for arguments, options in (((closure,), {}), ((), {"closure": closure})):
                with pytest.raises(ValueError, match="Adam cannot take the sparse gradient.*PrototypeSGD"):
                    optimizer.step(*arguments, **options)


def test_distributed_data_parallel_around_it_is_refused_and_around_the_embedder_alone_works(tmp_path):
    """Forward passed, backward died in the reducer."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        embedder, y = torch.nn.Linear(6, 8), torch.tensor([0, 5, 299])
        wrap, x = torch.nn.parallel.DistributedDataParallel, torch.randn(3, 6)
        head = SparseHead(8, 300)
        for whole, inputs in ((head, torch.randn(3, 8)), (Both(embedder, head), x)):
            with pytest.raises(ValueError, match="inside DistributedDataParallel.*ShardedHead"):
                wrap(whole)(inputs, y)
        head(wrap(embedder)(x), y).backward()
        assert head.weight.grad.is_sparse and embedder.weight.grad.any()
        wrap(Both(embedder, CosineHead(8, 300)))(x, y).backward()
    finally:
        torch.distributed.destroy_process_group()


class Both(torch.nn.Module):
    def __init__(self, embedder, head):
        super().__init__()
        self.embedder, self.head = embedder, head

    def forward(self, x, y):
        return self.head(self.embedder(x), y)


@pytest.mark.parametrize("scale", [1000.0, 10000.0])
def test_a_steep_loss_never_falls_back(scale, small_chunks):
    """At κ = 1000 float32 holds a cosine only to 6e-5 of a z:
    a level rounded up lost the certificate in each batch."""
    for seed in range(10):
        dense, sparse = twin_heads(16, 3 * CHUNK + 37, MarginLoss(2.0, scale, 0.2, "angle"), torch.float32, seed)
        embeddings, labels = speech(12, sparse, seed, noise=0.1)
        with counting() as count:
            value = sparse(embeddings, labels)
        assert count.fallbacks == 0
        torch.testing.assert_close(value, dense(embeddings, labels), rtol=1e-4, atol=1e-3 * scale / 1000)


def test_equals_the_dense_head_on_every_device(device):
    dense, sparse = twin_heads(16, 700, QMargin())
    embeddings, labels = (x.to(device) for x in speech(7, dense))
    assert_twins_agree(dense.to(device), sparse.to(device), embeddings, labels)


def test_a_fallback_is_logged_once(caplog, monkeypatch):
    monkeypatch.setitem(solver.COUNTS, "fallbacks", 0)
    head, embeddings = SparseHead(8, 300), torch.full((2, 8), torch.nan)
    for _ in range(3):
        head(embeddings, torch.tensor([0, 1]))
    said = [record.getMessage() for record in caplog.records if "no certificate" in record.getMessage()]
    assert len(said) == 1 and "COUNTS" in said[0]
