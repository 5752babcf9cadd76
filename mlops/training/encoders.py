"""What turns texts into vectors before any training: the frozen encoder of a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from mlops.serving.embedder import DIMENSION, Embedder, Vectors, strengths_of
from mlops.training.token_texts import TokenTexts


class Encoder(Protocol):
    """Equal texts give equal vectors, whatever else is in the batch."""

    @property
    def name(self) -> str:
        """Of the encoder and its weights: equal names give equal vectors."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

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
        """The model's; with token weights it ends with their digest."""
        return self._embedder.name

    @property
    def table(self) -> Vectors:
        """Shape (tokens of the vocabulary, `DIMENSION`), single precision."""
        return self._embedder.table

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (texts, `DIMENSION`), single precision; a text without tokens gives zeros."""
        return self._embedder.embed(texts)

    def tokens(self, texts: Sequence[str]) -> TokenTexts:
        """Row i counts each token of text i by 1 + ln of how often it comes."""
        found = [strengths_of(self._embedder.token_ids(text)) for text in texts]
        return TokenTexts.of(found, len(self.table))

    def weighted(self, token_weights: Vectors | None) -> ServedEncoder:
        """Raises ValueError: there are not as many weights as tokens."""
        return ServedEncoder(self._embedder.weighted(token_weights))
