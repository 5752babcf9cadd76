"""Weights of tokens: their gradient, what they learn, and that every part pools in the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlops.serving.adapter import Adapter
from mlops.serving.embedder import MAX_TOKENS, Tokens, Vectors, strengths_of
from mlops.training.fitting import FitSettings, fit
from mlops.training.pairs import Pairs, PairTokens, ranks_with
from mlops.training.token_texts import TokenTexts

VOCABULARY, DIMENSION, NOISE = 400, 32, 40
"""The first tokens are in every text, and say nothing about which one it is."""


def table() -> Vectors:
    found: Vectors = np.random.default_rng(0).standard_normal((VOCABULARY, DIMENSION))
    return found.astype(np.float32)


def texts(count: int, seed: int) -> tuple[list[tuple[Tokens, Vectors]], ...]:
    """Two texts for each subject: they share three tokens, among many that all texts share."""
    generator = np.random.default_rng(seed)
    sides: tuple[list[tuple[Tokens, Vectors]], ...] = ([], [])
    for _ in range(count):
        telling = generator.choice(np.arange(NOISE, VOCABULARY), 3, replace=False)
        for side in sides:
            noise = generator.choice(NOISE, 12, replace=False)
            side.append(strengths_of([*telling, *noise]))
    return sides


def material(count: int = 600) -> Pairs:
    queries, documents = (TokenTexts.of(side, VOCABULARY) for side in texts(count, 1))
    tokens = PairTokens(queries=queries, documents=documents, table=table())
    frozen = tokens.vectors(np.ones(VOCABULARY, dtype=np.float32))
    return Pairs(
        queries=frozen[0],
        documents=frozen[1],
        positives=np.arange(count),
        training=np.arange(count - 200),
        validation=np.arange(count - 200, count - 100),
        tokens=tokens,
    )


def test_a_repeated_token_counts_less_each_time_and_the_rest_of_a_long_text_not() -> None:
    tokens, strengths = strengths_of([5, 3, 5, 5])
    assert tokens.tolist() == [3, 5]
    assert strengths == pytest.approx([1, 1 + np.log(3)])
    assert len(strengths_of(range(MAX_TOKENS + 9))[0]) == MAX_TOKENS


def test_a_batch_pools_as_each_text_alone() -> None:
    (side, _), rows = texts(20, 3), table()
    weights = np.random.default_rng(4).random(VOCABULARY, dtype=np.float32)
    whole = TokenTexts.of(side, VOCABULARY)
    chosen = np.array([7, 3, 7])
    few = whole.rows(chosen)
    for found, row in zip(few.pooled(weights, rows), chosen, strict=True):
        tokens, strengths = side[row]
        alone = (strengths * weights[tokens]) @ rows[tokens]
        assert found == pytest.approx(alone, abs=1e-5)
    used = few.used()
    compact = few.of_vocabulary(used).pooled(weights[used], rows[used])
    assert compact == pytest.approx(few.pooled(weights, rows), abs=1e-6)


def test_the_gradient_is_the_slope() -> None:
    (side, _), rows = texts(20, 5), table().astype(np.float64)
    generator = np.random.default_rng(6)
    whole = TokenTexts.of(side, VOCABULARY)
    weights, way = generator.random(VOCABULARY), generator.standard_normal(VOCABULARY)
    slopes = generator.standard_normal((20, DIMENSION))
    step = 1e-3
    ahead, behind = (
        float((whole.pooled(weights + sign * step * way, rows) * slopes).sum()) for sign in (1, -1)
    )
    along = float((whole.weight_gradient(slopes, rows) * way).sum())
    assert along == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


def test_what_all_texts_share_loses_its_weight_and_the_right_ones_are_found() -> None:
    data = material()
    held_out = np.arange(500, 600)
    settings = FitSettings(batch_pairs=128, max_epochs=20, token_learning_rate=3e-2)
    fitted = fit(data, seed=2, settings=settings)
    weights = fitted.adapter.token_weights
    assert weights is not None
    assert np.median(weights[:NOISE]) < 0.7 * np.median(weights[NOISE:])
    frozen, ours, maps_alone = (
        float((1 / ranks_with(data, held_out, one)).mean())
        for one in (
            None,
            fitted.adapter,
            fit(replace(data, tokens=None), seed=2, settings=settings).adapter,
        )
    )
    assert ours > max(frozen, maps_alone) + 0.05
    again = fit(data, seed=2, settings=settings)
    assert again.adapter.to_bytes() == fitted.adapter.to_bytes()


def test_an_adapter_keeps_its_weights_and_an_older_reader_refuses_it() -> None:
    eye = Adapter.identity(4)
    weighted = replace(eye, token_weights=np.arange(6, dtype=np.float32))
    found = Adapter.from_bytes(weighted.to_bytes())
    assert found.token_weights is not None
    assert found.token_weights.tolist() == [0, 1, 2, 3, 4, 5]
    assert (found.queries == eye.queries).all()
    assert b"weighted_queries" in weighted.to_bytes()  # not `queries`, which it would take
    assert Adapter.from_bytes(eye.to_bytes()).token_weights is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones((2, 2), np.float32), r"of shape \(2, 2\)"),
        (np.ones(3), "float64"),
        (np.array([1, -1], np.float32), "below 0"),
        (np.array([1, np.nan], np.float32), "not finite"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: Vectors, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(Adapter.identity(4), token_weights=weights)
