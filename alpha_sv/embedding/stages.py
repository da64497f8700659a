"""The networks taken apart into named stages,
so that a part of one can be frozen and the rest adapted.

The stages of a network, one after the other, are its `forward`.
What goes from one to the next is one tensor whose last axis is time, of length 1 after the pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from alpha_sv.embedding.campplus import CAMPPlus
from alpha_sv.embedding.wavlm import WavLMMHFA
from alpha_sv.embedding.wespeaker import WeSpeakerECAPA, WeSpeakerResNet


class Stage(NamedTuple):
    """A name, the modules with what is learnt, and the function from the stage before."""

    name: str
    modules: tuple[nn.Module, ...]
    run: Callable[[Tensor], Tensor]


def stages_of(backbone: nn.Module) -> list[Stage]:
    """The stages of a network of `alpha_sv.embedding.embedder.ARCHITECTURES`, in order.

    Raises
    ------
    ValueError
        It is a network whose parts are not known, or has none.

    Example
    -------
    >>> [
    ...     stage.name
    ...     for stage in stages_of(
    ...         CAMPPlus(24, 8, channels=2, init_channels=4, block_sizes=[1, 1], growth=2)
    ...     )
    ... ]
    ['head', 'tdnn', 'block1', 'transit1', 'block2', 'transit2', 'out_nonlinear', 'stats', 'dense']
    """
    for kind, taken_apart in _APART.items():
        if isinstance(backbone, kind):
            return taken_apart(backbone)
    raise ValueError(f"a {type(backbone).__name__} has no stages to train from")


def position(stages: Sequence[Stage], name: str) -> int:
    """The number of the stage called `name`; "" is the first.

    Raises
    ------
    ValueError
        No stage is called that; it names those there are.
    """
    names = [stage.name for stage in stages]
    if name and name not in names:
        raise ValueError(f"the network has no stage {name!r}; its stages are {', '.join(names)}")
    return names.index(name) if name else 0


def _campplus(net: CAMPPlus) -> list[Stage]:
    first = Stage("head", (net.head,), lambda features: net.head(features.transpose(1, 2)))
    return [first, *(Stage(name, (unit,), unit) for name, unit in net.xvector.named_children())]


def _ecapa(net: ECAPA_TDNN) -> list[Stage]:
    """The outputs of all blocks but the first lie one upon the
    other as they come; the last is the next one's input."""
    found = []
    for number, block in enumerate(net.blocks):

        def run(x: Tensor, number: int = number, block: nn.Module = block) -> Tensor:
            if number == 0:
                return block(x.transpose(1, 2))
            y = block(x[:, -net.channels[number - 1] :])
            return y if number == 1 else torch.cat([x, y], dim=1)

        found.append(Stage(f"block{number}", (block,), run))
    return [
        *found,
        Stage("mfa", (net.mfa,), net.mfa),
        Stage("asp", (net.asp, net.asp_bn), lambda x: net.asp_bn(net.asp(x))),
        Stage("fc", (net.fc,), lambda x: net.fc(x).transpose(1, 2)),
    ]


def _resnet(net: ResNet) -> list[Stage]:
    """Time is the axis before the bands there; between the stages they are exchanged."""

    def first(features: Tensor) -> Tensor:
        return net.activation1(net.bn1(net.conv1(features.unsqueeze(1)))).transpose(2, 3)

    def layer(module: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: module(x.transpose(2, 3)).transpose(2, 3)

    def pool(x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        weight = net.attention(x)
        mean = (weight * x).sum(dim=2)
        deviation = ((weight * x.square()).sum(dim=2) - mean.square()).clamp(min=1e-5).sqrt()
        return net.norm_stats(torch.cat([mean, deviation], dim=1)).unsqueeze(-1)

    layers = [(f"layer{n}", getattr(net, f"layer{n}")) for n in (1, 2, 3, 4)]
    return [
        Stage("conv1", (net.conv1, net.bn1), first),
        *(Stage(name, (module,), layer(module)) for name, module in layers),
        Stage("attention", (net.attention, net.norm_stats), pool),
        Stage("fc_embed", (net.fc_embed, net.norm_embed), lambda x: net.norm_embed(net.fc_embed(x.squeeze(-1)))),
    ]


def _wespeaker_resnet(net: WeSpeakerResNet) -> list[Stage]:
    layers = [(f"layer{n}", getattr(net, f"layer{n}")) for n in range(1, net.depth + 1)]
    return [
        Stage("conv1", (net.conv1, net.bn1), lambda f: F.relu(net.bn1(net.conv1(f.transpose(1, 2).unsqueeze(1))))),
        *(Stage(name, (module,), module) for name, module in layers),
        Stage("seg_1", (net.seg_1,), net.embed_frames),
    ]


def _wespeaker_ecapa(net: WeSpeakerECAPA) -> list[Stage]:
    width = net.conv.in_channels // 3
    return [
        Stage("layer1", (net.layer1,), lambda features: net.layer1(features.transpose(1, 2))),
        Stage("layer2", (net.layer2,), net.layer2),
        Stage("layer3", (net.layer3,), lambda x: torch.cat([x, net.layer3(x)], dim=1)),
        Stage("layer4", (net.layer4,), lambda x: torch.cat([x, net.layer4(x[:, -width:])], dim=1)),
        Stage("conv", (net.conv,), lambda x: F.relu(net.conv(x))),
        Stage("pool", (net.pool, net.bn), lambda x: net.bn(net.pool(x)).unsqueeze(-1)),
        Stage("linear", (net.linear,), lambda x: net.linear(x.squeeze(-1))),
    ]


def _wavlm(net: WavLMMHFA) -> list[Stage]:
    """Between the two the layers lie one upon the other, [N, L·width, frames]."""

    def pool(x: Tensor) -> Tensor:
        layers = x.unflatten(1, (len(net.pooling.key_weights), -1)).permute(1, 0, 3, 2)
        return net.pooling(layers).unsqueeze(-1)

    return [
        Stage("wavlm", (net.wavlm,), lambda waves: net.layers(waves).permute(1, 0, 3, 2).flatten(1, 2)),
        Stage("pooling", (net.pooling,), pool),
    ]


_APART = {
    WavLMMHFA: _wavlm,
    CAMPPlus: _campplus,
    ECAPA_TDNN: _ecapa,
    ResNet: _resnet,
    WeSpeakerResNet: _wespeaker_resnet,
    WeSpeakerECAPA: _wespeaker_ecapa,
}
