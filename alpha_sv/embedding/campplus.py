"""CAM++: a densely connected TDNN with context-aware masks (Wang et al., arXiv 2303.00332).

    features [B, T, M] → FCM (2-d convolutions, a quarter of the bands … [B, 320, T])
                       → TDNN (every second frame) → 3 × (dense block, transit)
                       → mean and deviation over time → [B, D]

Modules are named as in the official checkpoints of 3D-Speaker and WeSpeaker, so that those load as
they are. Layers are pre-activated (batch norm, ReLU, convolution), and no convolution but the two
that make a mask has a bias.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_FRAMES = 5  # the TDNN halves them (rounded up), and a standard deviation needs more than two of those
SEGMENT = 100  # frames of the TDNN, that is 2 s, whose mean is the near context of a mask


def _batchnorm(channels: int, relu: bool = True, affine: bool = True) -> nn.Sequential:
    layers = OrderedDict(batchnorm=nn.BatchNorm1d(channels, affine=affine))
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut;
    the first one thins the bands out by `stride`. [B, C, M, T]"""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            thin = nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(thin, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class FrontConvolution(nn.Module):
    """The FCM of the paper, for patterns at any pitch:
    [B, M, T] → [B, C M / 8, T], by 2-d convolutions."""

    def __init__(self, bands: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(ResidualBlock(channels, 2), ResidualBlock(channels, 1))
        self.layer2 = nn.Sequential(ResidualBlock(channels, 2), ResidualBlock(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.out_channels = channels * -(-bands // 8)  # three strides of 2, each rounded up

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class ContextAwareMask(nn.Module):
    """A local convolution whose channels are weighted by
    what the utterance and its surroundings are like."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int):
        super().__init__()
        self.linear_local = nn.Conv1d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(in_channels, in_channels // 2, 1)
        self.linear2 = nn.Conv1d(in_channels // 2, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # the same for all frames of a segment, and so is the mask
        context = x.mean(dim=-1, keepdim=True) + segment_means(x)
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        return self.linear_local(x) * mask.repeat_interleave(SEGMENT, dim=-1)[..., : x.shape[-1]]


def segment_means(x: Tensor, size: int = SEGMENT) -> Tensor:
    """The mean of each segment of `size` frames of [B, C, T] → [B, C, S];
    of the last one over what it has.

    S is T // size + 2; a mean over no frames is 0.

    Example
    -------
    >>> segment_means(torch.tensor([[[1.0, 3.0, 5.0]]]), size=2)
    tensor([[[2., 5., 0.]]])
    """
    frames = x.shape[-1]
    count = frames // size + 2  # with an empty one or two: never 1, which torch.export would take for a constant
    segments = F.pad(x, (0, count * size - frames)).unflatten(-1, (count, size))
    there = F.pad(x.new_ones(frames), (0, count * size - frames)).unflatten(-1, (count, size)).sum(dim=-1)
    return segments.sum(dim=-1) / there.clamp(min=1)


class DenseLayer(nn.Module):
    """1 × 1 to `bottleneck` channels, then the mask; what comes out is appended to what came in."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int, dilation: int):
        super().__init__()
        self.nonlinear1 = _batchnorm(in_channels)
        self.linear1 = nn.Conv1d(in_channels, bottleneck, 1, bias=False)
        self.nonlinear2 = _batchnorm(bottleneck)
        self.cam_layer = ContextAwareMask(bottleneck, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat([x, y], dim=1)


class Unit(nn.Module):
    """A convolution `linear` and its batch norm `nonlinear`, in the order they are used."""

    def __init__(self, linear: nn.Conv1d, nonlinear: nn.Sequential, norm_first: bool = False):
        super().__init__()
        self.linear, self.nonlinear, self.norm_first = linear, nonlinear, norm_first

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x)) if self.norm_first else self.nonlinear(self.linear(x))


class Statistics(nn.Module):
    """Mean and unbiased standard deviation over time: [B, C, T] → [B, 2 C, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=-1), x.std(dim=-1)], dim=1).unsqueeze(-1)


class CAMPPlus(nn.Module):
    """Features [B, T, input_size] → embeddings [B, lin_neurons], not normalised.

    Parameters
    ----------
    input_size : int
        Bands of the features, M.
    lin_neurons : int
        D. The published model has 192.
    channels : int
        Channels of the front convolution.
    init_channels : int
        Channels of the TDNN, in front of the first dense block.
    block_sizes : sequence of int
        Layers of each dense block.
    growth : int
        Channels that each layer adds. The layers' bottleneck has four times as many.

    Raises
    ------
    ValueError
        In `forward`, for fewer than 5 frames or another number of bands.

    Source: arXiv 2303.00332, table 1; 6.9 M parameters at the default sizes.

    Example
    -------
    >>> CAMPPlus(80, 192).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        input_size: int = 80,
        lin_neurons: int = 192,
        channels: int = 32,
        init_channels: int = 128,
        block_sizes: tuple[int, ...] = (12, 24, 16),
        growth: int = 32,
    ):
        super().__init__()
        self.input_size = input_size
        self.head = FrontConvolution(input_size, channels)
        width = init_channels
        first = nn.Conv1d(self.head.out_channels, width, 5, stride=2, padding=2, bias=False)
        units: OrderedDict[str, nn.Module] = OrderedDict(tdnn=Unit(first, _batchnorm(width)))
        for number, layers in enumerate(block_sizes, 1):
            dilation = 1 if number == 1 else 2
            block = (DenseLayer(width + i * growth, growth, 4 * growth, dilation) for i in range(layers))
            units[f"block{number}"] = nn.Sequential(OrderedDict((f"tdnnd{i}", d) for i, d in enumerate(block, 1)))
            width += layers * growth
            half = nn.Conv1d(width, width // 2, 1, bias=False)
            units[f"transit{number}"] = Unit(half, _batchnorm(width), norm_first=True)
            width //= 2
        units["out_nonlinear"] = _batchnorm(width)
        units["stats"] = Statistics()
        last = nn.Conv1d(2 * width, lin_neurons, 1, bias=False)
        units["dense"] = Unit(last, _batchnorm(lin_neurons, relu=False, affine=False))
        self.xvector = nn.Sequential(units)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim != 3 or features.shape[2] != self.input_size or features.shape[1] < MIN_FRAMES:
            raise ValueError(
                f"CAM++ takes features [B, T, {self.input_size}] of at least {MIN_FRAMES} frames, got shape "
                f"{list(features.shape)}"
            )
        return self.xvector(self.head(features.transpose(1, 2))).squeeze(-1)
