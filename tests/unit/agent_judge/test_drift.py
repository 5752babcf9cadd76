"""Drift is told from noise, in one embedding space; arms that get other queries are a fault."""

from __future__ import annotations

import numpy as np
import pytest

from agent.judge.drift import (
    RUN_LENGTH,
    Detector,
    EmbeddingDrift,
    FeatureDrift,
    RoutingMix,
    hour_mix,
    kolmogorov_smirnov,
    psi,
    wasserstein,
)

DIMENSIONS = 16
TOPICS = np.random.default_rng(7).normal(0, 1, (5, DIMENSIONS))


def queries(rng: np.random.Generator, count: int, new: float = 0.0) -> np.ndarray:
    topic = np.where(rng.random(count) < new, 4, rng.integers(0, 4, count))
    rows = TOPICS[topic] + rng.normal(0, 0.7, (count, DIMENSIONS))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def first_alarm(detector: EmbeddingDrift, rng: np.random.Generator, count: int, new: float) -> int:
    for start in range(0, count, 20):
        block = queries(rng, 20, new)
        if detector.absorb(20, block.sum(axis=0)):
            return start + 20
    return count + 1


def test_a_tenth_new_is_noticed_and_nothing_new_is_not() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        still = EmbeddingDrift(queries(rng, 1000))
        assert first_alarm(still, rng, 5000, 0.0) > 5000
        moved = EmbeddingDrift(queries(rng, 1000))
        assert first_alarm(moved, rng, 3000, 0.2) <= 600


def test_blocks_may_be_of_any_size() -> None:
    rng = np.random.default_rng(1)
    detector = EmbeddingDrift(queries(rng, 1000))
    alarms = 0
    for size in [1, 0, 70, 3, 200] * 8:
        alarms += detector.absorb(size, queries(rng, size, 0.5).sum(axis=0))
    assert alarms
    assert detector.distance > 0.05


def test_another_embedding_space_and_too_short_a_reference_are_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="another embedding space is not compared"):
        EmbeddingDrift(queries(rng, 500)).absorb(3, np.zeros(8))
    with pytest.raises(ValueError, match="expected at least 200 vectors"):
        EmbeddingDrift(queries(rng, 50))


def test_an_alarm_starts_the_detector_again() -> None:
    detector = Detector(2)
    assert detector.absorb(np.array([20.0, 20.0]), 20)
    assert detector.log_value == -np.inf
    assert not detector.absorb(np.array([1.0, 1.0]), 20)


def counts(rng: np.random.Generator, parts: list[float], size: int = 40) -> np.ndarray:
    return rng.multinomial(size, parts)


def test_the_mix_of_a_feature_is_watched() -> None:
    usual, other = [0.5, 0.3, 0.15, 0.05], [0.3, 0.3, 0.2, 0.2]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        reference = np.stack([counts(rng, usual) for _ in range(60)])
        still, moved = FeatureDrift(reference), FeatureDrift(reference)
        assert not any(still.absorb(counts(rng, usual)) for _ in range(200))
        assert any(moved.absorb(counts(rng, other)) for _ in range(40))
        assert moved.measures()["psi"] > still.measures()["psi"]


def test_scaled_counts_stand_for_as_many_queries_as_they_add_up_to() -> None:
    drift = FeatureDrift(np.full((3, 3), 68))
    scaled = np.full(3, 68) * (200 / 204)
    assert int(scaled.sum()) == 199  # of 199.99999999999997
    for _ in range(2):
        drift.absorb(scaled)
    assert drift.log_limit == pytest.approx(np.log(RUN_LENGTH / 200))


def test_queries_in_clusters_vary_more_and_that_is_allowed_for() -> None:
    rng = np.random.default_rng(1)
    reference = np.stack([5 * counts(rng, [0.5, 0.5], 8) for _ in range(100)])
    drift = FeatureDrift(reference)
    assert 3.5 < drift.dispersion < 6.5
    assert not any(drift.absorb(5 * counts(rng, [0.5, 0.5], 8)) for _ in range(300))
    with pytest.raises(ValueError, match="expected two blocks"):
        FeatureDrift(reference[:1])


def test_a_mix_that_drifts_in_both_arms_is_no_routing_fault_and_one_that_differs_is() -> None:
    rng = np.random.default_rng(1)
    fair, unfair = RoutingMix(3), RoutingMix(3)
    for index in range(200):
        day = [0.5 + index / 1000, 0.3, 0.2 - index / 1000]
        fair.absorb(counts(rng, day, 20), counts(rng, day, 80))
        unfair.absorb(counts(rng, [0.2, 0.3, 0.5], 20), counts(rng, day, 80))
    assert not fair.is_violated
    assert unfair.is_violated


def test_the_hours_of_a_day_are_compared_with_how_days_differ_anyway() -> None:
    rng = np.random.default_rng(1)
    office = np.array([1.0] * 8 + [10.0] * 10 + [2.0] * 6)
    days = rng.poisson(50 * office, (7, 24))
    assert not hour_mix(days, rng.poisson(50 * office)).is_shifted
    assert hour_mix(days, rng.poisson(50 * np.roll(office, 6))).is_shifted
    with pytest.raises(ValueError, match="expected at least 3"):
        hour_mix(days[:2], days[0])


def test_measures_for_dashboards() -> None:
    same, moved = np.array([10, 20, 30]), np.array([30, 20, 10])
    assert psi(same, same) == pytest.approx(0)
    assert psi(same, moved) > 0.5
    assert kolmogorov_smirnov(same, moved) == pytest.approx(1 / 3, abs=0.02)
    assert wasserstein(same, moved) == pytest.approx(2 / 3, abs=0.03)
