"""From face images to embeddings:
an iresnet with its normalisation of pixels, saved as weights plus JSON."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.face.iresnet import LAYERS, IResNet

_MOST_WEIGHTS = 200_000_000


class FaceEmbedder(SpeakerEmbedder):
    """Aligned faces, uint8 [N, 3, S, S] in RGB, → embeddings [N, D].
    Saved and loaded as a speaker embedder is.

    Parameters
    ----------
    depth : {18, 34, 50, 100}, optional
        Depth of a published iresnet; for any other network give `layers`.
    layers, channels : sequence of 4 int, optional
        Blocks and channels of the four stages; by default those of `depth`, and 64, 128, 256, 512.
    embedding_dim : int
        D.
    image_size : int
        S, pixels; 112 in all published work.

    Raises
    ------
    ValueError
        Neither depth nor layers, or sizes beyond those of any network for faces (2 · 10^8 weights).

    Example
    -------
    >>> embedder = FaceEmbedder(
    ...     layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], embedding_dim=16, image_size=32
    ... )
    >>> embedder.embed_batch(np.zeros((2, 3, 32, 32), np.uint8)).shape
    (2, 16)
    """

    def __init__(
        self,
        depth: int | None = None,
        layers: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        embedding_dim: int = 512,
        image_size: int = 112,
    ):
        nn.Module.__init__(self)
        if (depth is None) == (layers is None) or depth not in (None, *LAYERS):
            raise ValueError(f"give depth, one of {', '.join(map(str, LAYERS))}, or layers; got {depth!r}, {layers!r}")
        layers, channels = layers or LAYERS[depth], channels or (64, 128, 256, 512)
        self.config = {
            "layers": [int(n) for n in layers],
            "channels": [int(n) for n in channels],
            "embedding_dim": int(embedding_dim),
            "image_size": int(image_size),
        }
        if max(layers) > 256 or max(*channels, embedding_dim, image_size) > 4096:
            raise ValueError(f"no network for faces has such sizes: {self.config}")
        with torch.device("meta"):  # shapes without memory
            weights = sum(tensor.numel() for tensor in IResNet(**self.config).state_dict().values())
        if weights > _MOST_WEIGHTS:
            raise ValueError(f"{weights:.2g} weights, more than {_MOST_WEIGHTS:.0e}: make the sizes smaller")
        self.backbone = IResNet(**self.config)

    @property
    def image_size(self) -> int:
        return self.config["image_size"]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] → embeddings [N, D], not normalised."""
        if images.shape[1:] != (3, self.image_size, self.image_size):
            raise ValueError(
                f"this model takes images [N, 3, {self.image_size}, {self.image_size}], got {images.shape}"
            )
        return self.backbone(images.float() / 127.5 - 1)

    def embed_twice(self, images: Iterable[np.ndarray], batch_size: int = 64) -> Iterator[np.ndarray]:
        """Images uint8 [S, S, 3], in turn → float32 [n, 2, D] by batch:
        of each, and of its mirror image."""
        batch: list[np.ndarray] = []
        for image in images:
            batch.append(image)
            if len(batch) == batch_size:
                yield self._twice(batch)
                batch = []
        if batch:
            yield self._twice(batch)

    def _twice(self, batch: list[np.ndarray]) -> np.ndarray:
        straight = np.stack(batch).transpose(0, 3, 1, 2)
        both = [self.embed_batch(np.ascontiguousarray(side)) for side in (straight, straight[..., ::-1])]
        return np.stack(both, axis=1)


def from_insightface(path: str | os.PathLike) -> FaceEmbedder:
    """A FaceEmbedder with the weights of one of insightface's
    PyTorch checkpoints (a state dict of an iresnet).

    Sizes are read off the weights. Nothing is unpickled but tensors.

    Raises
    ------
    ValueError
        The file is not a state dict of an iresnet.
    """
    try:
        weights = torch.load(path, weights_only=True, map_location="cpu")
        blocks = {name.rpartition(".conv1.weight")[0] for name in weights if name.endswith(".conv1.weight")}
        layers = [sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in (1, 2, 3, 4)]
        channels = [len(weights[f"layer{stage}.0.conv1.weight"]) for stage in (1, 2, 3, 4)]
        dim, inputs = weights["fc.weight"].shape
        size = 16 * round((inputs / channels[3]) ** 0.5)
        embedder = FaceEmbedder(layers=layers, channels=channels, embedding_dim=dim, image_size=size)
        embedder.backbone.load_state_dict(weights)
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not the state dict of an iresnet, as insightface publishes them: {error}"
        ) from error
    return embedder.eval()
