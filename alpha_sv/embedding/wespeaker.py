"""WeSpeaker's ResNet and ECAPA-TDNN, so that their published weights can be used.

They differ from SpeechBrain's, which this toolkit trains: the ResNet has plain blocks of two
convolutions and pools mean and deviation of each band; the ECAPA-TDNN pads with zeros, passes the
last and not the first part of a Res2Net block on as it is, and has no norm in its attention.
Modules are named as in WeSpeaker's checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut. [B, C, M, T]"""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != outside:
            project = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class WeSpeakerResNet(nn.Module):
    """r-vector: features [B, T, M] → embeddings [B, D] (arXiv 1910.12592).
    `block_sizes` [3, 4, 6, 3] is ResNet34.

    Example
    -------
    >>> WeSpeakerResNet(40, 16, channels=4, block_sizes=[1, 1, 1, 1]).eval()(
    ...     torch.randn(2, 50, 40)
    ... ).shape
    torch.Size([2, 16])
    """

    def __init__(
        self, input_size: int, lin_neurons: int, channels: int = 32, block_sizes: Sequence[int] = (3, 4, 6, 3)
    ):
        super().__init__()
        if input_size % 8:
            raise ValueError(f"this network halves the bands three times, so 8 must divide their number {input_size}")
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        inside = channels
        for number, blocks in enumerate(block_sizes):
            outside = channels << number
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            layer = [BasicBlock(inside if i == 0 else outside, outside, stride) for i, stride in enumerate(strides)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*layer))
            inside = outside
        self.depth = len(block_sizes)
        self.seg_1 = nn.Linear(2 * inside * input_size // 8, lin_neurons)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(features.transpose(1, 2).unsqueeze(1))))
        for number in range(self.depth):
            x = getattr(self, f"layer{number + 1}")(x)
        return self.embed_frames(x)

    def embed_frames(self, x: Tensor) -> Tensor:
        """[B, C, M / 8, T / 8] → [B, D]: mean and deviation over time, then the last layer."""
        mean = x.mean(dim=-1, keepdim=True)
        # the unbiased variance, but zero of a single frame
        variance = (x - mean).square().sum(dim=-1) / torch.sym_max(x.shape[-1] - 1, 1)
        return self.seg_1(torch.cat([mean.flatten(1), (variance + 1e-8).sqrt().flatten(1)], dim=1))


class ConvReluNorm(nn.Module):
    """[B, C, T] → [B, C', T]"""

    def __init__(self, inside: int, outside: int, kernel: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(x)))


class Res2Conv(nn.Module):
    """Each eighth of the channels is convolved together
    with the result of the one before; the last stays."""

    def __init__(self, channels: int, dilation: int, scale: int = 8):
        super().__init__()
        width = channels // scale
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        *parts, last = x.chunk(len(self.convs) + 1, dim=1)
        done: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            done.append(norm(F.relu(conv(part + done[-1] if done else part))))
        return torch.cat([*done, last], dim=1)


class SqueezeExcitation(nn.Module):
    """Channels weighted by what the utterance has of each."""

    def __init__(self, channels: int, bottleneck: int = 128):
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(dim=2))))).unsqueeze(2)


class SERes2Block(nn.Module):
    """The residual block of ECAPA-TDNN."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.se_res2block = nn.Sequential(
            ConvReluNorm(channels, channels),
            Res2Conv(channels, dilation),
            ConvReluNorm(channels, channels),
            SqueezeExcitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_res2block(x)


class AttentivePooling(nn.Module):
    """Mean and deviation over time, each frame weighted per channel: [B, C, T] → [B, 2 C]."""

    def __init__(self, channels: int, bottleneck: int, global_context: bool):
        super().__init__()
        self.global_context = global_context
        self.linear1 = nn.Conv1d(channels * (3 if global_context else 1), bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x
        if self.global_context:
            mean, deviation = x.mean(dim=-1, keepdim=True), (x.var(dim=-1, keepdim=True) + 1e-10).sqrt()
            context = torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1)
        weight = torch.softmax(self.linear2(torch.tanh(self.linear1(context))), dim=2)
        mean = (weight * x).sum(dim=2)
        variance = (weight * x.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=1)


class WeSpeakerECAPA(nn.Module):
    """ECAPA-TDNN (arXiv 2005.07143) as WeSpeaker has it: features [B, T, M] → embeddings [B, D].

    Example
    -------
    >>> WeSpeakerECAPA(40, 16, channels=16, attention_channels=4).eval()(
    ...     torch.randn(2, 50, 40)
    ... ).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        input_size: int,
        lin_neurons: int,
        channels: int = 512,
        attention_channels: int = 128,
        global_context: bool = False,
    ):
        super().__init__()
        self.layer1 = ConvReluNorm(input_size, channels, 5)
        self.layer2, self.layer3, self.layer4 = (SERes2Block(channels, dilation) for dilation in (2, 3, 4))
        self.conv = nn.Conv1d(3 * channels, 3 * channels, 1)
        self.pool = AttentivePooling(3 * channels, attention_channels, global_context)
        self.bn = nn.BatchNorm1d(6 * channels)
        self.linear = nn.Linear(6 * channels, lin_neurons)

    def forward(self, features: Tensor) -> Tensor:
        second = self.layer2(self.layer1(features.transpose(1, 2)))
        third = self.layer3(second)
        together = torch.cat([second, third, self.layer4(third)], dim=1)
        return self.linear(self.bn(self.pool(F.relu(self.conv(together)))))
