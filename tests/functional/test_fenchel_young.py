"""Facts about the α-softargmax and its Fenchel-Young loss:
definitions, special cases, limits, derivatives."""

import json
from pathlib import Path

import pytest
import torch

from alpha_sv.functional import alpha_divergence, alpha_softargmax, fenchel_young_loss, vertex_divergence
from alpha_sv.functional.divergence import generator, generator_conjugate, generator_derivative
from alpha_sv.functional.margins import PLACES, add_angle, margin_logits
from tests.batteries.losses import ALPHAS, bisect_threshold, plain_arcface, plain_cosface, random_cosines

REFERENCE = json.loads((Path(__file__).parent / "reference_values.json").read_text())
SPARSE = [alpha for alpha in ALPHAS if alpha > 1]


def random_problem(rows=6, classes=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=g, dtype=torch.float64)
    q = torch.rand(rows, classes, generator=g, dtype=torch.float64) + 0.05
    return logits, q, torch.randint(classes, (rows,), generator=g)


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: f"alpha={row['alpha']}")
@pytest.mark.parametrize("name, place", [("q_margin", "reference"), ("a3m", "angle")])
def test_agrees_with_fifty_digit_reference_values(row, name, place):
    cosines, target = torch.tensor(row["cosines"], dtype=torch.float64), torch.tensor(row["target"])
    logits, log_q = margin_logits(cosines, target, scale=row["scale"], margin=row["margin"], place=place)
    loss = fenchel_young_loss(logits, target, row["alpha"], log_q=log_q)
    p = alpha_softargmax(logits, row["alpha"], None if log_q is None else log_q.exp())
    assert loss.item() == pytest.approx(row[f"{name}_loss"], abs=1e-10)
    torch.testing.assert_close(p, torch.tensor(row[f"{name}_probs"], dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_posterior_equals_bisection_row_by_row(alpha):
    logits, q, _ = random_problem()
    p = alpha_softargmax(logits, alpha, q)
    for theta, weights, row in zip(logits.tolist(), q.tolist(), p.tolist(), strict=True):
        tau = bisect_threshold(theta, alpha, weights)
        for t, w, value in zip(theta, weights, row, strict=True):
            u = (
                2.718281828459045 ** (t - tau)
                if alpha - 1 < 1e-6
                else max(1 + (alpha - 1) * (t - tau), 0) ** (1 / (alpha - 1))
            )
            assert value == pytest.approx(w * u, abs=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_loss_is_its_variational_definition(alpha):
    logits, q, target = random_problem()
    p = alpha_softargmax(logits, alpha, q)
    value = (p * logits).sum(-1) - alpha_divergence(p, q, alpha) + vertex_divergence(target, q, alpha)
    value = value - logits.gather(-1, target[:, None]).squeeze(-1)
    # for α − 1 = 1e-9 the definition itself cancels: (u^α − 1 − α(u−1)) / 1e-9
    torch.testing.assert_close(fenchel_young_loss(logits, target, alpha, q), value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 1.25, 1.5, 2.0, 3.0])
def test_posterior_maximises_the_objective_over_the_simplex(alpha):
    logits, q, _ = random_problem()
    p = alpha_softargmax(logits, alpha, q)

    def objective(p):
        return (p * logits).sum(-1) - alpha_divergence(p, q, alpha)

    for seed in range(20):
        other = torch.distributions.Dirichlet(torch.full(logits.shape, 0.3, dtype=torch.float64))
        torch.manual_seed(seed)
        assert (objective(p) >= objective(0.9 * p + 0.1 * other.sample()) - 1e-12).all()


@pytest.mark.parametrize("alpha", [1.0, 1.25, 1.5, 2.0, 3.0])
def test_conjugate_and_generator_satisfy_fenchel_equality(alpha):
    u = torch.linspace(0.1, 3, 20, dtype=torch.float64)
    v = generator_derivative(u, alpha)
    torch.testing.assert_close(generator(u, alpha) + generator_conjugate(v, alpha), u * v)


def test_sparsemax_is_the_euclidean_projection():
    logits, _, _ = random_problem(rows=20)
    p = alpha_softargmax(logits, 2.0)
    # KKT of min ||p − θ||²: θ − p is a constant on the support and not larger elsewhere
    gap = torch.where(p > 0, logits - p, torch.nan)
    level = gap.nanmean(-1, keepdim=True)
    torch.testing.assert_close(torch.where(p > 0, gap, level), level.expand_as(p))
    assert (torch.where(p > 0, -torch.inf, logits - level) <= 1e-12).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_sum_to_one_and_entries_are_probabilities(alpha, dtype):
    logits = (5 * torch.randn(3, 4, 1000, dtype=torch.float64)).to(dtype)
    p = alpha_softargmax(logits, alpha)
    assert p.shape == logits.shape and p.dtype == dtype
    assert (p >= 0).all()
    torch.testing.assert_close(
        p.sum(-1), torch.ones(3, 4, dtype=dtype), rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-10
    )


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_hundred_thousand_classes_in_float32_match_float64(alpha):
    cosines, target = random_cosines(8, 100_000)
    scale = 5 / (alpha - 1)
    logits, log_q = margin_logits(cosines, target, scale=scale, margin=0.2, place="reference")
    exact = fenchel_young_loss(logits, target, alpha, log_q=log_q)
    single = fenchel_young_loss(logits.float(), target, alpha, log_q=log_q.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0])
def test_gradcheck_with_ties_impossible_classes_and_100000_classes(alpha):
    logits = torch.tensor([[0.4, 0.4, 0.1, 0.1, -torch.inf]], dtype=torch.float64)
    target = torch.tensor([1])
    finite = logits[:, :4].clone().requires_grad_()

    def loss(x):
        return fenchel_young_loss(torch.cat([x, logits[:, 4:]], -1), target, alpha)

    assert torch.autograd.gradcheck(loss, finite)
    wide = torch.full((1, 100_000), -3.0, dtype=torch.float64)
    few = torch.tensor([[0.3, 0.2, 0.25]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fenchel_young_loss(torch.cat([x, wide], -1), target, alpha), few)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_is_posterior_minus_vertex(alpha):
    logits, q, target = random_problem()
    logits.requires_grad_()
    fenchel_young_loss(logits, target, alpha, q).sum().backward()
    vertex = torch.nn.functional.one_hot(target, logits.shape[-1])
    torch.testing.assert_close(logits.grad, alpha_softargmax(logits.detach(), alpha, q) - vertex)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ties_share_and_impossible_classes_get_nothing(alpha):
    p = alpha_softargmax(torch.tensor([[1.0, 1.0, -torch.inf, 1.0]], dtype=torch.float64), alpha)
    torch.testing.assert_close(p, torch.tensor([[1 / 3, 1 / 3, 0, 1 / 3]], dtype=torch.float64))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_one_class_has_probability_one_and_no_loss(alpha):
    logits, q = torch.tensor([[-3.0], [7.0]]), torch.tensor([[0.1], [5.0]])
    torch.testing.assert_close(alpha_softargmax(logits, alpha, q), torch.ones(2, 1))
    loss = fenchel_young_loss(logits, torch.zeros(2, dtype=torch.long), alpha, q)
    torch.testing.assert_close(loss, torch.zeros(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", SPARSE)
def test_tends_to_softmax_continuously(alpha):
    logits, q, target = random_problem()
    near = fenchel_young_loss(logits, target, 1 + 1e-8 * alpha, q)
    limit = fenchel_young_loss(logits, target, 1.0, q)
    expected = torch.logsumexp(logits + q.log(), -1) - (logits + q.log()).gather(-1, target[:, None]).squeeze(-1)
    torch.testing.assert_close(limit, expected)
    torch.testing.assert_close(near, limit, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "place, plain", [("reference", plain_cosface), ("cosine", plain_cosface), ("angle", plain_arcface)]
)
def test_margins_at_alpha_one_are_cosface_and_arcface_in_value_and_gradient(place, plain):
    cosines, target = random_cosines(12, 30)
    ours, theirs = cosines.clone().requires_grad_(), cosines.clone().requires_grad_()
    logits, log_q = margin_logits(ours, target, scale=32.0, margin=0.2, place=place)
    loss = fenchel_young_loss(logits, target, 1.0, log_q=log_q)
    expected = plain(theirs, target, 32.0, 0.2)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward(), expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_angle_addition_is_arccos_inside_and_keeps_decreasing_beyond_pi():
    c = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    inside = c > -torch.tensor(0.5, dtype=torch.float64).cos()
    shifted = add_angle(c, 0.5)
    torch.testing.assert_close(shifted[inside], (c[inside].arccos() + 0.5).cos(), rtol=0, atol=1e-7)
    assert (shifted[~inside].diff() > 0).all(), "the logit must keep growing with the cosine beyond φ + m > π"
    assert shifted[~inside].max() <= shifted[inside].min() + 1e-9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("place", sorted(PLACES))
@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_finite_value_and_gradient_at_cosine_plus_minus_one(dtype, place, alpha):
    cosines = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]], dtype=dtype, requires_grad=True)
    target = torch.tensor([0, 0])
    logits, log_q = margin_logits(cosines, target, scale=10.0, margin=0.2, place=place)
    loss = fenchel_young_loss(logits, target, alpha, log_q=log_q)
    loss.sum().backward()
    assert loss.isfinite().all() and cosines.grad.isfinite().all()
    assert cosines.grad[1].abs().sum() > 0


@pytest.mark.parametrize("alpha", [1.0, 1.1, 1.5, 2.0])
def test_huge_margin_whose_measure_underflows_stays_finite(alpha):
    cosines, target = random_cosines(4, 10, dtype=torch.float32)
    margin = 150 / 10 if alpha < 1.5 else 70 / (10 * (alpha - 1))  # e^{-150} is 0 in float32; the loss ~ e^{(α−1)sm}
    logits, log_q = margin_logits(cosines.requires_grad_(), target, scale=10.0, margin=margin, place="reference")
    loss = fenchel_young_loss(logits, target, alpha, log_q=log_q)
    loss.sum().backward()
    exact = fenchel_young_loss(logits.detach().double(), target, alpha, log_q=log_q.double())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cosines.grad.gather(-1, target[:, None]), torch.full((4, 1), -10.0))


