"""Suggested margins cover what equal servers differ by, and no less than five percent."""

from __future__ import annotations

import numpy as np
import pytest

from agent.judge.margins import latency_margin, rate_margin

BINS = 820


def server(rng: np.random.Generator, slower: float, count: int = 20_000) -> np.ndarray:
    at = 200 + 31.5 * rng.standard_normal(count) + slower / 0.01906
    return np.bincount(np.clip(at, 0, BINS - 1).astype(int), minlength=BINS)


@pytest.mark.parametrize(("spread", "expected"), [(0.0, 0.05), (0.05, 0.1), (0.15, 0.35)])
def test_the_latency_margin_is_twice_what_servers_are_apart(spread: float, expected: float) -> None:
    rng = np.random.default_rng(1)
    offsets = spread * np.array([-1.3, -0.6, 0.0, 0.6, 1.3])
    suggestion = latency_margin({str(i): server(rng, one) for i, one in enumerate(offsets)})
    assert suggestion is not None
    assert suggestion.margin == pytest.approx(expected, abs=0.051)
    assert suggestion.servers == 5


def test_the_rate_margin_is_what_chance_does_not_explain() -> None:
    rng = np.random.default_rng(1)
    requests = np.full(10, 20_000)
    equal = rate_margin(rng.binomial(requests, 0.01), requests)
    apart = rate_margin(rng.binomial(requests, np.linspace(0.005, 0.015, 10)), requests)
    assert equal is not None
    assert apart is not None
    assert equal.margin < 0.002
    assert 0.004 < apart.margin < 0.009


def test_one_server_or_too_few_requests_suggest_nothing() -> None:
    rng = np.random.default_rng(1)
    assert latency_margin({"a": server(rng, 0.0), "b": server(rng, 0.0, 50)}) is None
    assert rate_margin(np.array([1, 2]), np.array([100, 100])) is None
