from __future__ import annotations

import numpy as np
import pytest

from mlops.serving.embedder import DIMENSION, Vectors, normalised
from mlops.training.fitting import FitSettings, fit, loss_and_gradient, quality, worse_adapter

TELLING = 32
"""Directions in which the two sides of a pair agree; the others are noise."""


def pairs(count: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((count, DIMENSION)).astype(np.float32)
    shared[:, TELLING:] = 0
    noise = generator.standard_normal((2, count, DIMENSION)).astype(np.float32)
    noise[:, :, :TELLING] *= 0.1
    return normalised(shared + noise[0]), normalised(shared + noise[1])


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    queries, documents = pairs(12)
    generator = np.random.default_rng(1)
    weights = (np.eye(DIMENSION) + 0.05 * generator.standard_normal((DIMENSION,) * 2)).astype(
        np.float64
    )
    direction = generator.standard_normal(weights.shape)
    direction /= np.linalg.norm(direction)
    step = 1e-5

    def loss(at: np.ndarray) -> float:
        value, _ = loss_and_gradient(
            queries.astype(np.float64), documents.astype(np.float64), at, temperature=0.1
        )
        return value

    _, gradient = loss_and_gradient(queries, documents, weights.astype(np.float32), 0.1)
    slope = (loss(weights + step * direction) - loss(weights - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=2e-3)


def test_fitting_learns_which_directions_matter_and_repeats_byte_for_byte() -> None:
    queries, documents = pairs(2_000)
    training, validation, held_out = np.split(np.arange(2_000), (1_800, 1_900))
    settings = FitSettings(learning_rate=5e-3, max_epochs=12)
    arguments = {"training": training, "validation": validation, "settings": settings}
    fitted = fit(queries, documents, seed=3, **arguments)
    before = quality(queries, documents, held_out, None)
    after = quality(queries, documents, held_out, fitted.weights)
    assert after.mrr > before.mrr + 0.2
    assert (
        fit(queries, documents, seed=3, **arguments).weights.tobytes() == fitted.weights.tobytes()
    )
    assert (
        fit(queries, documents, seed=4, **arguments).weights.tobytes() != fitted.weights.tobytes()
    )


def test_fitting_that_never_helps_keeps_the_base() -> None:
    generator = np.random.default_rng(0)
    vectors = normalised(generator.standard_normal((80, DIMENSION)).astype(np.float32))
    fitted = fit(
        vectors,
        vectors,
        training=np.arange(60),
        validation=np.arange(60, 80),
        seed=1,
        settings=FitSettings(max_epochs=30, patience_epochs=2),
    )
    assert (fitted.epoch, fitted.validation_mrr) == (0, 1.0)
    assert (fitted.weights == np.eye(DIMENSION, dtype=np.float32)).all()


def test_quality_counts_ranks() -> None:
    documents = np.eye(4, DIMENSION, dtype=np.float32)
    queries = np.zeros((4, DIMENSION), dtype=np.float32)
    queries[0, 0] = 1  # finds its own
    queries[1, :3] = (0.9, 0.5, 0.1)  # its own is second
    measured = quality(queries, documents, np.array([0, 1]), None)
    assert measured.mrr == pytest.approx(0.75)
    assert (measured.recall_at_1, measured.recall_at_5, measured.queries) == (0.5, 1.0, 2)


def test_the_worse_adapter_projects_on_few_directions() -> None:
    adapter = worse_adapter(32, seed=1)
    assert np.linalg.matrix_rank(adapter, tol=1e-3) == 32
    assert np.allclose(adapter @ adapter, adapter, atol=1e-5)
