"""The named losses as modules: live parameters,
SpeechBrain shapes, the published zero-loss conditions, sparsity."""

import math

import pytest
import torch
import torch.nn.functional as F

from alpha_sv.losses import (
    A3M,
    NAMED,
    AAMSoftmax,
    AMSoftmax,
    Entmax,
    MarginLoss,
    NormSoftmax,
    QMargin,
    Sparsemax,
)
from tests.batteries.losses import INSTANCES, plain_arcface, plain_cosface, random_cosines
from tests.fixtures.devices import LABELS, needs_a_real_gpu, needs_the_cpu

pytestmark = pytest.mark.usefixtures("device")
EVERY = pytest.mark.parametrize("make", INSTANCES.values(), ids=INSTANCES.keys())


def test_a_target_of_probability_zero_has_the_largest_gradient_and_one_of_zero_loss_none():
    """p − e_y is −1 at the target where p_y = 0:
    such a sample is not lost, it pulls harder than any other."""
    cosines = torch.tensor([[0.1, 0.9, 0.2], [0.6, 0.55, 0.1], [0.99, 0.0, 0.0]], requires_grad=True)
    loss = A3M(alpha=1.5, scale=10.0, margin=0.0)
    targets = torch.zeros(3, dtype=torch.int64)
    assert loss.sparsity(cosines, targets)["zero_target"] == pytest.approx(1 / 3)
    loss.per_example(cosines, targets).sum().backward()
    pull = cosines.grad[:, 0]
    assert pull[0] == -10 and -10 < pull[1] < 0 and pull[2] == 0


@EVERY
def test_accepts_speechbrain_shapes_and_agrees_over_them(make, device):
    cosines, target = (x.to(device) for x in random_cosines(6, 11, dtype=torch.float32))
    loss = make()
    flat = loss(cosines, target)
    assert flat.ndim == 0
    assert torch.equal(flat, loss(cosines.unsqueeze(1), target.unsqueeze(1), torch.ones(6, device=device)))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_at_aligned_and_opposed_embeddings(make, dtype, device):
    values = [[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5]]
    cosines = torch.tensor(values, dtype=dtype, device=device, requires_grad=True)
    loss = make()(cosines, torch.tensor([0, 0], device=device))
    loss.backward()
    assert loss.isfinite() and cosines.grad.isfinite().all()


@EVERY
def test_bad_batches_are_refused(make, device):
    cosines, target = random_cosines(4, 5, dtype=torch.float32)
    loss = make()
    with pytest.raises(ValueError, match="must be cosines"):
        loss(30 * cosines, target)
    with pytest.raises(ValueError, match="expected cosines"):
        loss(cosines[0], target)
    with pytest.raises(ValueError, match="empty"):
        loss(cosines[:0], target[:0])
    needs_the_cpu(device, LABELS)
    with pytest.raises(ValueError, match=r"\[0, 5\), got values from .* to 5"):
        loss(cosines, torch.full((4,), 5))


@EVERY
def test_cosines_that_stop_being_cosines_are_found_out_within_twenty_batches(make):
    """A plain nn.Linear passes at first, |x| ≤ 0.2, and then trains on logits of 20."""
    loss, target = make(), torch.tensor([0, 1])
    loss(torch.full((2, 3), 0.1, requires_grad=True), target)
    with pytest.raises(ValueError, match="must be cosines.* 20"):
        for _ in range(20):
            loss(torch.full((2, 3), 20.0, requires_grad=True), target)
    with torch.no_grad(), pytest.raises(ValueError, match="must be cosines"):  # in validation at once
        loss(torch.full((2, 3), 20.0), target)


@EVERY
def test_reductions_are_those_of_speechbrain(make):
    cosines, target = random_cosines(6, 11, dtype=torch.float32)
    each = make()(cosines, target, reduction="batch")
    assert each.shape == (6,)
    for reduction, expected in (("none", each), ("sum", each.sum()), ("mean", each.mean()), ("batchmean", each.mean())):
        torch.testing.assert_close(make()(cosines, target, torch.ones(6), reduction=reduction), expected)
    with pytest.raises(ValueError, match="reduction must be one of"):
        make()(cosines, target, reduction="median")


def test_speechbrain_collects_the_losses_of_utterances(device):
    needs_a_real_gpu(device)
    from speechbrain.utils.metric_stats import MetricStats

    cosines, target = random_cosines(3, 5, dtype=torch.float32)
    each = QMargin().per_example(cosines, target)
    by_constructor, by_call = MetricStats(QMargin(reduction="batch")), MetricStats(QMargin())
    by_constructor.append(["a", "b", "c"], cosines.unsqueeze(1), target.unsqueeze(1), torch.ones(3))
    by_call.append(["a", "b", "c"], cosines.unsqueeze(1), target.unsqueeze(1), torch.ones(3), reduction="batch")
    for stats in (by_constructor, by_call):
        assert stats.summarize("average") == pytest.approx(each.mean().item())
        assert stats.scores == pytest.approx(each.tolist())


