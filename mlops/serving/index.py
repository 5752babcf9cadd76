"""Exact nearest neighbours among a few thousand unit vectors: one matrix times one vector."""

from __future__ import annotations

import numpy as np

from mlops.serving.embedder import Vectors


class Index:
    """Rows of unit vectors; similarity is the cosine."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = np.ascontiguousarray(vectors)

    def __len__(self) -> int:
        return len(self._vectors)

    def row(self, number: int) -> Vectors:
        """One vector, as it lies here."""
        return np.asarray(self._vectors[number])

    def nearest(self, vector: Vectors, count: int) -> list[tuple[int, float]]:
        """The `count` nearest rows with their similarity, best first; equals by position."""
        similarities = self._vectors @ vector
        count = min(count, len(similarities))
        if count < len(similarities):
            rows = np.argpartition(-similarities, count)[:count]
        else:
            rows = np.arange(count)
        rows = rows[np.lexsort((rows, -similarities[rows]))]
        return [(int(row), float(similarities[row])) for row in rows]
