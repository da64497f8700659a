"""CAM++ against the published checkpoint where it is there, and facts that hold for any weights."""

import json
from pathlib import Path

import pytest
import torch

from alpha_sv.embedding.campplus import MIN_FRAMES, CAMPPlus, segment_means
from tests.fixtures.checkpoint import campplus_weights

SMALL = {"channels": 4, "init_channels": 16, "block_sizes": (2, 2), "growth": 4}


@pytest.fixture
def published():
    network = CAMPPlus(80, 192)
    network.load_state_dict(campplus_weights(), strict=True)
    return network.eval()


def small(**changes):
    torch.manual_seed(3)
    return CAMPPlus(**({"input_size": 40, "lin_neurons": 24} | SMALL | changes))


@pytest.mark.parametrize("frames", [61, 200, 433])
def test_the_published_weights_give_the_published_numbers(published, frames):
    expected = json.loads(Path(__file__).with_name("campplus_values.json").read_text())["outputs"][str(frames)]
    time, band = torch.arange(float(frames))[:, None], torch.arange(80.0)
    features = torch.sin(0.07 * time + 0.31 * band) + 0.5 * torch.cos(0.013 * time * (1 + band / 80))
    with torch.no_grad():
        embedding = published(features[None])[0]
    torch.testing.assert_close(embedding[:8], torch.tensor(expected["first8"]), rtol=0, atol=1e-4)
    assert embedding.norm().item() == pytest.approx(expected["norm"], abs=1e-4)
    assert embedding.sum().item() == pytest.approx(expected["sum"], abs=1e-3)  # of 192 numbers


def test_size_of_the_paper():
    """6.93 million values in 937 entries, as in the checkpoint; 6.85 of them are learned."""
    network = CAMPPlus(80, 192)
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 6_930_842
    assert len(network.state_dict()) == 937
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_848_544 - 0


@pytest.mark.parametrize("bands, dim", [(80, 16), (40, 24), (24, 8), (30, 8)])
@pytest.mark.parametrize("frames", [MIN_FRAMES, MIN_FRAMES + 1, 57, 201, 333])
def test_any_bands_and_any_length_from_the_shortest_on(bands, dim, frames):
    embedding = small(input_size=bands, lin_neurons=dim).eval()(torch.randn(2, frames, bands))
    assert embedding.shape == (2, dim) and embedding.isfinite().all()


@pytest.mark.parametrize("shape", [(2, MIN_FRAMES - 1, 40), (2, 100, 39), (100, 40)])
def test_what_it_cannot_take_is_said_with_its_shape(shape):
    with pytest.raises(ValueError, match=rf"at least {MIN_FRAMES} frames, got shape \[{shape[0]}"):
        small()(torch.randn(shape))


def test_an_embedding_does_not_depend_on_its_batch():
    network, features = small().eval(), torch.randn(5, 150, 40)
    alone = torch.cat([network(row[None]) for row in features])
    torch.testing.assert_close(network(features), alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_a_constant_input_gives_no_nan():
    network = small()
    for features in (torch.randn(4, 60, 40), torch.zeros(4, 60, 40)):
        network.zero_grad()
        network(features).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    network.zero_grad()
    (network(torch.randn(4, 60, 40)) * torch.randn(4, 24)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


def test_segments_are_means_over_what_is_there():
    x = torch.randn(2, 3, 250)
    means = segment_means(x, size=100)
    for i, (start, stop) in enumerate(((0, 100), (100, 200), (200, 250))):
        torch.testing.assert_close(means[..., i], x[..., start:stop].mean(-1))
