"""Derivatives of every order, by autograd and by torch.func:
of the posterior, and of the loss with a margin too."""

import functools

import pytest
import torch
from torch.autograd.functional import hessian

from alpha_sv.functional import alpha_softargmax, fenchel_young_loss
from alpha_sv.functional.fenchel_young import margin_loss
from alpha_sv.functional.margins import PLACES
from alpha_sv.heads import CosineHead
from alpha_sv.losses import A3M, AAMSoftmax, QMargin
from tests.fixtures.devices import needs_a_real_gpu

# along random directions; the Hessian is compared entry by entry with its formula
gradcheck = functools.partial(torch.autograd.gradcheck, fast_mode=True)
gradgradcheck = functools.partial(torch.autograd.gradgradcheck, fast_mode=True)
ORDERS = [1.0, 1 + 1e-5, 1.01, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0]
EVERY_ORDER = pytest.mark.parametrize("alpha", ORDERS)
EITHER = pytest.mark.parametrize("implementation", ["fast", "plain"])

# the last row has a tie, and a class that is far below;
# the first has its target beyond the threshold
LOGITS = [[0.3, 1.2, -0.4, -9.0, 0.9], [0.8, 0.7, -0.9, 0.1, 0.2], [0.5, 0.5, -4.0, 0.2, 0.5]]
TARGETS, Q = [3, 0, 1], [[1.0, 0.4, 2.0, 0.7, 1.0]]


def given():
    return tuple(torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (LOGITS, Q))


def targets():
    """Made in a test, so that they are on its device."""
    return torch.tensor(TARGETS)


def jacobian_of_the_posterior(p, q, alpha):
    """diag(s) − s sᵀ / Σs,  s_j = q_j^{α−1} p_j^{2−α} on the support."""
    s = torch.where(p > 0, q ** (alpha - 1) * p.clamp(min=1e-300) ** (2 - alpha), 0)
    return torch.diag_embed(s) - s.unsqueeze(-1) * s.unsqueeze(-2) / s.sum(-1)[..., None, None]


@EITHER
@EVERY_ORDER
def test_hessian_of_the_loss_and_jacobian_of_the_posterior_are_the_formula(alpha, implementation):
    """All zeros once, for every alpha above 1."""
    logits, q = (x.detach() for x in given())
    expected = jacobian_of_the_posterior(alpha_softargmax(logits, alpha, q), q, alpha)
    for row in range(3):

        def loss(x, row=row):
            return fenchel_young_loss(x, targets()[row], alpha, q[0], implementation=implementation)

        def posterior(x):
            return alpha_softargmax(x, alpha, q[0], implementation=implementation)

        found = hessian(loss, logits[row]), torch.autograd.functional.jacobian(posterior, logits[row])
        for ours in found:
            torch.testing.assert_close(ours, expected[row], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "alpha, implementation", [*((alpha, "fast") for alpha in ORDERS), (1.01, "plain"), (1.5, "plain"), (2.5, "plain")]
)
@pytest.mark.parametrize("with_q", [False, True])
def test_first_and_second_derivatives_are_those_of_finite_differences(alpha, implementation, with_q):
    arguments = given()[: 1 + with_q]

    def loss(x, q=None):
        return fenchel_young_loss(x, targets(), alpha, q, implementation=implementation)

    def posterior(x, q=None):
        return alpha_softargmax(x, alpha, q, implementation=implementation)

    for function in (loss, posterior):
        assert gradcheck(function, arguments) and gradgradcheck(function, arguments)


@EVERY_ORDER
@pytest.mark.parametrize("place", [place for place in PLACES if "straight_through" not in place])  # no derivative
@pytest.mark.parametrize("classes", [5, 257])
def test_second_derivatives_with_a_margin_at_every_place(alpha, place, classes):
    few = torch.tensor([[0.5, 0.3, -0.2, -0.6], [0.1, 0.4, 0.2, -0.9]], dtype=torch.float64, requires_grad=True)
    rest, target = torch.full((2, classes - 4), -0.8, dtype=torch.float64), torch.tensor([0, 3])

    def loss(x):
        how = {"alpha": alpha, "scale": 4.0, "margin": 0.3, "place": place}
        return margin_loss(torch.cat([x, rest], 1), target, **how)

    assert gradgradcheck(loss, few)


@pytest.mark.parametrize("loss", [QMargin(), A3M(2.0, 5.0), AAMSoftmax(8.0), QMargin(2.5, "auto")], ids=repr)
def test_second_derivatives_through_the_dense_head(loss):
    head, target = CosineHead(4, 6, loss).double(), torch.tensor([0, 5])
    embeddings = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def of_both(embeddings, weight):
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, target))

    assert gradcheck(of_both, (embeddings, head.weight)) and gradgradcheck(of_both, (embeddings, head.weight))


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_third_derivatives_too(alpha):
    logits, q = given()

    def slope(x, q):
        return torch.autograd.grad(fenchel_young_loss(x, targets(), alpha, q).square().sum(), x, create_graph=True)[0]

    assert gradgradcheck(slope, (logits, q))


@pytest.mark.parametrize("alpha", [1.0, 1.25, 2.0, 3.0])
def test_every_transform_of_torch_func_gives_what_autograd_gives(alpha, device):
    needs_a_real_gpu(device)  # torch.func wraps what it transforms, and PyTorch does not find the pretence inside
    logits, q = (x.detach() for x in given())

    def loss(x, y, q):
        return fenchel_young_loss(x, y, alpha, q)

    per_row = torch.stack([hessian(lambda x, y=y: loss(x, y, q[0]), x) for x, y in zip(logits, targets(), strict=True)])
    over_rows = torch.func.vmap(torch.func.hessian(loss), in_dims=(0, 0, None))(logits, targets(), q[0])
    torch.testing.assert_close(over_rows, per_row)
    torch.testing.assert_close(torch.func.vmap(loss)(logits, targets(), q.expand(3, 5)), loss(logits, targets(), q))
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        jacobian = transform(lambda x: alpha_softargmax(x, alpha, q[0]))(logits[0])
        torch.testing.assert_close(jacobian, per_row[0])
    pushed = torch.func.jvp(lambda x, q: loss(x, targets(), q), (logits, q), (logits.sin(), q.sin()))[1]
    x, m = logits.requires_grad_(), q.requires_grad_()
    by_x, by_q = torch.autograd.grad(loss(x, targets(), m.expand(3, 5)).sum(), (x, m))
    torch.testing.assert_close(pushed.sum(), (by_x * x.sin()).sum() + (by_q * m.sin()).sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits.detach(), logits.detach().sin())
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual, targets(), q.detach())).tangent
    torch.testing.assert_close(tangent.sum(), (by_x * x.sin()).sum())


def test_per_sample_gradients_of_a_head_by_vmap(device):
    needs_a_real_gpu(device)
    head, embeddings, target = CosineHead(4, 6), torch.randn(3, 4), torch.tensor([0, 5, 2])

    def of_one(weight, x, y):
        return torch.func.functional_call(head, {"weight": weight}, (x[None], y[None]))

    weight = head.weight.detach()
    found = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))(weight, embeddings, target)
    for row in range(3):
        head.zero_grad()
        head(embeddings[row : row + 1], target[row : row + 1]).backward()
        torch.testing.assert_close(found[row], head.weight.grad, rtol=1e-4, atol=1e-5)
