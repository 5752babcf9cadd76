"""What turns texts into vectors before any training: the frozen encoder of a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlops.serving.embedder import DIMENSION, EMBEDDING_MODEL, Embedder, Vectors


class Encoder(Protocol):
    """Equal texts give equal vectors, whatever else is in the batch."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors in single precision, one row for each text."""


class ServedEncoder:
    """The encoder that the model server has."""

    name = EMBEDDING_MODEL
    dimension = DIMENSION

    def __init__(self) -> None:
        self._embedder = Embedder()

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed(texts)
