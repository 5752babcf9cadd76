"""How sums of queries are folded into alarms, per route."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.drift import (
    EMBEDDING,
    REFERENCE_BLOCKS,
    ROUTING,
    SCRIPT,
    TEXT_LENGTH,
    Alarm,
    Categories,
    DriftMemory,
    RouteDrift,
    begun,
    with_alarms,
)
from agent.judge.drift import HourMix
from mlops.contracts.evidence import EmbeddingSums, count_bin

DIMS = 16
SINCE, SPAN_S, PER_SPAN = 1_000_000, 60, 100
UNTIL = SINCE + REFERENCE_BLOCKS * SPAN_S - 1
MEMORY = DriftMemory(route="rag", version="1", generation=3, since_s=SINCE, until_s=UNTIL)


class Queries:
    """Draws queries; a test changes what they are like."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(7)
        self.mean = np.zeros(DIMS)
        self.length = 60.0
        self.script = "latin"

    def rows(self, count: int) -> Any:
        return self.mean + self._random.normal(size=(count, DIMS))

    def sums(self, second: int, count: int = PER_SPAN, **changes: Any) -> EmbeddingSums:
        bins: dict[int, int] = {}
        for length in self._random.lognormal(np.log(self.length), 0.5, count):
            place = count_bin(max(1, int(length)))
            bins[place] = bins.get(place, 0) + 1
        values: dict[str, Any] = {
            "second": second,
            "generation": 3,
            "arm": "stable",
            "dims": DIMS,
            "count": count,
            "sum": self.rows(count).sum(axis=0).tolist(),
            "squares": float(count * DIMS),
            "texts": count,
            "text_chars_bins": bins,
            "scripts": {self.script: count},
        }
        return EmbeddingSums(**{**values, **changes})


@pytest.fixture
def queries() -> Queries:
    return Queries()


@pytest.fixture
def drift(queries: Queries) -> RouteDrift:
    blocks = [queries.sums(SINCE + number * SPAN_S) for number in range(REFERENCE_BLOCKS)]
    return RouteDrift(MEMORY, blocks, {DIMS: queries.rows(1_000)}, every_s=SPAN_S)


def watch(drift: RouteDrift, queries: Queries, spans: int, **changes: Any) -> set[str]:
    """Features whose alarm went off."""
    found: set[str] = set()
    for number in range(spans):
        second = UNTIL + 1 + number * SPAN_S
        found |= {one.feature for one in drift.absorb([queries.sums(second, **changes)])}
    return found


def test_the_same_queries_are_no_drift(drift: RouteDrift, queries: Queries) -> None:
    assert watch(drift, queries, 500) == set()
    assert drift.queries == 500 * PER_SPAN
    assert set(drift.features()) == {EMBEDDING, TEXT_LENGTH, SCRIPT}
    assert all(0 <= one.evidence < 1 for one in drift.features().values())


def test_a_new_topic_a_new_length_and_a_new_script_are_each_told(
    drift: RouteDrift, queries: Queries
) -> None:
    queries.mean = np.full(DIMS, 0.3)
    assert watch(drift, queries, 30) == {EMBEDDING}
    queries.mean, queries.length = np.zeros(DIMS), 120.0
    assert TEXT_LENGTH in watch(drift, queries, 30)
    queries.length, queries.script = 60.0, "cyrillic"
    assert SCRIPT in watch(drift, queries, 30)
    assert drift.features()[SCRIPT].measures["psi"] > 1


def test_embeddings_of_another_space_are_never_compared(
    drift: RouteDrift, queries: Queries
) -> None:
    """A canary's, an older version's, and those of another length."""
    queries.mean = np.full(DIMS, 5.0)
    for changes in ({"arm": "canary"}, {"generation": 2}, {"dims": 8, "sum": [9.0] * 8}):
        assert EMBEDDING not in watch(drift, queries, 30, **changes)


def test_arms_that_get_other_queries_are_a_fault_of_routing(
    drift: RouteDrift, queries: Queries
) -> None:
    other = Queries()
    found: set[str] = set()
    for number in range(60):
        second = UNTIL + 1 + number * SPAN_S
        stable = queries.sums(second, generation=4)
        canary = other.sums(second, generation=4, arm="canary", count=20)
        found |= {one.feature for one in drift.absorb([stable, canary])}
    assert found == set()
    other.length = 150.0
    for number in range(60):
        second = UNTIL + 1 + number * SPAN_S
        stable = queries.sums(second, generation=5)
        canary = other.sums(second, generation=5, arm="canary", count=20)
        found |= {one.feature for one in drift.absorb([stable, canary])}
    assert ROUTING in found


