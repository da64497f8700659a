"""The diagnosis: the shares are those of the closed conditions,
and its remedies do what they say."""

import math

import pytest
import torch

from alpha_sv.diagnosis import GOOD_PAIRS, at_margin, diagnose, gaps, kappa_for, margin_for, regime
from alpha_sv.functional.plain import plain_softargmax
from alpha_sv.losses import A3M, AAMSoftmax, AMSoftmax, Entmax, QMargin


def cosines_of(noise, speakers=12, each=40, dim=16, seed=0):
    """Samples around prototypes at random:
    with little noise every sample is far from the other prototypes."""
    rng = torch.Generator().manual_seed(seed)
    prototypes = torch.nn.functional.normalize(torch.randn(speakers, dim, generator=rng), dim=1)
    targets = torch.arange(speakers).repeat_interleave(each)
    samples = prototypes[targets] + noise * torch.randn(len(targets), dim, generator=rng)
    return torch.nn.functional.normalize(samples, dim=1) @ prototypes.T, targets


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("scale", "alpha"), [*GOOD_PAIRS, (8.0, 1.5), (30.0, 1.1)])
def test_zero_loss_is_the_gap_beyond_the_closed_threshold(scale, alpha, margin):
    cosines, targets = cosines_of(0.25)
    own, other = gaps(cosines, targets)
    kappa = scale * (alpha - 1)
    q = (own - other >= math.exp(kappa * margin) / kappa).double().mean().item()
    a = ((own.acos() + margin).cos() - other >= 1 / kappa).double().mean().item()
    assert regime(QMargin(alpha, scale, margin), cosines, targets).zero_loss == pytest.approx(q, abs=1e-9)
    assert regime(A3M(alpha, scale, margin), cosines, targets).zero_loss == pytest.approx(a, abs=1e-9)


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.6])
def test_pairs_of_one_kappa_have_one_share_without_loss(noise):
    found = diagnose(*cosines_of(noise), margin=0.1).regimes
    for margin in (0.0, 0.1):
        assert len({row.zero_loss for row in found if row.loss.margin == margin}) == 1


def test_shares_are_those_of_the_posterior_of_the_readable_page():
    cosines, targets = cosines_of(0.5)
    for scale, alpha in GOOD_PAIRS:
        loss = QMargin(alpha, scale, 0.1)
        q = torch.ones_like(cosines).scatter(1, targets[:, None], math.exp(-scale * 0.1))
        p = plain_softargmax(scale * cosines.double(), alpha, q.double().log())
        own = p.gather(1, targets[:, None]).squeeze(1)
        found = regime(loss, cosines, targets)
        assert found.one_hot == pytest.approx(((p > 0).sum(1) == 1).double().mean().item(), abs=5e-3)
        assert found.zero_target == pytest.approx((own == 0).double().mean().item(), abs=5e-3)
        assert found.gradient == pytest.approx((1 - own).mean().item(), abs=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("loss", [QMargin(2, 5, 0.0), QMargin(1.5, 20, 0.05), A3M(1.5, 10, 0.0), A3M(2, 10, 0.1)])
def test_the_margin_advised_is_the_smallest_that_gives_the_gradient_back(loss, share):
    cosines, targets = cosines_of(0.15)
    assert regime(loss, cosines, targets).zero_loss > share
    margin = margin_for(loss, cosines, targets, share)
    assert regime(at_margin(loss, margin), cosines, targets).zero_loss <= share
    assert regime(at_margin(loss, margin - 1e-3), cosines, targets).zero_loss > share - 0.02


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("loss", [QMargin(2, 5, 0.0), QMargin(1.5, 20, 0.05), A3M(1.5, 20, 0.1), Entmax(1.5, 20)])
def test_the_kappa_advised_gives_the_gradient_back_with_this_alpha_and_with_this_scale(loss, share):
    cosines, targets = cosines_of(0.15)
    assert regime(loss, cosines, targets).zero_loss > share
    kappa = kappa_for(loss, cosines, targets, share)
    by_scale, by_alpha = at_margin(loss, loss.margin), at_margin(loss, loss.margin)
    by_scale.scale = kappa / (loss.alpha - 1)
    by_alpha.alpha = 1 + kappa / loss.scale
    for changed in (by_scale, by_alpha):
        assert regime(changed, cosines, targets).zero_loss <= share + 0.005


def test_where_speakers_are_far_apart_it_says_that_training_would_starve_and_how_not():
    advice = diagnose(*cosines_of(0.02, dim=64), QMargin(2, 5), margin=0.01).advice
    for word in ("100 % have no gradient", "will starve", "raise the margin to", "lower κ", "α ="):
        assert word in advice[0]


def test_a_softmax_never_starves_and_is_asked_for_no_remedy():
    for loss in (AMSoftmax(), AAMSoftmax()):
        found = diagnose(*cosines_of(0.02, dim=64), loss)
        mine = [row for row in found.regimes if row.loss.alpha == 1]
        assert len(mine) == 2 and all(row.zero_loss == row.one_hot == 0 for row in mine)
        assert not any("starve" in line for line in found.advice)


def test_prototypes_of_other_speakers_are_recognised_by_targets_without_probability():
    cosines, targets = cosines_of(0.05)
    found = diagnose(cosines, (targets + 1) % 12, QMargin(2, 5))
    assert found.regimes[-1].zero_target > 0.9 and "class means" in found.advice[0]


def test_the_loss_handed_in_stays_as_it_is():
    loss = QMargin(1.5, 10, 0.05)
    diagnose(*cosines_of(0.3), loss, margin=0.3)
    assert loss.margin == 0.05


@pytest.mark.parametrize("shape", [(0, 3), (3, 1)])
def test_nothing_to_look_at_is_refused(shape):
    with pytest.raises(ValueError, match="at least two classes"):
        diagnose(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long))
