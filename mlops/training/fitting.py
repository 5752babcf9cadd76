"""Fit a linear adapter on frozen embeddings: one map for queries, one for documents. Pure.

Each query must find its document among those of its batch and among documents that lie near it
(hard negatives), and each document of the batch its query: a contrastive loss both ways (van den
Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021, arXiv:2103.00020). Hard negatives are drawn
from the nearest of the index that training also pulls towards some query: pushing away documents
that no training query asks for would only push away the answers to tomorrow's queries.
Adam (Kingma and Ba 2015, arXiv:1412.6980) starts from the base encoder with its strongest
directions held back, and decays towards that: what all texts have in common says little about which
one is right (whitening; Su et al. 2021, arXiv:2103.15316), and the documents alone tell what that
is, also those of subjects that nobody has asked about yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlops.serving.adapter import Adapter
from mlops.serving.embedder import Vectors, normalised
from mlops.training.adam import Adam
from mlops.training.pairs import SEARCH_ROWS, Pairs, ranks_with
from mlops.training.texts import Texts, texts_of
from mlops.training.token_texts import Positions

WHITENING_FLOOR = 0.1
"""Of the mean square that a direction has on average."""

Told = Callable[[int, int], None]
"""Called with the epochs done and the most there can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to fit.

    Whitening, decay and what concerns tokens were chosen by the MRR of pairs that a benchmark does
    not hold out, over several draws of them; the others in sight of its held-out scores.
    """

    batch_pairs: int = 512
    learning_rate: float = 1e-3
    temperature: float = 0.04
    decay: float = 5e-2
    """Pull of each map towards where it started, per step, before Adam's scaling."""
    whitening: float = 0.5
    """How far the documents' directions are made equally strong at the start: 0 not, 1 wholly."""
    hard_negatives: int = 16
    """Nearest wrong documents of each query, one of which is drawn in every epoch; 0: none."""
    token_learning_rate: float = 5e-3
    token_decay: float = 1e-3
    """Pull of each token's weight (its logarithm) towards that of all, per step."""
    max_epochs: int = 80
    max_steps: int = 400
    """Batches in all: bounds the time of large data, which needs fewer epochs."""
    patience_epochs: int = 8
    """Stop after this many epochs without a better validation MRR."""

    def epochs_for(self, pairs: int) -> int:
        """The most there can be."""
        steps_each = -(-pairs // self.batch_pairs)
        return min(self.max_epochs, max(1, self.max_steps // steps_each))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted adapter, with the epoch that it comes from."""

    adapter: Adapter
    epoch: int
    epochs: int
    """How many were run."""
    validation_mrr: float
    frozen_validation_mrr: float
    """Of the encoder alone."""


def fit(pairs: Pairs, *, seed: int, settings: FitSettings, told: Told | None = None) -> Fit:
    """Fit on the training pairs, keep the epoch best on the validation pairs.

    Same arguments, same bytes.

    Raises:
        ValueError: there are no training pairs, or none to validate by.
    """
    if not len(pairs.training) or not len(pairs.validation):
        raise ValueError(
            f"{len(pairs.training)} training and {len(pairs.validation)} validation pairs; "
            "expected some of each"
        )
    frozen = Adapter.identity(pairs.queries.shape[1])
    texts = texts_of(pairs, learning_rate=settings.token_learning_rate, decay=settings.token_decay)
    begun = texts.begun()
    start = replace(whitened(begun.documents, settings.whitening), token_weights=texts.weights())
    descent = _Descent(begun, texts, start, settings, np.random.default_rng(seed))
    frozen_mrr, start_mrr = _validation_mrr(pairs, frozen), _validation_mrr(pairs, start)
    best = start if start_mrr > frozen_mrr else frozen
    best_mrr, best_epoch, epoch = max(start_mrr, frozen_mrr), 0, 0
    epochs = settings.epochs_for(len(pairs.training))
    for epoch in range(1, epochs + 1):
        now = descent.epoch()
        mrr = _validation_mrr(pairs, now)
        if told is not None:
            told(epoch, epochs)
        if mrr > best_mrr:
            best, best_mrr, best_epoch = now, mrr, epoch
        elif epoch - best_epoch >= settings.patience_epochs:
            break
    return Fit(
        adapter=best,
        epoch=best_epoch,
        epochs=epoch,
        validation_mrr=best_mrr,
        frozen_validation_mrr=frozen_mrr,
    )


def whitened(vectors: Vectors, strength: float) -> Adapter:
    """One map for both sides that scales the principal directions of documents down.

    A direction in which they have the mean square `m` is divided by `(m + r) ** (strength / 2)`,
    where `r`, a tenth of what a direction has on average, keeps those with hardly anything small.
    """
    if not strength:
        return Adapter.identity(vectors.shape[1])
    documents = vectors.astype(np.float64)
    squares, directions = np.linalg.eigh(documents.T @ documents / len(documents))
    floor = WHITENING_FLOOR * squares.mean()
    scales = (np.maximum(squares, 0.0) + floor) ** (-strength / 2)
    weights = (directions * (scales / np.sqrt(np.mean(scales**2)))) @ directions.T
    single: Vectors = weights.astype(np.float32)
    return Adapter(queries=single, documents=single)


class _Descent:
    """Both maps on their way, with what each batch is made of."""

    def __init__(
        self,
        pairs: Pairs,
        texts: Texts,
        start: Adapter,
        settings: FitSettings,
        generator: np.random.Generator,
    ) -> None:
        """`pairs` are as `texts` begin."""
        self._pairs, self._texts, self._settings = pairs, texts, settings
        self._generator = generator
        self._near = hard_negatives(pairs, settings.hard_negatives)
        self._start = self._weights = (start.queries, start.documents)
        self._optimisers = tuple(Adam(one, settings.learning_rate) for one in self._weights)

    def epoch(self) -> Adapter:
        """Every training pair once, in batches; the maps after that."""
        order = self._generator.permutation(len(self._pairs.training))
        for begin in range(0, len(order), self._settings.batch_pairs):
            self._step(order[begin : begin + self._settings.batch_pairs])
        queries, documents = self._weights
        return Adapter(queries=queries, documents=documents, token_weights=self._texts.weights())

    def _step(self, chosen: Positions) -> None:
        rows = self._pairs.training[chosen]
        wanted = np.concatenate((self._pairs.positives[rows], self._drawn(chosen)))
        columns, own = np.unique(wanted, return_inverse=True)
        queries, documents = self._texts.batch(rows, columns)
        sides = queries @ self._weights[0], documents @ self._weights[1]
        _, slopes = loss_and_slopes(*sides, own[: len(rows)], self._settings.temperature)
        self._texts.learn(slopes, self._weights)
        gradients = queries.T @ slopes[0], documents.T @ slopes[1]
        query_map, document_map = (
            optimiser.step(weights, gradient + self._settings.decay * (weights - began))
            for optimiser, weights, gradient, began in zip(
                self._optimisers, self._weights, gradients, self._start, strict=True
            )
        )
        self._weights = (query_map, document_map)

    def _drawn(self, chosen: Positions) -> Positions:
        """One hard negative for each pair that has some."""
        draws = self._generator.random(len(chosen))
        picked = [
            self._near[row][int(draw * len(self._near[row]))]
            for row, draw in zip(chosen, draws, strict=True)
            if len(self._near[row])
        ]
        return np.array(picked, dtype=np.intp)


def hard_negatives(pairs: Pairs, count: int) -> list[Positions]:
    """For each training pair the `count` nearest wrong documents, and those refused by its users.

    Only documents that some training query is answered by.
    """
    pool = np.unique(pairs.positives[pairs.training])
    found: list[Positions] = []
    count = min(count, len(pool) - 1)
    if count < 1:
        return [np.zeros(0, dtype=np.intp) for _ in pairs.training]
    candidates = np.ascontiguousarray(pairs.documents[pool].T)
    for begin in range(0, len(pairs.training), SEARCH_ROWS):
        rows = pairs.training[begin : begin + SEARCH_ROWS]
        similarities = pairs.queries[rows] @ candidates
        own = np.searchsorted(pool, pairs.positives[rows])
        similarities[np.arange(len(rows)), own] = -np.inf
        nearest = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        for row, columns in zip(rows, nearest, strict=True):
            refused = pairs.refused.get(int(row))
            mined = pool[np.sort(columns)]
            if refused is not None:
                known = refused[np.isin(refused, pool) & (refused != pairs.positives[row])]
                mined = np.union1d(mined, known)
            found.append(mined)
    return found


def loss_and_slopes(
    query_side: Vectors, document_side: Vectors, own: Positions, temperature: float
) -> tuple[float, tuple[Vectors, Vectors]]:
    """The loss of a batch both ways, and its slopes by the mapped queries and documents.

    Row i of `query_side` belongs to row `own[i]` of `document_side`, which are all different; those
    that belong to no query are negatives. Two queries with one document are no negatives to each
    other.
    """
    query_units, document_units = normalised(query_side), normalised(document_side)
    logits = query_units @ document_units.T / np.float32(temperature)
    rows = np.arange(len(query_side))
    by_query = _softmax(logits, axis=1)
    shared = (own[:, None] == own[None, :]) & (rows[:, None] != rows[None, :])
    by_document = _softmax(np.where(shared, -np.inf, logits[:, own]), axis=0)
    probabilities = np.stack((by_query[rows, own], by_document[rows, rows]))
    loss = -float(np.log(np.maximum(probabilities, 1e-30)).mean())
    by_document[rows, rows] -= 1
    slope = by_query
    slope[rows, own] -= 1
    np.add.at(slope.T, own, by_document.T)
    slope /= np.float32(2 * len(query_side) * temperature)
    return loss, (
        _through_unit(slope @ document_units, query_side, query_units),
        _through_unit(slope.T @ query_units, document_side, document_units),
    )


def worse_adapter(rank: int, dimension: int, seed: int) -> Adapter:
    """A projection on `rank` random directions: an adapter that forgets most of what a text says.

    A real fault of a training run (a collapsed representation), not a staged one: it answers
    quickly and validly, with worse documents.
    """
    directions = np.random.default_rng(seed).standard_normal((dimension, rank))
    basis, _ = np.linalg.qr(directions)
    projection: Vectors = (basis @ basis.T).astype(np.float32)
    return Adapter(queries=projection, documents=projection)


def _validation_mrr(pairs: Pairs, adapter: Adapter) -> float:
    return float((1 / ranks_with(pairs, pairs.validation, adapter)).mean())


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
