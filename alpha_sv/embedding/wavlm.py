"""WavLM with multi-head factorised attentive pooling, on the waveform itself: the model on which
the authors of the α-divergence losses report their gain. The Transformer is that of the package
`transformers` (extra `ssl`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MHFA(nn.Module):
    """Multi-head factorised attentive pooling over the
    outputs of all layers (Peng et al., arXiv 2210.01273).

    Two weighted sums over the layers, one for the keys and one for the values, are compressed to P
    dimensions. Each head attends over time by the keys and pools the values; the heads side by
    side become the embedding:

        k_t = W_k Σ_l softmax(a)_l h_lt,    v_t = W_v Σ_l softmax(b)_l h_lt,
        A_th = softmax_t(w_h·k_t),          e = W [Σ_t A_t1 v_t; …; Σ_t A_tH v_t].

    Parameters
    ----------
    num_layers, width : int
        L layer outputs of D dimensions each.
    embedding_dim : int
        Of the result.
    heads, compression : int
        H and P.

    Shape: layers [L, N, T, D] → embeddings [N, embedding_dim].

    Example
    -------
    >>> MHFA(3, 8, 5, heads=2, compression=4)(torch.randn(3, 2, 7, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(self, num_layers: int, width: int, embedding_dim: int, heads: int = 64, compression: int = 128):
        super().__init__()
        self.key_weights = nn.Parameter(torch.zeros(num_layers))  # the softmax of zeros: all layers alike
        self.value_weights = nn.Parameter(torch.zeros(num_layers))
        self.keys = nn.Linear(width, compression)
        self.values = nn.Linear(width, compression)
        self.attention = nn.Linear(compression, heads)
        self.output = nn.Linear(heads * compression, embedding_dim)

    def forward(self, layers: Tensor) -> Tensor:
        keys = self.keys(torch.einsum("l,lntd->ntd", self.key_weights.softmax(0), layers))
        values = self.values(torch.einsum("l,lntd->ntd", self.value_weights.softmax(0), layers))
        attention = self.attention(keys).softmax(dim=1)  # over time, [N, T, H]
        return self.output(torch.einsum("nth,ntp->nhp", attention, values).flatten(1))


class WavLMMHFA(nn.Module):
    """WavLM (arXiv 2110.13900) and MHFA: waveforms [N, T] at 16 kHz → embeddings [N, D].

    Parameters
    ----------
    input_size : int
        Of no use here: the input is the waveform.
    lin_neurons : int
        D.
    heads, compression : int
        Of the pooling.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, conv_dim, \
num_conv_pos_embeddings, num_conv_pos_embedding_groups, num_buckets, \
max_bucket_distance : int or list of int
        As in the `config.json` of WavLM; the defaults are Base+.
    conv_layer_norm, stable_layer_norm, conv_bias, normalize : bool
        True for WavLM Large: feat_extract_norm "layer", do_stable_layer_norm,
        conv_bias, and waveforms of mean 0 and variance 1.

    Without SpecAugment and layer drop,
    so that a step is a function of its seed; dropout is WavLM's.

    Raises
    ------
    ValueError
        `transformers` is not installed.
    """

    def __init__(
        self,
        input_size: int,
        lin_neurons: int,
        heads: int = 64,
        compression: int = 128,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        conv_dim: list[int] = (512,) * 7,
        num_conv_pos_embeddings: int = 128,
        num_conv_pos_embedding_groups: int = 16,
        num_buckets: int = 320,
        max_bucket_distance: int = 800,
        conv_layer_norm: bool = False,
        stable_layer_norm: bool = False,
        conv_bias: bool = False,
        normalize: bool = False,
    ):
        super().__init__()
        try:
            from transformers import WavLMConfig, WavLMModel
        except ImportError as error:
            raise ValueError("WavLM needs the package transformers: pip install 'alpha_sv[ssl]'") from error
        config = WavLMConfig(
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
            conv_dim=list(conv_dim),
            num_conv_pos_embeddings=num_conv_pos_embeddings,
            num_conv_pos_embedding_groups=num_conv_pos_embedding_groups,
            num_buckets=num_buckets,
            max_bucket_distance=max_bucket_distance,
            feat_extract_norm="layer" if conv_layer_norm else "group",
            do_stable_layer_norm=bool(stable_layer_norm),
            conv_bias=bool(conv_bias),
            apply_spec_augment=False,
            mask_time_prob=0.0,  # else there is a parameter without a gradient, and several processes wait for it
            mask_feature_prob=0.0,
            layerdrop=0.0,
        )
        self.normalize = normalize
        self.wavlm = WavLMModel(config)
        self.pooling = MHFA(num_hidden_layers + 1, hidden_size, lin_neurons, heads, compression)

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.pooling(self.layers(waveforms))

    def layers(self, waveforms: Tensor) -> Tensor:
        """Waveforms [N, T] → the outputs of all layers [L, N, frames, width]."""
        # Windows of 400 samples every 320: what is beyond a whole 80 makes no frame. But the
        # first norm is over time and would hear it, and with it the zeros that fill an utterance
        # up to the end of its 80.
        waveforms = waveforms[:, : waveforms.shape[1] // 80 * 80]
        if self.normalize:
            variance, mean = torch.var_mean(waveforms, dim=1, keepdim=True, correction=0)
            waveforms = (waveforms - mean) / (variance + 1e-7).sqrt()
        return torch.stack(self.wavlm(waveforms, output_hidden_states=True).hidden_states)
