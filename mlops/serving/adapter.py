"""A linear adapter on frozen embeddings: one map for queries, one for documents. Pure.

It may bring a weight for each token of the encoder too; then the vectors that it maps are those of
the encoder with these weights.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Self
from zipfile import BadZipFile

import numpy as np

from mlops.serving.embedder import Vectors, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Both maps, of shape (dimension, dimension), into one space in which nearness is relevance."""

    queries: Vectors
    documents: Vectors
    token_weights: Vectors | None = None
    """Of the encoder's whole vocabulary; None: it pools by the mean."""

    def __post_init__(self) -> None:
        if self.queries.ndim != 2:
            raise ValueError(f"queries: shape {self.queries.shape}; expected two equal dimensions")
        shape = (self.dimension, self.dimension)
        for name, weights in (("queries", self.queries), ("documents", self.documents)):
            if weights.shape != shape or weights.dtype != np.float32:
                raise ValueError(
                    f"{name}: {weights.dtype} of shape {weights.shape}; expected float32 of {shape}"
                )
            if not np.isfinite(weights).all():
                raise ValueError(f"{name}: numbers that are not finite")
        tokens = self.token_weights
        if tokens is None:
            return
        if tokens.ndim != 1 or tokens.dtype != np.float32:
            raise ValueError(
                f"token_weights: {tokens.dtype} of shape {tokens.shape}; "
                "expected float32, one for each token"
            )
        if not (np.isfinite(tokens) & (tokens >= 0)).all():
            raise ValueError("token_weights: numbers below 0, or not finite")

    @classmethod
    def identity(cls, dimension: int) -> Self:
        """The one that changes nothing."""
        weights: Vectors = np.eye(dimension, dtype=np.float32)
        return cls(queries=weights, documents=weights)

    @property
    def dimension(self) -> int:
        """Numbers in a vector, before and after."""
        return len(self.queries)

    @property
    def nbytes(self) -> int:
        """Of all numbers."""
        tokens = 0 if self.token_weights is None else self.token_weights.nbytes
        return self.queries.nbytes + self.documents.nbytes + tokens

    def to_bytes(self) -> bytes:
        """As a file of numpy's; `from_bytes` reads it."""
        content = BytesIO()
        if self.token_weights is None:
            np.savez(content, queries=self.queries, documents=self.documents)
        else:  # other names: a server that knows no token weights must refuse these maps
            np.savez(
                content,
                weighted_queries=self.queries,
                weighted_documents=self.documents,
                token_weights=self.token_weights,
            )
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` wrote.

        A file of the one array `weights` has the same map on both sides.

        Raises:
            ValueError: it is no such file, or what it holds is no adapter.
        """
        try:
            file = np.load(BytesIO(content), allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("one array; expected two")  # noqa: TRY004  the file's fault
            with file:
                if "weights" in file:
                    return cls(queries=file["weights"], documents=file["weights"])
                if "token_weights" in file:
                    return cls(
                        queries=file["weighted_queries"],
                        documents=file["weighted_documents"],
                        token_weights=file["token_weights"],
                    )
                return cls(queries=file["queries"], documents=file["documents"])
        except (KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(f"expected arrays in a zip file of numpy's: {error}") from error


def adapted_each(vectors: Vectors, weights: Vectors) -> Vectors:
    """Every row as it would be alone, to the last bit: one product of all rounds otherwise."""
    return normalised(np.stack([vector @ weights for vector in vectors]))


def adapted_queries(vectors: Vectors, adapter: Adapter | None) -> Vectors:
    """Unit vectors of queries in the version's space; the same ones where nothing was trained."""
    return vectors if adapter is None else normalised(vectors @ adapter.queries)


def adapted_documents(vectors: Vectors, adapter: Adapter | None) -> Vectors:
    """Unit vectors of documents in the version's space; the same ones where nothing was trained."""
    return vectors if adapter is None else normalised(vectors @ adapter.documents)
