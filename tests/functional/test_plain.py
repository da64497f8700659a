"""The fast loss is the plain one, in value and gradient,
on hard inputs of every kind; and what it keeps for later."""

import math

import pytest
import torch

from alpha_sv.functional import alpha_softargmax, fenchel_young_loss
from alpha_sv.functional.fenchel_young import margin_loss
from alpha_sv.functional.margins import PLACES, add_angle, add_angle_slope, margin_logits
from alpha_sv.functional.plain import plain_loss, plain_softargmax
from alpha_sv.losses import QMargin
from tests.batteries.losses import random_cosines
from tests.batteries.solvers import (
    CLASSES,
    ORDERS,
    assert_solved,
    counting,
    hard_logits,
    hard_measures,
    random_logits,
    targets_everywhere,
)

EVERY_ORDER = pytest.mark.parametrize("alpha", ORDERS)
EVERY_TYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@pytest.mark.parametrize("classes", CLASSES)
@EVERY_ORDER
def test_fast_equals_plain_on_every_hard_input_and_never_falls_back(alpha, classes):
    with counting() as count:
        x, y = hard_logits(classes, rows=3 if classes < 1000 else 2)
        assert_solved(lambda x: fenchel_young_loss(x, y, alpha), x, y, alpha)
        x, y, log_q = hard_measures(classes, rows=3 if classes < 1000 else 2)
        if alpha > 2:  # a loss of e^{105} has no float32
            log_q = log_q.clamp(min=-20)
        assert_solved(lambda x: fenchel_young_loss(x, y, alpha, log_q=log_q), x, y, alpha, log_q)
    assert count.solves == 4 and count.fallbacks == 0


@pytest.mark.parametrize("classes", [5, 300])
@EVERY_ORDER
def test_fast_equals_plain_on_every_device(alpha, classes, device):
    x, y = (tensor.to(device) for tensor in hard_logits(classes, rows=1))
    assert_solved(lambda x: fenchel_young_loss(x, y, alpha), x, y, alpha)
    x, y, log_q = (tensor.to(device) for tensor in hard_measures(classes, rows=1))
    log_q = log_q.clamp(min=-20)
    assert_solved(lambda x: fenchel_young_loss(x, y, alpha, log_q=log_q), x, y, alpha, log_q)
    torch.testing.assert_close(alpha_softargmax(x, alpha), plain_softargmax(x, alpha), rtol=0, atol=1e-12)


def test_a_climb_of_more_than_eight_steps_ends_on_a_gpu_too(device):
    """The second look at the sums once met a Python float among tensors:
    24 of 288 float64 batches died."""
    zeros = torch.zeros(1, 300, dtype=torch.float64, device=device)
    torch.testing.assert_close(alpha_softargmax(zeros, 2.0), zeros + 1 / 300, rtol=0, atol=1e-15)
    for alpha in (1.05, 1.25, 1.5, 2.0):
        for seed in range(6):
            logits = random_logits(4, 300, seed, spread=10.0 ** (seed - 3)).to(device)
            torch.testing.assert_close(
                alpha_softargmax(logits, alpha), plain_softargmax(logits, alpha), atol=1e-12, rtol=0
            )


@pytest.mark.parametrize("alpha", [1.0, 1.001, 1.5, 3.0])
@pytest.mark.parametrize("implementation", ["fast", "plain"])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (0, 300)])
def test_an_empty_batch_has_empty_results_and_gradients(alpha, implementation, shape):
    logits = torch.randn(shape, requires_grad=True)
    target, q = torch.zeros(shape[:-1], dtype=torch.long), torch.ones(shape[-1])
    p = alpha_softargmax(logits, alpha, implementation=implementation)
    losses = [fenchel_young_loss(logits, target, alpha, m, implementation=implementation) for m in (None, q)]
    (p.sum() + losses[0].sum() + losses[1].sum()).backward()
    assert p.shape == shape and logits.grad.shape == shape and all(loss.shape == shape[:-1] for loss in losses)


@EVERY_TYPE
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("margin, scale", [(0.2, 64.0), pytest.param(0.0, 5.0, marks=pytest.mark.slow), (1.5, 5.0)])
@EVERY_ORDER
def test_margin_loss_equals_the_plain_loss_of_margin_logits(alpha, margin, scale, place, dtype):
    for classes in (65, 300):
        cosines = random_cosines(5, classes)[0].float().double()
        target = targets_everywhere(5, classes)
        cosines[torch.arange(3), target[:3]] = 0.875  # before the margin it is the winner

        def fast(x, target=target):
            return margin_loss(x, target, alpha=alpha, scale=scale, margin=margin, place=place)

        fast_x, plain_x = cosines.to(dtype, copy=True).requires_grad_(), cosines.clone().requires_grad_()
        logits, log_q = margin_logits(plain_x, target, scale=scale, margin=margin, place=place)
        with counting() as count:
            value, expected = fast(fast_x), plain_loss(logits, target, alpha, log_q)
        assert count.fallbacks == 0
        value.sum().backward(), expected.sum().backward()
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        size = 1 + math.exp((alpha - 1) * scale * margin * (place == "reference"))
        torch.testing.assert_close(value.double(), expected, rtol=tolerance, atol=tolerance * size)
        torch.testing.assert_close(fast_x.grad.double(), plain_x.grad, rtol=tolerance, atol=scale * tolerance)


