"""What a network in ONNX says of itself is checked before it is believed."""

import json

import pytest

from alpha_sv.embedding.onnx import OnnxInput


@pytest.mark.parametrize("field", ["sample_rate", "n_mels"])
def test_a_network_in_onnx_cannot_fill_the_memory(field):
    with pytest.raises(ValueError, match=f"note.json does not say .*{field}.* whole number up to"):
        OnnxInput.from_json(json.dumps({"format": "alpha_sv.onnx/1", field: 10**15}), "note.json")
