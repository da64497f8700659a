"""Checkpoints of 3D-Speaker and WeSpeaker:
which network one holds is told from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.exchange.speechbrain import load_into, read_checkpoint

_HEADS = ("projection.", "classifier.", "loss.")  # a classifier of training speakers, saved with the network
Weights = Mapping[str, Tensor]


def read_embedder(file: Path, features: str | None, sample_rate: int = 16000) -> SpeakerEmbedder:
    """The embedder of a checkpoint.

    Parameters
    ----------
    file : Path
        .pt, .ckpt, .pth, .bin or .safetensors with nothing but tensors.
    features : {"kaldi", "wespeaker", "speechbrain"} or None
        What the network was trained on, which no checkpoint says,
        except by a network that only one of them has.

    Raises
    ------
    ValueError
        It is damaged, or holds another network than CAM++,
        ECAPA-TDNN and WeSpeaker's ResNet; or `features` is needed.
    """
    weights = {name: t for name, t in read_checkpoint(file).items() if not name.startswith(_HEADS)}
    for architecture, look in _NETWORKS.items():
        try:
            sizes = look(weights)
        except (LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise ValueError(f"{file}: its tensors are not all those of {architecture}: {error!r}") from error
        if sizes is None:
            continue
        if features is None:
            if not architecture.startswith("wespeaker"):
                raise ValueError(
                    f"{file} holds {architecture}, and says not on which features it was trained: give --features "
                    "kaldi (3D-Speaker), wespeaker or speechbrain"
                )
            features = "wespeaker"
        try:
            embedder = SpeakerEmbedder(architecture, features=features, sample_rate=sample_rate, **sizes)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"{file}: sizes {sizes} are none of {architecture}: {error}") from error
        load_into(embedder, weights, file)
        return embedder.eval()
    raise ValueError(
        f"{file} holds none of the networks that can be imported ({', '.join(_NETWORKS)}); its first tensors are "
        f"{', '.join(list(weights)[:4])}. Export it to ONNX with its own toolkit, then import the .onnx"
    )


def _count(weights: Weights, pattern: str) -> int:
    """How many different numbers stand where `pattern` has its group."""
    return len({m.group(1) for name in weights if (m := re.match(pattern, name))})


def _campplus(weights: Weights) -> dict | None:
    if "xvector.tdnn.linear.weight" not in weights or "head.conv1.weight" not in weights:
        return None
    channels, (width, flat, _) = len(weights["head.conv1.weight"]), weights["xvector.tdnn.linear.weight"].shape
    blocks = _count(weights, r"xvector\.block(\d+)\.")
    return {
        "embedding_dim": len(weights["xvector.dense.linear.weight"]),
        "n_mels": 8 * flat // channels,
        "channels": channels,
        "init_channels": width,
        "block_sizes": [_count(weights, rf"xvector\.block{i + 1}\.tdnnd(\d+)\.") for i in range(blocks)],
        "growth": len(weights["xvector.block1.tdnnd1.cam_layer.linear_local.weight"]),
    }


def _ecapa(weights: Weights) -> dict | None:
    """SpeechBrain's ECAPA-TDNN, whose names 3D-Speaker keeps."""
    if "blocks.0.conv.conv.weight" not in weights or "asp.conv.conv.weight" not in weights:
        return None
    blocks = _count(weights, r"blocks\.(\d+)\.")
    first = weights["blocks.0.conv.conv.weight"]
    widths = [len(weights[f"blocks.{i}.tdnn2.conv.conv.weight"]) for i in range(1, blocks)]
    return {
        "embedding_dim": len(weights["fc.conv.weight"]),
        "n_mels": first.shape[1],
        "channels": [len(first), *widths, len(weights["mfa.conv.conv.weight"])],
        "attention_channels": weights["asp.conv.conv.weight"].shape[1],
        "se_channels": len(weights["blocks.1.se_block.conv1.conv.weight"]),
        "res2net_scale": 1 + _count(weights, r"blocks\.1\.res2net_block\.blocks\.(\d+)\."),
        "global_context": weights["asp.tdnn.conv.conv.weight"].shape[1] == 3 * len(weights["mfa.conv.conv.weight"]),
    }


def _wespeaker_resnet(weights: Weights) -> dict | None:
    if "seg_1.weight" not in weights or "layer1.0.conv1.weight" not in weights:
        return None
    if "layer1.0.conv3.weight" in weights or "seg_2.weight" in weights:
        return None  # with bottlenecks, or a second embedding layer
    channels, flat = len(weights["conv1.weight"]), weights["seg_1.weight"].shape[1]
    return {
        "embedding_dim": len(weights["seg_1.weight"]),
        "n_mels": flat // (2 * channels),  # 2 statistics × 8 channels × n_mels / 8
        "channels": channels,
        "block_sizes": [_count(weights, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)],
    }


def _wespeaker_ecapa(weights: Weights) -> dict | None:
    if "layer2.se_res2block.0.conv.weight" not in weights or "pool.linear1.weight" not in weights:
        return None
    first = weights["layer1.conv.weight"]
    return {
        "embedding_dim": len(weights["linear.weight"]),
        "n_mels": first.shape[1],
        "channels": len(first),
        "attention_channels": len(weights["pool.linear1.weight"]),
        "global_context": weights["pool.linear1.weight"].shape[1] == 9 * len(first),
    }


_NETWORKS = {
    "campplus": _campplus,
    "ecapa_tdnn": _ecapa,
    "wespeaker_resnet": _wespeaker_resnet,
    "wespeaker_ecapa": _wespeaker_ecapa,
}