@pytest.mark.parametrize("place", [place for place in PLACES if "straight_through" not in place])  # no derivative
@pytest.mark.parametrize("alpha, classes", [(1.25, 5), (1.5, 5), (2.0, 5), (2.5, 5), (1.5, 257)])
def test_gradcheck_of_margin_loss_at_every_place(alpha, classes, place):
    cosines, target = random_cosines(3 if classes < 100 else 1, classes, seed=2)
    few = cosines[:, -5:].clone().requires_grad_()
    target = classes - 5 + target % 5

    def loss(x):
        return margin_loss(torch.cat([cosines[:, :-5], x], 1), target, alpha=alpha, scale=4.0, margin=0.3, place=place)

    assert torch.autograd.gradcheck(loss, few)


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0, math.pi / 2])
def test_slope_of_the_angular_margin_is_its_derivative(margin):
    ends = torch.tensor([-1.2, 1.2, -math.cos(margin) + 1e-9], dtype=torch.float64)
    c = torch.cat([ends, torch.linspace(-1, 1, 102, dtype=torch.float64)[1:-1]]).requires_grad_()
    (expected,) = torch.autograd.grad(add_angle(c, margin).sum(), c)
    torch.testing.assert_close(add_angle_slope(c.detach(), margin), expected, rtol=1e-12, atol=1e-12)
    # at ±1, where sin φ counts as a constant 0;
    # autograd calls the derivative of clamp there 0 or 1, as its version is
    opposed_and_aligned = add_angle_slope(torch.tensor([-1.0, 1.0]), margin)
    torch.testing.assert_close(opposed_and_aligned, torch.tensor([1.0, math.cos(margin)]))


@EVERY_ORDER
@pytest.mark.parametrize("classes", [50, 300])
def test_winner_alone_against_impossible_classes(alpha, classes):
    """All logits but one are −inf; the target may be among them,
    and then the loss is infinite, its gradient not."""
    logits = torch.full((3, classes), -math.inf, dtype=torch.float64)
    logits[:, classes // 2] = 1.0
    target = torch.tensor([classes // 2, classes - 1, classes // 2 + 1])
    assert_solved(lambda x: fenchel_young_loss(x, target, alpha), logits, target, alpha)
    assert fenchel_young_loss(logits, target, alpha).tolist() == [0.0, math.inf, math.inf]


@pytest.mark.parametrize("alpha", [1.5, 2.0, 2.5])
def test_measure_whose_power_underflows_leaves_the_row_finite(alpha):
    """q^{α−1} = 0 for a class above the threshold once made b = 0/0 and the loss NaN."""
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 1.0]], dtype=torch.float64)
    log_q, target = torch.tensor([[-250.0, 0.0, 0.0], [0.0, -1600.0, 0.0]]).double(), torch.tensor([1, 2])
    assert_solved(lambda x: fenchel_young_loss(x, target, alpha, log_q=log_q), logits, target, alpha, log_q)


@pytest.mark.parametrize("classes", [100, 300, 2000])
def test_level_far_from_zero_leaves_no_active_class_out(classes):
    """At 65536 float32 knows sixteenths of a nat only:
    a level rounded up once lost classes with p of 2e-3."""
    logits = 65536 + (2 * random_logits(200, classes)).mul(128).round().div(128)
    with counting() as count:
        p = alpha_softargmax(logits.float(), 2.0)
    torch.testing.assert_close(p.double(), plain_softargmax(logits, 2.0), rtol=0, atol=1e-6)
    assert count.fallbacks == 0


@EVERY_ORDER
def test_leading_dimensions_layouts_and_expanded_inputs_do_not_matter(alpha):
    for classes in (50, 300):
        x = random_logits(12, classes).view(3, 4, classes)
        target, q = torch.arange(12).view(3, 4), torch.rand(classes).double() + 0.5
        rows = plain_loss(x.view(12, -1), target.view(-1), alpha, q.log())
        layouts = [x, x.permute(2, 1, 0).contiguous().permute(2, 1, 0), torch.stack([x, x], -1)[..., 0]]
        for layout in layouts:
            assert torch.equal(layout, x)
            for weights in (q, q.expand(3, 4, classes), torch.stack([q] * 12, 1).T.view(3, 4, -1)):
                value = fenchel_young_loss(layout, target, alpha, weights)
                torch.testing.assert_close(value, rows.view(3, 4), rtol=1e-12, atol=1e-12)
        transposed = x.view(12, classes).T.contiguous().T
        for weights in (None, q, torch.rand(12, 1).double() + 0.5):
            expected = plain_softargmax(x.view(12, -1), alpha, None if weights is None else weights.log())
            torch.testing.assert_close(alpha_softargmax(transposed, alpha, weights), expected, rtol=0, atol=1e-12)
        one = x[:1, :1].expand(3, 4, classes)
        expected = fenchel_young_loss(x[0, 0], target[1, 1], alpha)
        assert torch.equal(fenchel_young_loss(one, target, alpha)[1, 1], expected)


