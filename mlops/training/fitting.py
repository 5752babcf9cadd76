"""A linear adapter on frozen embeddings, fitted by in-batch softmax over the training pairs.

Each summary must find its own body among those of its batch, and each body its summary (a
symmetric contrastive loss: van den Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021,
arXiv:2103.00020).
Adam (Kingma and Ba 2015, arXiv:1412.6980) starts from the identity, that is from the base model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.serving.embedder import DIMENSION, Vectors, normalised
from mlops.serving.model import adapted

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to fit. The defaults were chosen on the validation pairs."""

    batch_pairs: int = 256
    learning_rate: float = 1e-3
    temperature: float = 0.035
    max_epochs: int = 40
    patience_epochs: int = 4
    """Stop after this many epochs without a better validation MRR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well queries find their own document among all."""

    mrr: float
    recall_at_1: float
    recall_at_5: float
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted adapter, with the epoch that it comes from."""

    weights: Vectors
    epoch: int
    validation_mrr: float


class Adam:
    """Adam for one matrix."""

    BETA_1 = 0.9
    BETA_2 = 0.999
    EPSILON = 1e-8

    def __init__(self, weights: Vectors, learning_rate: float) -> None:
        self._mean = np.zeros_like(weights)
        self._square = np.zeros_like(weights)
        self._rate = learning_rate
        self._steps = 0

    def step(self, weights: Vectors, gradient: Vectors) -> Vectors:
        """The weights after one step against `gradient`."""
        self._steps += 1
        self._mean += (1 - self.BETA_1) * (gradient - self._mean)
        self._square += (1 - self.BETA_2) * (gradient * gradient - self._square)
        mean = self._mean / (1 - self.BETA_1**self._steps)
        square = self._square / (1 - self.BETA_2**self._steps)
        change: Vectors = self._rate * mean / (np.sqrt(square) + self.EPSILON)
        return weights - change.astype(np.float32)


def fit(
    queries: Vectors,
    documents: Vectors,
    *,
    training: Positions,
    validation: Positions,
    seed: int,
    settings: FitSettings,
) -> Fit:
    """Fit on the `training` pairs, keep the epoch best on the `validation` pairs.

    Row i of `queries` belongs to row i of `documents`. Same arguments, same bytes.
    """
    generator = np.random.default_rng(seed)
    weights: Vectors = np.eye(DIMENSION, dtype=np.float32)
    optimiser = Adam(weights, settings.learning_rate)
    best = Fit(weights=weights, epoch=0, validation_mrr=_mrr(queries, documents, validation, None))
    for epoch in range(1, settings.max_epochs + 1):
        order = generator.permutation(training)
        for start in range(0, len(order), settings.batch_pairs):
            batch = order[start : start + settings.batch_pairs]
            _, gradient = loss_and_gradient(
                queries[batch], documents[batch], weights, settings.temperature
            )
            weights = optimiser.step(weights, gradient)
        mrr = _mrr(queries, documents, validation, weights)
        if mrr > best.validation_mrr:
            best = Fit(weights=weights, epoch=epoch, validation_mrr=mrr)
        elif epoch - best.epoch >= settings.patience_epochs:
            break
    return best


def loss_and_gradient(
    queries: Vectors, documents: Vectors, weights: Vectors, temperature: float
) -> tuple[float, Vectors]:
    """The symmetric in-batch loss, and its gradient by the adapter's weights."""
    query_side, document_side = queries @ weights, documents @ weights
    query_units, document_units = normalised(query_side), normalised(document_side)
    logits = query_units @ document_units.T / np.float32(temperature)
    by_query, by_document = _softmax(logits, axis=1), _softmax(logits, axis=0)
    pairs = np.arange(len(queries))
    own = np.stack((by_query[pairs, pairs], by_document[pairs, pairs]))
    loss = -float(np.log(np.maximum(own, 1e-30)).mean())
    slope: Vectors = (by_query + by_document) / np.float32(2)
    slope[pairs, pairs] -= 1
    slope /= np.float32(len(queries) * temperature)
    to_documents: Vectors = slope @ document_units
    to_queries: Vectors = slope.T @ query_units
    by_queries: Vectors = queries.T @ _through_unit(to_documents, query_side, query_units)
    by_documents: Vectors = documents.T @ _through_unit(to_queries, document_side, document_units)
    gradient: Vectors = by_queries + by_documents
    return loss, gradient


def quality(
    queries: Vectors, documents: Vectors, which: Positions, adapter: Vectors | None
) -> Quality:
    """Rank every document for each query of `which`; its own is the right one."""
    index = adapted(documents, adapter)
    similarities = adapted(queries[which], adapter) @ index.T
    own = similarities[np.arange(len(which)), which]
    ranks = 1 + (similarities > own[:, None]).sum(axis=1)
    return Quality(
        mrr=float((1 / ranks).mean()),
        recall_at_1=float((ranks <= 1).mean()),
        recall_at_5=float((ranks <= 5).mean()),
        queries=len(which),
    )


def worse_adapter(rank: int, seed: int) -> Vectors:
    """A projection on `rank` random directions: an adapter that forgets most of what a text says.

    A real fault of a training run (a collapsed representation), not a staged one: it answers
    quickly and validly, with worse documents.
    """
    directions = np.random.default_rng(seed).standard_normal((DIMENSION, rank))
    basis, _ = np.linalg.qr(directions)
    projection: Vectors = (basis @ basis.T).astype(np.float32)
    return projection


def _mrr(queries: Vectors, documents: Vectors, which: Positions, adapter: Vectors | None) -> float:
    return quality(queries, documents, which, adapter).mrr


def _softmax(logits: Vectors, axis: int) -> Vectors:
    powers: Vectors = np.exp(logits - logits.max(axis=axis, keepdims=True))
    total: Vectors = powers.sum(axis=axis, keepdims=True)
    return powers / total


def _through_unit(gradient: Vectors, vectors: Vectors, units: Vectors) -> Vectors:
    """Back through the scaling to length 1: what points along the vector has no effect."""
    along = (gradient * units).sum(axis=1, keepdims=True)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    back: Vectors = (gradient - along * units) / lengths
    return back
