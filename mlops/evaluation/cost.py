"""What a model costs to run: the time of one query, and the memory of what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np

MAX_QUERIES: Final = 200
"""Timed one after the other; enough for a 95th percentile."""
WARM_UP_QUERIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Latencies are of one query on this machine, alone, from its text to its documents."""

    latency_p50_ms: float
    latency_p95_ms: float
    model_bytes: int
    """Of the weights that were trained, and of the index."""


def cost_of(search: Callable[[str], object], texts: Sequence[str], model_bytes: int) -> Cost:
    """Time `search` over some of `texts`.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("no queries to time")
    for text in texts[:WARM_UP_QUERIES]:
        search(text)
    taken: list[float] = []
    for text in texts[:MAX_QUERIES]:
        started_s = perf_counter()
        search(text)
        taken.append((perf_counter() - started_s) * 1e3)
    return Cost(
        latency_p50_ms=float(np.quantile(taken, 0.5)),
        latency_p95_ms=float(np.quantile(taken, 0.95)),
        model_bytes=model_bytes,
    )