@EVERY
def test_the_readable_implementation_gives_the_same_numbers(make, device):
    fast, plain = make(), make()
    plain.implementation = "plain"
    cosines, target = (x.to(device) for x in random_cosines(6, 300))
    grads = []
    for loss in (fast, plain):
        x = cosines.clone().requires_grad_()
        value = loss(x, target)
        value.backward()
        grads.append((value.detach(), x.grad))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    assert plain.monitor.figures == pytest.approx(fast.monitor.figures, nan_ok=True)


def test_options_reach_every_named_loss():
    for cls in NAMED.values():
        loss = cls(reduction="sum", implementation="plain")
        assert (loss.reduction, loss.implementation) == ("sum", "plain")
        with pytest.raises(TypeError, match="unexpected keyword"):
            cls(colour="red")


@EVERY
def test_nan_input_is_seen_in_the_loss(make):
    assert make()(torch.tensor([[0.1, torch.nan, 0.0]]), torch.tensor([0])).isnan()


def test_classical_rows_are_the_classical_losses():
    cosines, target = random_cosines(10, 20)
    for loss, expected in [
        (NormSoftmax(30), F.cross_entropy(30 * cosines, target)),
        (AMSoftmax(30, 0.3), plain_cosface(cosines, target, 30, 0.3).mean()),
        (AAMSoftmax(30, 0.3), plain_arcface(cosines, target, 30, 0.3).mean()),
        (QMargin(1.0, 30, 0.3), plain_cosface(cosines, target, 30, 0.3).mean()),
        (A3M(1.0, 30, 0.3), plain_arcface(cosines, target, 30, 0.3).mean()),
        (QMargin(1.5, 10, 0.0), Entmax(1.5, 10)(cosines, target)),
        (A3M(2.0, 5, 0.0), Sparsemax(5)(cosines, target)),
    ]:
        torch.testing.assert_close(loss(cosines, target), expected)


@pytest.mark.parametrize("name", ["AMSoftmax", "AAMSoftmax", "QMargin", "A3M"])
def test_margin_is_live_and_makes_the_loss_harder(name):
    """SpeechBrain's additive angular margin freezes cos m at construction:
    scheduling it does nothing there."""
    cosines, target = random_cosines(8, 20)
    loss = NAMED[name](margin=0.0)
    values = []
    for margin in (0.0, 0.1, 0.2, 0.4):
        loss.margin = margin
        values.append(loss(cosines, target).item())
        assert values[-1] == pytest.approx(NAMED[name](margin=margin)(cosines, target).item())
    assert values == sorted(values) and values[0] < values[-1]


