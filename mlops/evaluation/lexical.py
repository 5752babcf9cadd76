"""The lexical baseline, BM25, and what it adds to a dense model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mlops.evaluation.metrics import Ranks
from mlops.serving.embedder import Vectors

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]

ROWS: Final = 256
"""Queries that are scored against all documents at once."""

LEXICAL_WEIGHT: Final = 0.5
"""Of the hybrid; the dense part has the rest."""


class Lexical:
    """BM25 (Robertson and Zaragoza 2009) over all documents, by the library bm25s."""

    def __init__(self, passages: Sequence[str]) -> None:
        import bm25s  # noqa: PLC0415  an extra, and slow to import

        self._library = bm25s
        self._index = bm25s.BM25()
        self._index.index(self._tokens(passages), show_progress=False)

    def scores(self, query: str) -> Scores:
        """One score for each document; 0 where they share no word."""
        tokens = self._tokens([query])[0]
        return np.asarray(self._index.get_scores(tokens), dtype=np.float32)

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        found: list[list[str]] = self._library.tokenize(
            list(texts), return_ids=False, show_progress=False
        )
        return found


def lexical_and_hybrid_ranks(
    lexical: Lexical, texts: Sequence[str], queries: Vectors, index: Vectors, positives: Positions
) -> tuple[Ranks, Ranks]:
    """Ranks of the right documents by BM25 alone, and by BM25 and the dense model together.

    Together: both scores of a query are scaled to 0..1 over the documents and averaged.
    """
    alone = np.empty(len(texts), dtype=np.intp)
    together = np.empty(len(texts), dtype=np.intp)
    for start in range(0, len(texts), ROWS):
        part = slice(start, start + ROWS)
        words = np.stack([lexical.scores(text) for text in texts[part]])
        dense = queries[part] @ index.T
        mixed = LEXICAL_WEIGHT * _scaled(words) + (1 - LEXICAL_WEIGHT) * _scaled(dense)
        alone[part] = _ranks(words, positives[part])
        together[part] = _ranks(mixed, positives[part])
    return alone, together


def _scaled(scores: Scores) -> Scores:
    low = scores.min(axis=1, keepdims=True)
    spread = np.maximum(scores.max(axis=1, keepdims=True) - low, np.float32(1e-9))
    scaled: Scores = (scores - low) / spread
    return scaled


def _ranks(scores: Scores, positives: Positions) -> Ranks:
    own = scores[np.arange(len(scores)), positives]
    ranks: Ranks = (scores >= own[:, None]).sum(axis=1)
    return ranks
