"""WavLM's pre-trained weights as the start of a speaker embedder."""

from __future__ import annotations

import os
from pathlib import Path

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.files import InputError, read_json

_SAME = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim"),
    *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance", "conv_bias"),
)


class PretrainedWavLM(SpeakerEmbedder):
    """A `SpeakerEmbedder` whose WavLM begins with the weights in a folder; its pooling is new.

    Parameters
    ----------
    folder : path-like
        As `transformers` saves a WavLM, and as its page on Hugging Face has it: `config.json` and
        `model.safetensors` or `pytorch_model.bin`. Nothing is downloaded and nothing unpickled;
        the folder is only read.
    embedding_dim, heads, compression : int
        Of the pooling, see `alpha_sv.embedding.wavlm.MHFA`.

    Raises
    ------
    ValueError
        There is no such folder, it holds another kind of network,
        or `transformers` is not installed.
    """

    def __init__(self, folder: str | os.PathLike, embedding_dim: int = 256, heads: int = 64, compression: int = 128):
        folder = Path(folder).expanduser()
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} has no config.json, so it is no folder of a WavLM; download one yourself, for example "
                "microsoft/wavlm-base-plus from Hugging Face, and give its folder"
            )
        config = read_json(folder / "config.json", like=dict)
        if config.get("model_type") != "wavlm":
            raise InputError(f"{folder / 'config.json'}: model_type is {config.get('model_type')!r}, not 'wavlm'")
        preprocessor = folder / "preprocessor_config.json"
        sizes = {name: config[name] for name in _SAME if name in config}
        super().__init__(
            "wavlm_mhfa",
            embedding_dim,
            heads=heads,
            compression=compression,
            conv_layer_norm=config.get("feat_extract_norm") == "layer",
            stable_layer_norm=bool(config.get("do_stable_layer_norm")),
            normalize=preprocessor.is_file() and bool(read_json(preprocessor, like=dict).get("do_normalize")),
            **sizes,
        )
        from transformers import WavLMModel  # there is one: the line above would have said so

        try:
            source, report = WavLMModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, weights_only=True
            )
        except Exception as error:  # damaged files of any format end in errors of many kinds
            raise InputError(f"{folder} does not hold the weights of a WavLM: {error}") from error
        if missing := sorted(set(report["missing_keys"]) - {"masked_spec_embed"}):
            raise InputError(f"{folder} lacks weights of its WavLM: {', '.join(missing[:3])}")
        weights = source.state_dict()
        weights.pop("masked_spec_embed", None)  # of SpecAugment, which is not used
        self.backbone.wavlm.load_state_dict(weights)
