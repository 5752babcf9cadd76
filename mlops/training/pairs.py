"""Queries and the documents that answer them, and how well they find each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mlops.serving.adapter import Adapter, adapted_documents, adapted_queries
from mlops.serving.embedder import Vectors, normalised
from mlops.training.token_texts import Positions, TokenTexts

SEARCH_ROWS = 512
"""Queries that are compared with all documents at once: 20 MB for 10,000 documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTokens:
    """The texts of both sides before they are pooled."""

    queries: TokenTexts
    documents: TokenTexts
    table: Vectors
    """One row for each token of the encoder's vocabulary."""

    def vectors(
        self, weights: Vectors, which: Positions | slice = slice(None)
    ) -> tuple[Vectors, Vectors]:
        """Unit vectors of the queries `which`, and of all documents."""
        return (
            normalised(self.queries.rows(which).pooled(weights, self.table)),
            normalised(self.documents.pooled(weights, self.table)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """What is learned from: row i of `queries` belongs to row `positives[i]` of `documents`."""

    queries: Vectors
    documents: Vectors
    positives: Positions
    training: Positions
    """Rows of `queries` to train on."""
    validation: Positions
    """Rows of `queries` that say when to stop."""
    refused: dict[int, Positions] = field(default_factory=dict)
    """By row of `queries`: documents that were shown and were not right; drawn as negatives too."""
    tokens: PairTokens | None = None
    """Where the encoder pools tokens, whose weights can be learned too."""

    def __post_init__(self) -> None:
        for name, array in (("queries", self.queries), ("documents", self.documents)):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} hold numbers that are not finite")

    def adapted(self, which: Positions, adapter: Adapter | None) -> tuple[Vectors, Vectors]:
        """The queries `which` and all documents in the adapter's space; None: the encoder's own."""
        weights = None if adapter is None else adapter.token_weights
        if weights is None:
            queries, documents = self.queries[which], self.documents
        else:
            assert self.tokens is not None, "the adapter weighs tokens; none are known here"
            queries, documents = self.tokens.vectors(weights, which)
        return adapted_queries(queries, adapter), adapted_documents(documents, adapter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well queries find their own document among all."""

    mrr: float
    recall_at_1: float
    recall_at_5: float
    queries: int


def ranks_of(queries: Vectors, index: Vectors, positives: Positions) -> Positions:
    """For each query the rank of its document in the index, from 1.

    Documents that are equally near count as nearer: a model that tells nothing apart ranks last.
    """
    ranks = np.empty(len(queries), dtype=np.intp)
    for begin in range(0, len(queries), SEARCH_ROWS):
        part = slice(begin, begin + SEARCH_ROWS)
        similarities = queries[part] @ index.T
        own = similarities[np.arange(len(similarities)), positives[part]]
        ranks[part] = (similarities >= own[:, None]).sum(axis=1)
    return ranks


def ranks_with(pairs: Pairs, which: Positions, adapter: Adapter | None) -> Positions:
    """The same for the queries `which`, in the adapter's space; None: in the encoder's own."""
    return ranks_of(*pairs.adapted(which, adapter), pairs.positives[which])


def quality(pairs: Pairs, which: Positions, adapter: Adapter | None) -> Quality:
    """Rank every document for each query of `which`."""
    ranks = ranks_with(pairs, which, adapter)
    return Quality(
        mrr=float((1 / ranks).mean()),
        recall_at_1=float((ranks <= 1).mean()),
        recall_at_5=float((ranks <= 5).mean()),
        queries=len(which),
    )
