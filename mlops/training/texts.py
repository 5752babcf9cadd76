"""The texts of a training as its steps see them: frozen vectors, or tokens whose weights it learns.

Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from mlops.serving.embedder import Vectors
from mlops.training.adam import Adam
from mlops.training.pairs import Pairs, PairTokens
from mlops.training.token_texts import Positions

Both = tuple[Vectors, Vectors]
"""Of queries, and of documents."""


class Texts(Protocol):
    """Both sides of the pairs as training sees them at this moment."""

    def begun(self) -> Pairs:
        """All of them as vectors, before anything is learned."""

    def weights(self) -> Vectors | None:
        """Of all tokens now; None where there are none to learn."""

    def batch(self, rows: Positions, columns: Positions) -> Both:
        """Unit vectors of some queries and some documents."""

    def learn(self, slopes: Both, maps: Both) -> None:
        """One step against the slopes by the last batch's vectors as the maps made them."""


def texts_of(pairs: Pairs, *, learning_rate: float, decay: float) -> Texts:
    """Where tokens are known, their weights are learned; `decay` pulls them towards 1."""
    if pairs.tokens is None:
        return _FrozenTexts(pairs)
    return _WeightedTexts(pairs, pairs.tokens, learning_rate, decay)


class _FrozenTexts:
    """Vectors that stay as they are."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def begun(self) -> Pairs:
        return self._pairs

    def weights(self) -> None:
        return None

    def batch(self, rows: Positions, columns: Positions) -> Both:
        return self._pairs.queries[rows], self._pairs.documents[columns]

    def learn(self, slopes: Both, maps: Both) -> None:
        """Nothing to learn."""


class _WeightedTexts:
    """Each token has a weight, at first 1, of which the logarithm is learned."""

    def __init__(
        self, pairs: Pairs, tokens: PairTokens, learning_rate: float, decay: float
    ) -> None:
        self._pairs = pairs
        self._vocabulary = len(tokens.table)
        self._used = np.union1d(tokens.queries.used(), tokens.documents.used())
        self._tokens = PairTokens(
            queries=tokens.queries.of_vocabulary(self._used),
            documents=tokens.documents.of_vocabulary(self._used),
            table=tokens.table[self._used],
        )
        self._logarithms: Vectors = np.zeros(len(self._used), dtype=np.float32)
        self._optimiser = Adam(self._logarithms, learning_rate)
        self._decay = decay

    def begun(self) -> Pairs:
        queries, documents = self._tokens.vectors(np.exp(self._logarithms))
        return replace(self._pairs, queries=queries, documents=documents, tokens=None)

    def weights(self) -> Vectors:
        found: Vectors = np.ones(self._vocabulary, dtype=np.float32)
        found[self._used] = np.exp(self._logarithms)
        return found

    def batch(self, rows: Positions, columns: Positions) -> Both:
        weights, table = np.exp(self._logarithms), self._tokens.table
        self._batch = (self._tokens.queries.rows(rows), self._tokens.documents.rows(columns))
        queries, documents = (side.pooled(weights, table) for side in self._batch)
        self._lengths = (_lengths(queries), _lengths(documents))
        return queries / self._lengths[0], documents / self._lengths[1]

    def learn(self, slopes: Both, maps: Both) -> None:
        # The loss does not see lengths: none of these slopes points along its vector.
        gradient = np.zeros_like(self._logarithms)
        for side, lengths, slope, weights in zip(
            self._batch, self._lengths, slopes, maps, strict=True
        ):
            gradient += side.weight_gradient(slope @ weights.T / lengths, self._tokens.table)
        gradient = np.exp(self._logarithms) * gradient + self._decay * self._logarithms
        self._logarithms = self._optimiser.step(self._logarithms, gradient)


def _lengths(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.maximum(lengths, np.float32(1e-12))
