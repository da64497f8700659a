"""IResNet, the residual network of face verification,
under the names of insightface's published checkpoints.

It is the "LResNetE-IR" of ArcFace (arXiv 1801.07698, section 3.2): a stem that keeps the size of
the image, four stages that halve it, and an embedding of all that is left of it, without pooling,
because where on an aligned face something is matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


class Block(nn.Module):
    """BN, 3×3, BN, PReLU, 3×3, BN, plus the input;
    the second convolution and the shortcut change the size."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] → [N, C, ⌈H / stride⌉, ⌈W / stride⌉]."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Images [N, 3, S, S] in [−1, 1] → embeddings [N, D], not normalised.

    Parameters
    ----------
    layers : sequence of 4 int
        Blocks of each stage; `LAYERS` has those of depth 18, 34, 50 and 100.
    channels : sequence of 4 int
        Channels of each stage; the stem has those of the first.
        More make the network wider and slower.
    embedding_dim : int
        D.
    image_size : int
        S, at least 16.

    Example
    -------
    >>> network = IResNet(LAYERS[18])
    >>> round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2)
    24.03
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512),
        embedding_dim: int = 512,
        image_size: int = 112,
    ):
        super().__init__()
        if len(layers) != 4 or len(channels) != 4 or min(*layers, *channels, embedding_dim) < 1 or image_size < 16:
            raise ValueError(
                f"an iresnet has four stages of at least one block and one channel, and images of at least 16 × 16; "
                f"got layers {list(layers)}, channels {list(channels)}, image_size {image_size}"
            )
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.prelu = nn.PReLU(channels[0])
        widths = [channels[0], *channels]
        for stage in range(4):
            sizes = [widths[stage], *[channels[stage]] * layers[stage]]
            blocks = [Block(*sizes[i : i + 2], stride=1 if i else 2) for i in range(layers[stage])]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3] * (-(-image_size // 16)) ** 2, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        self.features.weight.requires_grad_(False)  # the embedding is normalised later: one scale is enough
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)  # a batch norm follows each: only the directions matter

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, S, S] → [N, D]; the last layer in float32 under autocast too."""
        x = self.prelu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        x = self.bn2(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            return self.features(self.fc(x.float()))
