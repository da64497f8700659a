"""A stand-in for an embedding store: what scoring needs of one, in memory."""

import numpy as np


class Store:
    """Embeddings in memory, with the interface of an embedding store."""

    def __init__(self, ids, matrix):
        self.ids, self.matrix = list(ids), matrix
        self._row = {name: row for row, name in enumerate(self.ids)}

    def rows(self, ids):
        return np.array([self._row[name] for name in ids], dtype=np.int64)