@pytest.mark.parametrize("alpha", [1.0, 1.01, 1.03, 1.5, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("mass", [1e-8, 1.0, 1e8])
def test_many_ties_and_large_or_small_measures_keep_mass_one(alpha, mass):
    """1 + (α−1)(θ−τ) is far below float32's resolution of 1 here; p once summed to 12 at α = 5."""
    tied = torch.zeros(2, 100_000)
    spread = torch.randn(2, 50)
    for logits in (tied, spread):
        p = alpha_softargmax(logits, alpha, torch.full(logits.shape[-1:], mass))
        torch.testing.assert_close(p.sum(-1), torch.ones(2), rtol=0, atol=1e-5)
        if logits is tied:
            torch.testing.assert_close(p, torch.full_like(p, 1e-5))


@pytest.mark.parametrize("alpha", [1.0, 1.25, 2.0])
def test_only_differences_of_logits_matter_at_any_magnitude(alpha):
    logits = torch.randn(4, 30, dtype=torch.float64).mul(256).round().div(256)  # so that adding 4096 is exact
    near, far = (alpha_softargmax((logits + shift).float(), alpha) for shift in (0, 4096))
    torch.testing.assert_close(near, far, rtol=1e-6, atol=1e-7)


def test_measure_beyond_float32_has_a_logarithm():
    q = torch.tensor([1e-60, 1.0, 1.0], dtype=torch.float64)
    loss = fenchel_young_loss(torch.zeros(1, 3), torch.tensor([0]), 1.25, q)
    exact = fenchel_young_loss(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0]), 1.25, q)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_bad_rows_give_nan_in_that_row_alone():
    logits = torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [torch.inf, 0.0], [-torch.inf, -torch.inf]])
    for alpha in (1.25, 2.0):
        p = alpha_softargmax(logits, alpha)
        assert p[0].isfinite().all() and p[1:].isnan().any(-1).all()


