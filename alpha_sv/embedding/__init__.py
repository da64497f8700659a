"""Waveforms to embeddings, and embeddings on disk."""

from alpha_sv.embedding.embedders import SpeakerEmbedder
from alpha_sv.embedding.store import EmbeddingStore

__all__ = ["EmbeddingStore", "SpeakerEmbedder"]
