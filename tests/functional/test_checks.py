"""What is refused before any solve, and what the message says to do."""

import functools

import pytest
import torch

from alpha_sv.functional import alpha_divergence, alpha_softargmax, divergence, fenchel_young_loss
from alpha_sv.losses import A3M, AMSoftmax, QMargin


@pytest.mark.parametrize("value", [torch.tensor(1.5), torch.randn(4, 3), QMargin, functools.partial(QMargin), True])
@pytest.mark.parametrize(
    "use",
    [
        lambda v: QMargin(alpha=v),
        lambda v: A3M(margin=v),
        lambda v: AMSoftmax(scale=v),
        lambda v: setattr(QMargin(), "alpha", v),
        lambda v: setattr(QMargin(), "margin", v),
        lambda v: alpha_softargmax(torch.zeros(3), v),
        lambda v: fenchel_young_loss(torch.zeros(1, 3), torch.tensor([0]), v),
    ],
)
def test_a_tensor_or_a_class_for_a_number_points_at_new(use, value):
    """`!name:` in a recipe makes a partial of the class, and the outputs become its alpha."""
    with pytest.raises(ValueError, match="must be a number.*!new:.*!name:"):
        use(value)


def test_a_recipe_with_name_instead_of_new_is_told():
    from hyperpyyaml import load_hyperpyyaml

    compute_cost = load_hyperpyyaml("compute_cost: !name:alpha_sv.losses.QMargin")["compute_cost"]
    with pytest.raises(ValueError, match="!new:alpha_sv.losses.QMargin"):
        compute_cost(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "name",
    [
        "losses.QMargin {alpha: 1.5}",
        "losses.AMSoftmax {margin: .3}",
        "heads.CosineHead",
        "heads.SparseHead {loss: null}",
    ],
)
def test_so_is_one_with_arguments_or_of_a_head(name):
    from hyperpyyaml import load_hyperpyyaml

    what, _, rest = name.partition(" ")
    compute_cost = load_hyperpyyaml(f"compute_cost: !name:alpha_sv.{what}\n  {rest.strip('{}')}")["compute_cost"]
    with pytest.raises(ValueError, match="!new:.*!name:"):
        compute_cost(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_numbers_as_yaml_writes_them_are_numbers():
    assert QMargin(alpha="1.25", scale="1e1").scale == 10.0
    with pytest.raises(ValueError, match="alpha must be a number, got 'large'"):
        QMargin(alpha="large")
    with pytest.raises(ValueError, match="alpha must be a number, got None"):
        QMargin(alpha=None)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: alpha_softargmax(torch.zeros(3), 1.5, implementation="slow"), "implementation must be one of"),
        (lambda: QMargin(implementation="slow"), "implementation must be one of"),
        (lambda: QMargin(reduction="avg"), "reduction must be one of"),
        (lambda: fenchel_young_loss(torch.zeros(1, 3), [0], 1.5), "target must be a tensor"),
        (lambda: alpha_softargmax(torch.zeros(1, 3), 1.5, 0.5), "q must be a tensor"),
        (lambda: fenchel_young_loss(torch.zeros(1, 3), torch.tensor([0]), 1.5, log_q=1.0), "log_q must be a tensor"),
    ],
)
def test_other_words_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_divergence_is_a_module_and_the_call_of_old_still_works():
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.5, 0.5])
    assert divergence.alpha_divergence is alpha_divergence and divergence.__name__.endswith("functional.divergence")
    with pytest.warns(FutureWarning, match="alpha_divergence"):
        assert torch.equal(divergence(p, q, 1.5), alpha_divergence(p, q, 1.5))