def routed(
    drift: RouteDrift, stable: Queries, canary: Queries, *, generation: int, spans: int
) -> bool:
    """Whether a fault of routing is told; `generation` had both arms for so long."""
    found: set[str] = set()
    for number in range(spans):
        second = UNTIL + 1 + (generation * 1000 + number) * SPAN_S
        ours = stable.sums(second, generation=generation)
        theirs = canary.sums(second, generation=generation, arm="canary", count=20)
        found |= {one.feature for one in drift.absorb([ours, theirs])}
    return ROUTING in found


def spans_until_told(drift: RouteDrift, queries: Queries, generations: range) -> int:
    other = Queries()
    other.length = 90.0
    for spans, generation in enumerate(generations, 1):
        if routed(drift, queries, other, generation=generation, spans=1):
            return spans
    raise AssertionError("no fault was told")


def test_evidence_of_a_routing_fault_is_carried_over_the_steps(
    drift: RouteDrift, queries: Queries
) -> None:
    """Even where each span is a step of its own."""
    assert spans_until_told(drift, queries, range(5, 105)) > 1


def test_but_not_into_the_next_release(drift: RouteDrift, queries: Queries) -> None:
    told = spans_until_told(drift, queries, range(5, 105))
    without_canary = queries.sums(UNTIL + 10_000 * SPAN_S, generation=200)
    assert ROUTING not in {one.feature for one in drift.absorb([without_canary])}
    assert not routed(drift, queries, Queries(), generation=201, spans=20)
    assert told > 1


def test_shifted_hours_are_an_alarm(drift: RouteDrift, queries: Queries) -> None:
    drift.hours = HourMix(psi=0.1, limit=0.2)
    assert watch(drift, queries, 1) == set()
    drift.hours = HourMix(psi=0.3, limit=0.2)
    assert watch(drift, queries, 1) == {"hours"}


def test_a_reference_without_texts_or_embeddings_watches_what_there_is(queries: Queries) -> None:
    blocks = [
        queries.sums(SINCE + number * SPAN_S, text_chars_bins={}, scripts={}, texts=0)
        for number in range(REFERENCE_BLOCKS)
    ]
    few = RouteDrift(MEMORY, blocks, {DIMS: queries.rows(10)}, every_s=SPAN_S)
    assert few.features() == {}
    assert watch(few, queries, 5) == set()


def test_lengths_are_told_apart_by_tenths_of_the_reference(queries: Queries) -> None:
    blocks = [queries.sums(SINCE + number) for number in range(50)]
    categories = Categories("text_chars_bins", blocks)
    counts = categories.counts(blocks)
    assert counts.sum() == 50 * PER_SPAN
    assert 5 <= categories.count <= 10
    assert counts.max() < 0.3 * counts.sum()


def test_what_was_found_is_kept_with_its_first_time() -> None:
    memory = begun("rag", "1", 3, 100)
    alarm = Alarm(EMBEDDING, "why")
    found = with_alarms(memory, [alarm, alarm], 200)
    assert found.found == {EMBEDDING: 200}
    assert with_alarms(found, [alarm], 300) is found


def test_what_comes_and_goes_within_the_reference_is_no_drift(queries: Queries) -> None:
    """Mornings and evenings ask about different things; the evidence knows that from the blocks."""
    blocks, sample = [], []
    for number in range(REFERENCE_BLOCKS):
        queries.mean = np.full(DIMS, 0.3 if number % 2 else -0.3)
        blocks.append(queries.sums(SINCE + number * SPAN_S))
        sample.append(queries.rows(20))
    rows = np.concatenate(sample)
    drift = RouteDrift(MEMORY, blocks, {DIMS: rows}, every_s=SPAN_S)

    queries.mean = np.full(DIMS, 0.3)
    assert watch(drift, queries, 12) == set()
    queries.mean = np.full(DIMS, 1.5)
    assert watch(drift, queries, 60) == {EMBEDDING}


def test_millions_of_queries_do_not_make_a_small_change_an_alarm_at_once(queries: Queries) -> None:
    blocks = [queries.sums(SINCE + n * SPAN_S, count=5_000) for n in range(REFERENCE_BLOCKS)]
    drift = RouteDrift(MEMORY, blocks, {DIMS: queries.rows(2_000)}, every_s=SPAN_S)

    queries.mean = np.full(DIMS, 0.045)

    assert watch(drift, queries, 8, count=5_000) == set()
