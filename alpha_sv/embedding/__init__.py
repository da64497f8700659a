"""Waveforms to embeddings, and embeddings on disk."""

from alpha_sv.embedding.store import EmbeddingStore

__all__ = ["EmbeddingStore", "SpeakerEmbedder"]


def __getattr__(name: str) -> object:
    # PEP 562: who only reads a store, as scoring does, need not wait for torch
    if name == "SpeakerEmbedder":
        from alpha_sv.embedding.embedder import SpeakerEmbedder

        return SpeakerEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