@EVERY_TYPE
@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("classes", [40, 300])
def test_nobody_elses_tensor_changes_and_backward_runs_twice(alpha, classes, dtype):
    """float64 is the dangerous one: `.to` does not copy there,
    and α = 2 has d and d^β in one tensor."""
    x, target = random_logits(4, classes).to(dtype), targets_everywhere(4, classes)
    log_q, grad = -random_logits(4, classes, 1).abs().to(dtype), torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=dtype)
    cosines = random_cosines(4, classes)[0].to(dtype)
    given = (x, target, log_q, grad, cosines)
    copies = [tensor.clone() for tensor in given]
    calls = [
        (x, lambda x: fenchel_young_loss(x, target, alpha)),
        (x, lambda x: fenchel_young_loss(x, target, alpha, log_q=log_q)),
        *(
            (cosines, lambda c, place=place: margin_loss(c, target, alpha=alpha, scale=5.0, margin=0.2, place=place))
            for place in PLACES
        ),
        (x, lambda x: (alpha_softargmax(x, alpha, log_q.exp()) * x.detach().sin()).sum(1)),
    ]
    for leaf, call in calls:
        leaf = leaf.detach().requires_grad_()
        value = call(leaf)
        first, second = (torch.autograd.grad(value, leaf, grad, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, second) and first.abs().sum() > 0
    assert all(torch.equal(now, before) for now, before in zip(given, copies, strict=True))


@EVERY_ORDER
@pytest.mark.parametrize("classes", [30, 300])
def test_bad_rows_poison_only_themselves_and_count_one_fallback(alpha, classes):
    good, target = random_logits(6, classes).float(), targets_everywhere(6, classes)
    bad = good.clone()
    bad[1, 3], bad[3, 5], bad[4] = math.nan, math.inf, -math.inf
    fine = torch.tensor([0, 2, 5])
    values = {}
    for name, logits in (("good", good), ("bad", bad)):
        leaf = logits.clone().requires_grad_()
        with counting() as count:
            value = fenchel_young_loss(leaf, target, alpha)
        assert count.fallbacks == (name == "bad")
        value.sum().backward()
        values[name] = value.detach(), leaf.grad
    assert values["bad"][0][[1, 3, 4]].isnan().all() and values["bad"][1][[1, 3, 4]].isnan().any(1).all()
    for ours, theirs in zip(values["bad"], values["good"], strict=True):
        torch.testing.assert_close(ours[fine], theirs[fine], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@EVERY_ORDER
def test_half_precision_inputs_are_solved_in_float32(alpha, dtype):
    x, target = random_logits(5, 300, spread=2).to(dtype).requires_grad_(), targets_everywhere(5, 300)
    value = fenchel_young_loss(x, target, alpha)
    value.sum().backward()
    exact = x.detach().double().requires_grad_()
    expected = plain_loss(exact, target, alpha)
    expected.sum().backward()
    assert value.dtype == torch.float32 and x.grad.dtype == dtype
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0])
def test_nothing_dense_is_kept_for_the_backward_pass(alpha):
    """entmax keeps p of all classes; the softmax does too."""
    cosines, target = random_cosines(16, 5000, dtype=torch.float32)
    cosines.requires_grad_()
    q = torch.ones(5000)
    for call in (
        lambda: fenchel_young_loss(10 * cosines, target, alpha),
        lambda: fenchel_young_loss(10 * cosines, target, alpha, q),
        lambda: alpha_softargmax(10 * cosines, alpha),
        lambda: QMargin(alpha, "auto")(cosines, target),
    ):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, k=kept: k.append(x.numel()) or x, lambda x: x):
            call().sum().backward()
        assert 0 < sum(kept) < cosines.numel() / 4


def test_loss_works_under_compile_and_autocast():
    loss, (cosines, target) = QMargin(1.5), random_cosines(8, 300, dtype=torch.float32)

    def step(x):
        return 2 * loss(x * 1.0, target)

    results = []
    for run in (step, torch.compile(step, backend="eager"), torch.autocast("cpu", torch.bfloat16)(step)):
        x = cosines.clone().requires_grad_()
        value = run(x)
        value.backward()
        results.append((value, x.grad))
    for value, grad in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(grad, results[0][1])
