"""The bfloat16 look at the prototypes: it may only save work, never change what is found."""

import pytest
import torch
import torch.nn.functional as F

from alpha_sv.functional.margins import target_cosine
from alpha_sv.functional.solver import COUNTS
from alpha_sv.heads import scan as scan_module
from alpha_sv.heads.scan import scan_prototypes
from alpha_sv.losses import A3M, QMargin, Sparsemax
from tests.batteries.solvers import twin_heads, value_and_gradients
from tests.fixtures.devices import needs_the_cpu
from tests.fixtures.replaced import set_sizes


def problem(rows=24, classes=3000, dim=48, seed=0, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, dim, generator=generator) * torch.rand(classes, 1, generator=generator).add(0.2)
    targets = torch.randint(classes, (rows,), generator=generator)
    noise = noise * torch.randn(rows, dim, generator=generator) / dim**0.5
    embeddings = F.normalize(F.normalize(weight[targets]) + noise)
    value = (embeddings * F.normalize(weight[targets])).sum(1)
    return embeddings, weight, targets, value


def found_with(monkeypatch, rough, loss, embeddings, weight, targets, value):
    monkeypatch.setattr(scan_module, "has_fast_bfloat16", lambda device: rough)
    set_sizes(monkeypatch, scan_module, CPU_CELLS=24 * 300)
    found = scan_prototypes(
        embeddings, weight, targets, target_cosine(value, margin=loss.margin, place=loss.place), loss
    )
    active = found.p > 0
    return dict(zip(found.flat[active].tolist(), found.p[active].tolist(), strict=True))


@pytest.mark.parametrize("loss", [QMargin(1.5), QMargin(1.25, "auto"), A3M(2.0, 5.0)], ids=repr)
@pytest.mark.parametrize("noise", [0.3, 1.0, 30.0], ids=["learnt", "half", "random"])
def test_same_active_classes_and_posterior_as_in_float32(loss, noise, monkeypatch):
    data = problem(noise=noise)
    before = COUNTS["fallbacks"]
    full, rough = (found_with(monkeypatch, flag, loss, *data) for flag in (False, True))
    # at the threshold itself rounding decides, with a posterior as small as rounding
    certain = {position for position, p in full.items() if p > 1e-6}
    assert certain <= rough.keys()
    for position in full.keys() | rough.keys():
        assert rough.get(position, 0.0) == pytest.approx(full.get(position, 0.0), rel=1e-4, abs=1e-6)
    assert COUNTS["fallbacks"] == before


def test_rounding_stays_below_its_bound():
    """3u by Cauchy-Schwarz; vectors all of one sign have no cancellation to hide behind."""
    generator = torch.Generator().manual_seed(1)
    for sign in (torch.randn, torch.rand):
        embeddings = F.normalize(sign(64, 192, generator=generator))
        weight = F.normalize(sign(2000, 192, generator=generator))
        exact = embeddings @ weight.T
        rough = (embeddings.bfloat16() @ weight.bfloat16().T).float()
        assert (rough - exact).abs().max() <= 3 * 2.0**-8


def worst_in_bfloat16():
    """A unit vector e and a w of nearly its direction,
    whose cosine bfloat16 makes too small by almost 3·2⁻⁸."""
    just_below_half = 2.0**-8 * (1 - 2.0**-10)
    e = torch.full((64,), 0.125 * (1 + just_below_half))
    e[62:] = torch.tensor([(1 - e[:62].square().sum()).sqrt(), 0.0])
    best = 0.0, e
    for more in range(63):  # in which of them w is one bfloat16 further; the product must be rounded down as well
        w = torch.where(torch.arange(64) < more, 0.125 * 2.0**-6, 0.125 * 2.0**-7) + e
        w[62:] = e[62:]
        product = torch.mm(e.bfloat16()[None], w.bfloat16()[:, None]).double().item()
        best = max(
            best, (((e.double() @ w.double()).item() - product) / w.double().norm().item(), w), key=lambda x: x[0]
        )
    return e, *best


def test_rounding_at_its_worst_leaves_no_active_class_out(monkeypatch, device):
    """The unit roundoff of bfloat16 is 2⁻⁸; 3 roundings of 2⁻⁹ once was the allowance."""
    needs_the_cpu(device, "the look in bfloat16 is taken on the CPU only")
    monkeypatch.setattr(scan_module, "has_fast_bfloat16", lambda device: True)
    set_sizes(monkeypatch, scan_module, CPU_CELLS=1)
    e, error, w = worst_in_bfloat16()
    assert 2.8 * 2**-8 < error <= 3 * 2**-8
    dense, sparse = twin_heads(64, 512, Sparsemax(64.0), torch.float32)
    for head in (dense, sparse):  # ten tied winners in one chunk of 256, w in the next
        head.weight.data[:10], head.weight.data[256 + 5] = e, w
    found, expected = (value_and_gradients(head, e[None], torch.tensor([3]), torch.float32) for head in (sparse, dense))
    assert expected[2][256 + 5].abs().sum() > 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_processor_that_rounds_worse_is_noticed_and_not_believed(monkeypatch):
    data, loss = problem(), QMargin(1.5)
    full = found_with(monkeypatch, False, loss, *data)
    before, exact = COUNTS["fallbacks"], scan_module._cosines_of_pairs
    monkeypatch.setattr(scan_module, "_cosines_of_pairs", lambda *arguments: exact(*arguments) + 0.02)
    assert found_with(monkeypatch, True, loss, *data) == full
    assert COUNTS["fallbacks"] == before + 1
