from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlops.serving.embedder import DIMENSION, Vectors, normalised
from mlops.training.fitting import (
    FitSettings,
    fit,
    hard_negatives,
    loss_and_slopes,
    whitened,
    worse_adapter,
)
from mlops.training.pairs import Pairs, quality, ranks_of

TELLING = 32
"""Directions in which the two sides of a pair agree; the others are noise."""


def pairs(count: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((count, DIMENSION)).astype(np.float32)
    shared[:, TELLING:] = 0
    noise = generator.standard_normal((2, count, DIMENSION)).astype(np.float32)
    noise[:, :, :TELLING] *= 0.1
    return normalised(shared + noise[0]), normalised(shared + noise[1])


def material(count: int, *, seed: int = 0, held_out: int = 100) -> Pairs:
    queries, documents = pairs(count, seed)
    training, validation, _ = np.split(np.arange(count), (count - 2 * held_out, count - held_out))
    return Pairs(
        queries=queries,
        documents=documents,
        positives=np.arange(count),
        training=training,
        validation=validation,
    )


def test_the_gradients_are_the_slopes_of_the_loss() -> None:
    """Also with negatives that belong to no query, and two queries with one document."""
    queries, documents = pairs(12)
    own = np.array([0, 1, 2, 3, 4, 5, 6, 6])
    generator = np.random.default_rng(1)
    weights, directions = (
        [
            base + scale * generator.standard_normal((DIMENSION, DIMENSION))
            for base, scale in ((start, size), (start, size))
        ]
        for start, size in ((np.eye(DIMENSION), 0.05), (np.zeros((DIMENSION, DIMENSION)), 1e-3))
    )
    step = 1e-3

    def loss(times: float) -> float:
        moved = [one + times * step * way for one, way in zip(weights, directions, strict=True)]
        sides = queries[:8].astype(np.float64) @ moved[0], documents.astype(np.float64) @ moved[1]
        value, _ = loss_and_slopes(*sides, own, temperature=0.1)
        return value

    sides = queries[:8] @ weights[0].astype(np.float32), documents @ weights[1].astype(np.float32)
    _, slopes = loss_and_slopes(*sides, own, 0.1)
    gradients = queries[:8].T @ slopes[0], documents.T @ slopes[1]
    slope = (loss(1) - loss(-1)) / (2 * step)
    along = sum(float((g * way).sum()) for g, way in zip(gradients, directions, strict=True))
    assert along == pytest.approx(slope, rel=2e-3)


def test_fitting_learns_which_directions_matter_and_repeats_byte_for_byte() -> None:
    data = material(4_000)
    held_out = np.arange(3_900, 4_000)
    settings = FitSettings(
        learning_rate=3e-3, temperature=0.1, batch_pairs=256, decay=0, max_epochs=6
    )
    fitted = fit(data, seed=3, settings=settings)
    before, after = quality(data, held_out, None), quality(data, held_out, fitted.adapter)
    assert after.mrr > before.mrr + 0.2
    assert fitted.validation_mrr > fitted.frozen_validation_mrr + 0.2
    again = fit(data, seed=3, settings=settings)
    assert again.adapter.to_bytes() == fitted.adapter.to_bytes()
    assert fit(data, seed=4, settings=settings).adapter.to_bytes() != fitted.adapter.to_bytes()


def test_fitting_that_never_helps_keeps_the_base() -> None:
    generator = np.random.default_rng(0)
    vectors = normalised(generator.standard_normal((80, DIMENSION)).astype(np.float32))
    data = Pairs(
        queries=vectors,
        documents=vectors,
        positives=np.arange(80),
        training=np.arange(60),
        validation=np.arange(60, 80),
    )
    fitted = fit(data, seed=1, settings=FitSettings(max_epochs=30, patience_epochs=2))
    assert (fitted.epoch, fitted.epochs, fitted.validation_mrr) == (0, 2, 1.0)
    for side in (fitted.adapter.queries, fitted.adapter.documents):
        assert (side == np.eye(DIMENSION, dtype=np.float32)).all()


def test_whitening_holds_back_what_all_documents_have_in_common() -> None:
    data = material(400)
    common = np.zeros(DIMENSION, dtype=np.float32)
    common[DIMENSION - 1] = 3
    start = whitened(normalised(data.documents + common), 0.5)
    assert start.queries is start.documents
    assert np.allclose(start.queries, start.queries.T, atol=1e-5)
    strengths = np.linalg.norm(start.documents, axis=1)
    assert strengths[DIMENSION - 1] < 0.5 * np.median(strengths)
    assert np.median(strengths) == pytest.approx(1, abs=0.2)
    assert (whitened(data.documents, 0.0).queries == np.eye(DIMENSION, dtype=np.float32)).all()


def test_hard_negatives_are_near_wrong_and_pulled_by_some_query() -> None:
    data = material(400)
    found = hard_negatives(data, 5)
    assert len(found) == len(data.training)
    trained = set(data.training.tolist())
    for row, negatives in zip(data.training, found, strict=True):
        assert len(negatives) == 5
        assert row not in negatives
        assert trained.issuperset(negatives.tolist())
        similarities = data.documents @ data.queries[row]
        others = np.setdiff1d(data.training, [*negatives, row])
        assert similarities[negatives].min() >= similarities[others].max() - 1e-6


def test_what_users_refused_is_a_hard_negative_and_never_the_right_document() -> None:
    data = material(400)
    refused = {0: np.array([0, 7, 399])}  # its own, one that is trained on, one that is not
    found = hard_negatives(replace(data, refused=refused), 5)
    before = hard_negatives(data, 5)
    assert found[0].tolist() == sorted({*before[0].tolist(), 7})


def test_vectors_that_are_not_finite_are_refused() -> None:
    data = material(400)
    broken = data.queries.copy()
    broken[3, 3] = np.nan
    with pytest.raises(ValueError, match="queries hold numbers that are not finite"):
        replace(data, queries=broken)


def test_without_pairs_to_stop_by_nothing_is_fitted() -> None:
    data = replace(material(400), validation=np.arange(0))
    with pytest.raises(ValueError, match="200 training and 0 validation pairs"):
        fit(data, seed=1, settings=FitSettings())


def test_a_model_that_tells_nothing_apart_ranks_last() -> None:
    same = np.ones((5, 3), dtype=np.float32)
    assert ranks_of(same, same, np.arange(5)).tolist() == [5] * 5


def test_quality_counts_ranks() -> None:
    documents = np.eye(4, DIMENSION, dtype=np.float32)
    queries = np.zeros((4, DIMENSION), dtype=np.float32)
    queries[0, 0] = 1  # finds its own
    queries[1, :3] = (0.9, 0.5, 0.1)  # its own is second
    data = Pairs(
        queries=queries,
        documents=documents,
        positives=np.arange(4),
        training=np.arange(0),
        validation=np.arange(0),
    )
    measured = quality(data, np.array([0, 1]), None)
    assert measured.mrr == pytest.approx(0.75)
    assert (measured.recall_at_1, measured.recall_at_5, measured.queries) == (0.5, 1.0, 2)


def test_the_worse_adapter_projects_on_few_directions() -> None:
    adapter = worse_adapter(32, DIMENSION, seed=1).queries
    assert np.linalg.matrix_rank(adapter, tol=1e-3) == 32
    assert np.allclose(adapter @ adapter, adapter, atol=1e-5)
