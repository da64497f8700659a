"""MHFA against its definition, and WavLM as a backbone."""

import numpy as np
import pytest
import torch

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.wavlm import MHFA
from tests.fixtures.devices import needs_a_real_gpu
from tests.fixtures.wavlm import SIZES, save_small_wavlm


def test_pooling_is_its_definition_written_out():
    torch.manual_seed(0)
    pooling = MHFA(3, 5, 7, heads=2, compression=4).double()
    torch.nn.init.normal_(pooling.key_weights)
    torch.nn.init.normal_(pooling.value_weights)
    layers = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    a, b = pooling.key_weights.softmax(0), pooling.value_weights.softmax(0)
    expected = []
    for n in range(2):
        keys = [pooling.keys(sum(a[i] * layers[i, n, t] for i in range(3))) for t in range(6)]
        values = [pooling.values(sum(b[i] * layers[i, n, t] for i in range(3))) for t in range(6)]
        heads = []
        for h in range(2):
            scores = torch.stack([pooling.attention.weight[h] @ k + pooling.attention.bias[h] for k in keys])
            heads.append(sum(w * v for w, v in zip(scores.softmax(0), values, strict=True)))
        expected.append(pooling.output(torch.cat(heads)))
    torch.testing.assert_close(pooling(layers), torch.stack(expected))


def test_with_equal_scores_each_head_is_the_mean_over_time():
    pooling = MHFA(2, 5, 4, heads=1, compression=4)
    for parameter in (pooling.attention.weight, pooling.output.bias):
        torch.nn.init.zeros_(parameter)
    torch.nn.init.eye_(pooling.output.weight)
    layers = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(pooling(layers), pooling.values(layers.mean(0)).mean(1))


def test_an_embedding_is_that_of_the_utterance_alone_and_survives_the_disk(tmp_path):
    pytest.importorskip("transformers")
    embedder = SpeakerEmbedder("wavlm_mhfa", 6, heads=2, compression=4, **SIZES).eval()
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(n).astype(np.float32) for n in (4000, 4790, 8000, 4000)]
    alone = embedder.embed(waveforms, batch_size=1)
    np.testing.assert_allclose(embedder.embed(waveforms), alone, atol=1e-5)
    filled = np.pad(waveforms[0], (0, 79))[None]  # the zeros of `fill` are not heard, although a norm is over time
    np.testing.assert_array_equal(embedder.embed_batch(filled)[0], alone[0])
    embedder.save(tmp_path / "model")
    np.testing.assert_array_equal(SpeakerEmbedder.load(tmp_path / "model").embed(waveforms, batch_size=1), alone)


def test_normalised_waveforms_have_no_level():
    pytest.importorskip("transformers")
    embedder = SpeakerEmbedder("wavlm_mhfa", 6, heads=2, compression=4, normalize=True, **SIZES).eval()
    x = torch.randn(1, 4000)
    with torch.no_grad():
        torch.testing.assert_close(embedder(x), embedder(10 * x + 3), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("architecture", "features"), [("wavlm_mhfa", "kaldi"), ("ecapa_tdnn", "waveform")])
def test_only_wavlm_takes_the_waveform(architecture, features):
    with pytest.raises(ValueError, match="only wavlm_mhfa takes the waveform"):
        SpeakerEmbedder(architecture, 6, features=features)


def test_layers_are_those_of_transformers(tmp_path, device):
    needs_a_real_gpu(device)  # safetensors writes from the memory of a tensor
    from alpha_sv.exchange.wavlm_weights import PretrainedWavLM

    reference = save_small_wavlm(tmp_path)
    embedder = PretrainedWavLM(tmp_path, 6, heads=2, compression=4).eval()
    seen = []
    embedder.backbone.pooling.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.randn(2, 4000)
    with torch.no_grad():
        embedder(x)
        expected = reference(x, output_hidden_states=True).hidden_states
    torch.testing.assert_close(seen[0], torch.stack(expected), rtol=0, atol=0)
