"""Prototypes and loss in one module: embeddings and labels in, scalar loss out."""

from alpha_sv.heads.cosine import CosineHead

__all__ = ["CosineHead"]
