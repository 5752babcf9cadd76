"""Frozen text embeddings: static token vectors from the wheel, pooled into one for each text.

Pooled by their mean, as the model's authors do; or, where a version has learned how much each token
tells, by their weighted sum, in which the second occurrence of a token counts less than the first
(1 + ln count, as in lexical search; Salton and Buckley 1988). Long texts repeat what says least.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

EMBEDDING_MODEL = "wordllama-l2-supercat-256"
DIMENSION = 256

MAX_TOKENS = 2_048
"""Tokens of one text that count. Bounds the memory of one text to 2 MB."""

Vectors = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.intp]


class Embedder:
    """Turns texts into unit vectors. Equal texts give equal bytes, alone or in a batch."""

    def __init__(self) -> None:
        # Importing it takes 0.3 s and configures logging: only for those who embed.
        import wordllama  # noqa: PLC0415

        weights = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )
        self.table: Vectors = weights.embedding
        """One row for each token of the vocabulary."""
        self.name = EMBEDDING_MODEL
        """Other ways of pooling have other names."""
        self._tokenizer: Any = weights.tokenizer
        self._tokenizer.no_padding()
        self._token_weights: Vectors | None = None

    def weighted(self, token_weights: Vectors | None) -> Self:
        """The same encoder with a weight for each token; None: the mean.

        Raises:
            ValueError: they are not as many as there are tokens.
        """
        if token_weights is not None and token_weights.shape != self.table.shape[:1]:
            raise ValueError(
                f"{len(token_weights)} token weights; {EMBEDDING_MODEL!r} has {len(self.table)} "
                "tokens"
            )
        other = copy(self)  # table and tokenizer are shared
        other._token_weights = token_weights  # noqa: SLF001  of our own kind
        other.name = EMBEDDING_MODEL
        if token_weights is not None:
            digest = blake2b(token_weights.tobytes(), digest_size=8).hexdigest()
            other.name = f"{EMBEDDING_MODEL}-{digest}"
        return other

    def token_ids(self, text: str) -> list[int]:
        """The tokens of one text, not shortened."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def embed_one(self, text: str) -> tuple[Vectors, int]:
        """One unit vector, and how many tokens the text has."""
        ids = self.token_ids(text)
        return normalised(self._pooled(ids)), len(ids)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one row for each text."""
        return self.embed_counted(texts)[0]

    def embed_counted(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """The same, and how many tokens each text has."""
        rows = np.empty((len(texts), DIMENSION), dtype=np.float32)
        counts = []
        for row, text in zip(rows, texts, strict=True):
            ids = self.token_ids(text)
            row[:] = self._pooled(ids)
            counts.append(len(ids))
        return normalised(rows), counts

    def _pooled(self, ids: list[int]) -> Vectors:
        if not ids:
            return np.zeros(DIMENSION, dtype=np.float32)
        if self._token_weights is None:
            mean: Vectors = self.table[ids[:MAX_TOKENS]].mean(axis=0, dtype=np.float32)
            return mean
        tokens, strengths = strengths_of(ids)
        weights: Vectors = strengths * self._token_weights[tokens]
        return weights @ self.table[tokens]


def strengths_of(ids: Sequence[int]) -> tuple[Tokens, Vectors]:
    """The different tokens of a text, and how strongly each is there, before any weight."""
    tokens, counts = np.unique(np.asarray(ids[:MAX_TOKENS], dtype=np.intp), return_counts=True)
    return tokens, (1 + np.log(counts)).astype(np.float32)


def normalised(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a row of zeros stays zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return units
