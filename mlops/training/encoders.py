"""What turns texts into vectors before any training: the frozen encoder of a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from mlops.serving.embedder import DIMENSION, Embedder, Vectors, strengths_of
from mlops.training.token_texts import TokenTexts


class Encoder(Protocol):
    """Equal texts give equal vectors, whatever else is in the batch."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors in single precision, one row for each text."""


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """One that pools vectors of its tokens, each of which may get a weight."""

    @property
    def table(self) -> Vectors:
        """One row for each token of its vocabulary."""

    def tokens(self, texts: Sequence[str]) -> TokenTexts:
        """What it would pool."""

    def weighted(self, token_weights: Vectors | None) -> Self:
        """The same with a weight for each token; None: as it was frozen."""


class ServedEncoder:
    """The encoder that the model server has."""

    dimension = DIMENSION

    def __init__(self, embedder: Embedder | None = None) -> None:
        self._embedder = embedder or Embedder()

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def table(self) -> Vectors:
        return self._embedder.table

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed(texts)

    def tokens(self, texts: Sequence[str]) -> TokenTexts:
        found = [strengths_of(self._embedder.token_ids(text)) for text in texts]
        return TokenTexts.of(found, len(self.table))

    def weighted(self, token_weights: Vectors | None) -> ServedEncoder:
        return ServedEncoder(self._embedder.weighted(token_weights))