def test_caller_tensors_are_never_changed():
    logits, q, target = random_problem()
    copies = logits.clone(), q.clone(), target.clone()
    fenchel_young_loss(logits.requires_grad_(), target, 1.5, q).sum().backward()
    alpha_softargmax(logits.detach(), 1.5, q)
    for now, before in zip((logits.detach(), q, target), copies, strict=True):
        assert torch.equal(now, before)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alpha": 0.5}, "alpha must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"target": torch.tensor([0, 9])}, r"\[0, 3\), got values from 0 to 9"),
        ({"target": torch.tensor([-1, 0])}, "got values from -1"),
        ({"target": torch.tensor([0.0, 1.0])}, "integer dtype"),
        ({"target": torch.tensor([[0], [1]])}, "shape of logits"),
        ({"q": torch.tensor([1.0, 0.0, 1.0])}, "must be positive"),
        ({"q": torch.tensor([1.0, torch.inf, 1.0])}, "must be positive and finite"),
        ({"q": torch.ones(4)}, "does not broadcast"),
        ({"log_q": torch.zeros(3, 2, 3)}, "does not broadcast"),
        ({"logits": torch.zeros(2, 3, dtype=torch.int64)}, "floating point"),
        ({"logits": torch.zeros(2, 0)}, "at least one class"),
    ],
)
def test_bad_arguments_are_refused_with_the_value(change, message):
    arguments = {"logits": torch.zeros(2, 3), "target": torch.tensor([0, 1]), "alpha": 1.5} | change
    with pytest.raises(ValueError, match=message):
        fenchel_young_loss(**arguments)


def test_float32_solve_under_autocast():
    cosines, target = random_cosines(4, 50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fenchel_young_loss(10 * cosines, target, 1.5)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, fenchel_young_loss(10 * cosines, target, 1.5))
