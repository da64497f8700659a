"""What scoring needs of an embedding store: the rows of the utterances that trials name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from alpha_sv.data.trials.name_column import Names
from alpha_sv.files import spelled


class Store(Protocol):
    """As much of `alpha_sv.embedding.EmbeddingStore` as scoring asks for."""

    ids: list[str]
    matrix: np.ndarray

    def rows(self, ids: Sequence[str]) -> np.ndarray: ...


def store_rows(store: Store, ids: Sequence[str]) -> np.ndarray:
    """Row numbers of `ids` in the store, int64 [len(ids)];
    a ValueError counts and shows those missing."""
    known = set(store.ids)
    ids = spelled(ids, known)
    missing = [utterance for utterance in dict.fromkeys(ids) if utterance not in known]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(set(ids))} utterances named are not among the {len(known)} of the "
            f"embedding store (such as {', '.join(map(repr, missing[:3]))}; the store holds names like "
            f"{', '.join(map(repr, list(store.ids)[:2]))}); "
            "extract their embeddings, or check that the paths in the list start at the data root"
        )
    return np.asarray(store.rows(ids), dtype=np.int64)


def named_rows(store: Store, *sides: Names) -> list[np.ndarray]:
    """Row numbers of each side in the store, int64 [N];
    every name is looked up once. Errors as `store_rows`."""
    both = Names.of(*sides)
    used = np.zeros(len(both.table), dtype=bool)
    used[both.codes] = True
    rows = np.empty(len(both.table), dtype=np.int64)
    rows[used] = store_rows(store, [name for name, there in zip(both.table.to_pylist(), used, strict=True) if there])
    return np.split(rows[both.codes], np.cumsum([len(side) for side in sides])[:-1])