def test_scale_auto_follows_kappa_and_alpha_lives():
    loss = QMargin(alpha=1.25, scale="auto")
    assert loss.scale == pytest.approx(20)
    loss.alpha = 2.0
    assert loss.scale == pytest.approx(5)
    loss.scale = 7
    loss.alpha = 1.5
    assert loss.scale == 7


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: QMargin(alpha=1.0, scale="auto"), "needs alpha > 1"),
        (lambda: QMargin(alpha=0.9), "alpha must be"),
        (lambda: QMargin(margin=-0.1), "margin must be"),
        (lambda: QMargin(margin=float("nan")), "margin must be"),
        (lambda: A3M(margin=1.6), "at most π/2"),
        (lambda: AMSoftmax(scale=0), "scale must be"),
        (lambda: MarginLoss(1.5, 10, 0.2, "elsewhere"), "place must be one of"),
        (lambda: QMargin(margin=20)(*random_cosines(2, 3)), "beyond float32"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
@pytest.mark.parametrize("name", ["QMargin", "A3M"])
def test_loss_vanishes_exactly_at_the_published_cosine_gap(name, alpha):
    """Zero iff c_y − max c_j ≥ e^{κm}/κ (Q-Margin),
    cos(φ_y+m) − max c_j ≥ 1/κ (A3M); κ = 5, m = 0.2."""
    kappa, margin, other = 5.0, 0.2, 0.1
    gap = math.exp(kappa * margin) / kappa if name == "QMargin" else 1 / kappa
    c_y = other + gap if name == "QMargin" else math.cos(math.acos(other + gap) - margin)
    for offset, zero in ((1e-6, True), (-1e-2, False)):
        cosines = torch.tensor([[c_y + offset, other, -0.3]], dtype=torch.float64)
        loss = NAMED[name](alpha=alpha, scale="auto", margin=margin)
        value, stats = loss(cosines, torch.tensor([0])).item(), loss.sparsity(cosines, torch.tensor([0]))
        assert (value < 1e-12) == zero
        assert stats["zero_loss"] == float(zero)


def test_sparsity_counts_what_it_says():
    cosines = torch.tensor([[0.95, 0.1, 0.0, -0.5], [0.7, 0.45, 0.44, -0.5], [-0.5, 0.9, 0.0, 0.0]])
    stats = A3M(alpha=2.0, scale=5.0, margin=0.2).sparsity(cosines, torch.tensor([0, 0, 0]))
    # row 0: alone with its target; row 1: three within 1/κ;
    # row 2: the target is far below the winner
    assert stats["zero_loss"] == pytest.approx(1 / 3)
    assert stats["zero_target"] == pytest.approx(1 / 3)
    assert stats["support"] == pytest.approx((1 + 3 + 1) / 3)
    dense = AAMSoftmax().sparsity(cosines, torch.tensor([0, 0, 0]))
    assert dense["support"] == 4 and dense["zero_loss"] == 0 and dense["zero_target"] == 0


@pytest.mark.parametrize("name", sorted(NAMED))
def test_yaml_line_builds_it(name):
    from hyperpyyaml import load_hyperpyyaml

    loss = load_hyperpyyaml(f"compute_cost: !new:alpha_sv.losses.{name}")["compute_cost"]
    assert type(loss) is NAMED[name]


def test_straight_through_arcface_has_the_value_of_arcface_and_the_gradient_of_a_shift():
    cosines, target = random_cosines(6, 11, dtype=torch.float64)
    cosines.requires_grad_()
    true, other = AAMSoftmax(64.0, 0.5), AAMSoftmax(64.0, 0.5, straight_through=True)
    torch.testing.assert_close(other(cosines, target), true(cosines, target))
    rows = torch.arange(len(target))
    exact, shifted = (torch.autograd.grad(loss(cosines, target), cosines)[0] for loss in (true, other))
    angle = cosines.detach()[rows, target].acos()
    slope = (angle + 0.5).sin() / angle.sin()
    torch.testing.assert_close(shifted[rows, target] * slope, exact[rows, target])
    exact[rows, target] = shifted[rows, target] = 0
    torch.testing.assert_close(shifted, exact)


@pytest.mark.parametrize("implementation", ["fast", "plain"])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_straight_through_at_every_order_is_one_gradient_in_both_implementations(alpha, implementation):
    """Its gradient is that of the loss of cosines whose target was moved as a constant."""
    cosines, target = random_cosines(6, 11, dtype=torch.float64)
    cosines.requires_grad_()
    loss = MarginLoss(alpha, 5.0, 0.3, "angle_straight_through", implementation=implementation)
    moved = torch.zeros_like(cosines).scatter(1, target.unsqueeze(1), 1.0) * (
        (cosines.detach().acos() + 0.3).cos() - cosines.detach()
    )
    (got,) = torch.autograd.grad(loss(cosines, target), cosines, create_graph=True)
    (expected,) = torch.autograd.grad(MarginLoss(alpha, 5.0)(cosines + moved, target), cosines, create_graph=True)
    torch.testing.assert_close(got, expected)
    (again,) = torch.autograd.grad(got.square().sum(), cosines)
    (expected,) = torch.autograd.grad(expected.square().sum(), cosines)
    torch.testing.assert_close(again, expected)


@pytest.mark.parametrize("make", [AAMSoftmax, QMargin, A3M])
def test_inter_top_k_is_the_loss_with_its_hardest_classes_nearer_by_an_angle(make):
    cosines, target = random_cosines(6, 11, dtype=torch.float64)
    raised = cosines.clone()
    for row, own in enumerate(target.tolist()):
        others = [j for j in range(11) if j != own]
        for j in sorted(others, key=lambda j: -cosines[row, j])[:3]:
            raised[row, j] = math.cos(math.acos(cosines[row, j]) - 0.06)
    loss = make(inter_top_k=3, inter_margin=0.06)
    torch.testing.assert_close(loss(cosines, target), make()(raised, target))
    assert loss.sparsity(cosines, target) == pytest.approx(make().sparsity(raised, target), rel=1e-5)
    assert torch.equal(make(inter_top_k=3, inter_margin=0.0)(cosines, target), make()(cosines, target))
    torch.testing.assert_close(make(inter_top_k=99)(cosines, target), make(inter_top_k=10)(cosines, target))


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_inter_top_k_is_right_in_its_derivatives(alpha):
    cosines, target = random_cosines(3, 7, dtype=torch.float64)
    loss = MarginLoss(alpha, 3.0, 0.1, "reference", inter_top_k=2, inter_margin=0.1)
    cosines.requires_grad_()
    assert torch.autograd.gradcheck(lambda c: loss.per_example(c, target), cosines)
    assert torch.autograd.gradgradcheck(lambda c: loss.per_example(c, target), cosines)


@pytest.mark.parametrize(
    "options",
    [*({"inter_top_k": k} for k in (-1, 5.0, 1.5, True, "5")), *({"inter_margin": m} for m in (2.0, -0.1, "x", True))],
)
def test_a_penalty_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="inter_"):
        QMargin(**options)
