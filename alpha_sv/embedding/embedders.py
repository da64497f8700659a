"""The earlier name of `alpha_sv.embedding.embedder`, for recipes and scripts that use it."""

import warnings

from alpha_sv.embedding import embedder


def __getattr__(name: str) -> object:
    if not hasattr(embedder, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("alpha_sv.embedding.embedders is now alpha_sv.embedding.embedder", FutureWarning, stacklevel=2)
    return getattr(embedder, name)
