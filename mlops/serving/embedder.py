"""Frozen text embeddings: the mean of static token vectors, with weights from the wheel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

EMBEDDING_MODEL = "wordllama-l2-supercat-256"
DIMENSION = 256

MAX_TOKENS = 2_048
"""Tokens of one text that count. Bounds the memory of one text to 2 MB."""

Vectors = npt.NDArray[np.float32]


class Embedder:
    """Turns texts into unit vectors. Equal texts give equal bytes, alone or in a batch."""

    def __init__(self) -> None:
        # Importing it takes 0.3 s and configures logging: only for those who embed.
        import wordllama  # noqa: PLC0415

        weights = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )
        self._table: Vectors = weights.embedding
        self._tokenizer: Any = weights.tokenizer
        self._tokenizer.no_padding()

    def token_ids(self, text: str) -> list[int]:
        """The tokens of one text, not shortened."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def embed_one(self, text: str) -> tuple[Vectors, int]:
        """One unit vector, and how many tokens the text has."""
        ids = self.token_ids(text)
        return normalised(self._mean(ids)), len(ids)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one row for each text."""
        return self.embed_counted(texts)[0]

    def embed_counted(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """The same, and how many tokens each text has."""
        rows = np.empty((len(texts), DIMENSION), dtype=np.float32)
        counts = []
        for row, text in zip(rows, texts, strict=True):
            ids = self.token_ids(text)
            row[:] = self._mean(ids)
            counts.append(len(ids))
        return normalised(rows), counts

    def _mean(self, ids: list[int]) -> Vectors:
        if not ids:
            return np.zeros(DIMENSION, dtype=np.float32)
        mean: Vectors = self._table[ids[:MAX_TOKENS]].mean(axis=0, dtype=np.float32)
        return mean


def normalised(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a row of zeros stays zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return units
