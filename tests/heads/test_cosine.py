import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alpha_sv.functional import alpha_softargmax, fenchel_young_loss
from alpha_sv.heads import CosineHead, SparseHead, SubCenterHead
from alpha_sv.losses import AAMSoftmax, QMargin
from tests.fixtures.devices import LABELS, needs_a_real_gpu, needs_the_cpu


def test_head_is_loss_of_cosines_and_trains_both_sides(device):
    head = CosineHead(8, 5, QMargin()).to(device)
    x, y = torch.randn(3, 8, device=device, requires_grad=True), torch.tensor([0, 4, 2], device=device)
    cosines = F.normalize(x) @ F.normalize(head.weight).T
    loss = head(x, y)
    torch.testing.assert_close(loss, QMargin()(cosines, y))
    assert torch.equal(loss, head(x.unsqueeze(1), y.unsqueeze(1)))
    loss.backward()
    assert x.grad.abs().sum() > 0 and head.weight.grad.abs().sum() > 0


def test_cosines_keep_float32_under_autocast(device):
    """bfloat16 cosines put 0.12 of rounding in a logit
    at s = 30 (the peers compute them under autocast)."""
    needs_a_real_gpu(device)
    head, x = CosineHead(64, 10, AAMSoftmax(30)), torch.randn(4, 64)
    with torch.autocast(device, dtype=torch.bfloat16):
        plain = F.linear(F.normalize(x), F.normalize(head.weight))
        inside = head.cosines(x)
    assert plain.dtype == torch.bfloat16, "else this test shows nothing"
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, head.cosines(x), rtol=0, atol=1e-6)


def test_sizes_are_checked(device):
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        CosineHead(8, 0)
    needs_the_cpu(device, LABELS)
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        CosineHead(8, 5)(torch.randn(2, 8), torch.tensor([0, 5]))


@pytest.mark.parametrize("kind", [CosineHead, SparseHead])
@pytest.mark.parametrize("length", [0.0, 1e-30])
def test_an_embedding_or_prototype_without_direction_has_no_gradient(kind, length):
    """Divided by the 1e-12 that kept its cosine finite, the gradient was 5e12."""
    head = kind(8, 5)
    head.weight.data[3] *= length
    embeddings = torch.randn(4, 8)
    embeddings[1] *= length
    embeddings.requires_grad_()
    loss = head(embeddings, torch.tensor([0, 1, 2, 3]))
    loss.backward()
    weight = head.weight.grad.to_dense()
    assert loss.isfinite() and not embeddings.grad[1].any() and not weight[3].any()
    assert embeddings.grad[[0, 2, 3]].any(1).all() and weight.isfinite().all() and weight.abs().max() < 1e3


def test_a_zero_embedding_has_a_second_derivative_of_zero():
    embeddings, head = torch.zeros(1, 4, requires_grad=True), CosineHead(4, 3)
    (first,) = torch.autograd.grad(head(embeddings, torch.tensor([0])), embeddings, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), head.weight)
    assert not first.any() and not second.any()


@pytest.mark.parametrize("kind", [CosineHead, SparseHead])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_an_empty_batch_has_no_mean_but_a_sum_and_rows(kind, alpha):
    empty, labels = torch.zeros(0, 8, requires_grad=True), torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="batch is empty.*drop"):
        kind(8, 5, QMargin(alpha))(empty, labels)
    for reduction, shape in (("none", (0,)), ("sum", ())):
        value = kind(8, 5, QMargin(alpha, reduction=reduction))(empty, labels)
        value.sum().backward()
        assert value.shape == shape and value.sum() == 0 and empty.grad.shape == (0, 8)


@pytest.mark.parametrize("kind", [CosineHead, SparseHead])
def test_arguments_of_other_toolkits_and_wrong_ones(kind):
    head, x, y = kind(8, 5), torch.randn(3, 8), torch.tensor([0, 1, 2])
    assert head(x, y, None) == head(x, y, torch.ones(3)) == head(x, y)  # pytorch-metric-learning, SpeechBrain
    with pytest.raises(ValueError, match="miner"):
        head(x, y, (y, y, y))
    with pytest.raises(ValueError, match=r"embeddings \[N, 8\].*got \(3, 7\)"):
        head(x[:, :7], y)
    for loss in (QMargin, functools.partial(QMargin, alpha=1.5)):
        with pytest.raises(ValueError, match="!new:.*!name:"):
            kind(8, 5, loss)
    per_example = kind(8, 5, QMargin(reduction="none"))(x, y)
    assert per_example.shape == (3,)


@pytest.mark.parametrize(
    "make", [lambda: CosineHead(8, 300), lambda: SparseHead(8, 300), lambda: SparseHead(8, 300, AAMSoftmax())]
)
def test_compiled_model_with_a_head_gives_the_same_numbers(make):
    """The default compiler did not come to an end with SparseHead."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedder, self.head = torch.nn.Linear(6, 8), make()

        def forward(self, x, y):
            return self.head(torch.tanh(self.embedder(x)), y)

    model, x, y = Model(), torch.randn(4, 6), torch.tensor([0, 299, 7, 7])
    found = []
    for run in (model, torch.compile(model, backend="eager")):
        model.zero_grad()
        loss = run(x, y)
        loss.backward()
        found.append((loss.detach(), model.embedder.weight.grad, model.head.weight.grad.to_dense()))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_one_sub_center_is_the_cosine_head_and_of_several_the_nearest_counts():
    embeddings, targets = torch.randn(5, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 0])
    one, dense, three = SubCenterHead(8, 3, sub_centers=1), CosineHead(8, 3), SubCenterHead(8, 3, sub_centers=3)
    dense.load_state_dict(one.state_dict())
    assert torch.equal(one(embeddings, targets), dense(embeddings, targets))
    centers = F.normalize(three.weight.double()).view(3, 3, 8)  # [K, C, D]
    by_hand = torch.stack([(F.normalize(embeddings) @ part.T) for part in centers]).max(0).values
    torch.testing.assert_close(three.cosines(embeddings).double(), by_hand, rtol=0, atol=1e-6)
    three(embeddings, targets).backward()
    assert ((three.weight.grad.view(3, 3, 8) != 0).any(2).sum(0) >= 1).all()
    with pytest.raises(ValueError, match="sub_centers"):
        SubCenterHead(8, 3, sub_centers=0)


def test_a_head_without_all_cosines_refuses_the_penalty_that_needs_them():
    head = SparseHead(8, 5, QMargin(inter_top_k=2))
    with pytest.raises(ValueError, match="inter-top-K.*CosineHead"):
        head(torch.randn(2, 8), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: alpha_softargmax(x, 1.5),
        lambda x: fenchel_young_loss(x, torch.tensor([0, 1]), 1.5),
        lambda x: QMargin()(x, torch.tensor([0, 1])),
        lambda x: CosineHead(3, 3)(x, torch.tensor([0, 1])),
        lambda x: SparseHead(3, 3)(x, torch.tensor([0, 1])),
    ],
    ids=["alpha_softargmax", "fenchel_young_loss", "QMargin", "CosineHead", "SparseHead"],
)
@pytest.mark.parametrize("kind", [lambda rows: rows, np.array], ids=["list", "array"])
def test_what_is_no_tensor_is_refused_by_its_type(call, kind):
    with pytest.raises(ValueError, match="got (list|ndarray).*torch.as_tensor"):
        call(kind([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]))
