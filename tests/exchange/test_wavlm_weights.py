"""Folders that are no WavLM, or a damaged one; and WavLM in ONNX."""

import json

import numpy as np
import pytest

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.exchange.export import export
from alpha_sv.exchange.load import load_embedder
from alpha_sv.exchange.wavlm_weights import PretrainedWavLM
from tests.fixtures.wavlm import SIZES, save_small_wavlm


def test_sizes_and_switches_of_large_are_read_from_the_folder(tmp_path):
    save_small_wavlm(tmp_path, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    config = PretrainedWavLM(tmp_path, 6, heads=2, compression=4).config
    switches = ("conv_layer_norm", "stable_layer_norm", "conv_bias", "normalize")
    assert all(config[name] for name in switches) and config["hidden_size"] == 16


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no config.json.*download one yourself"):
        PretrainedWavLM(tmp_path / "microsoft/wavlm-base-plus")
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(ValueError, match="'hubert', not 'wavlm'"):
        PretrainedWavLM(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json"):
        PretrainedWavLM(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "missing", "another size"])
def test_weights_that_do_not_fit_are_refused(damage, tmp_path):
    save_small_wavlm(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 32}))
    with pytest.raises(ValueError, match=str(tmp_path)):
        PretrainedWavLM(tmp_path, 6, heads=2, compression=4)


@pytest.mark.slow
def test_in_onnx_it_is_the_same_at_every_length(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("transformers")
    model = SpeakerEmbedder("wavlm_mhfa", 6, heads=2, compression=4, **SIZES).eval()
    (tmp_path / "int8").mkdir()
    with pytest.raises(ValueError, match="without int8"):
        export(model, tmp_path / "int8", to="onnx", int8=True)
    assert not list((tmp_path / "int8").iterdir())
    export(model, tmp_path / "onnx", to="onnx")
    other = load_embedder(tmp_path / "onnx" / "model.onnx").embedder
    rng = np.random.default_rng(0)
    for samples in (1600, 4000, 8039, 49_600):
        waveform = [rng.standard_normal(samples).astype(np.float32)]
        ours = model.embed(waveform)
        assert np.abs(other.embed(waveform) - ours).max() <= 1e-5 * np.linalg.norm(ours)
