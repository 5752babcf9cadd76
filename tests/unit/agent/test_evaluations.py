"""Late scores: what may be read of a second while some of its scores are still on their way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from agent.evaluations import Evaluations
from agent.metrics import Metrics
from mlops.feature_store.entries import Evaluation
from mlops.feature_store.errors import Unavailable

NOW_S = 1_000.5


class Store:
    """Takes scores, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.taken: list[Evaluation] = []

    async def insert_evaluations(self, evaluations: Sequence[Evaluation], *, token: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.taken.extend(evaluations)


def _received(at_s: float) -> Evaluation:
    return Evaluation(
        request_id="r", name="n", score=0.5, received_at=datetime.fromtimestamp(at_s, UTC)
    )


async def test_a_second_is_readable_once_no_score_of_it_waits() -> None:
    """With nothing waiting: the last whole second; else the one before the oldest score."""
    store = Store()
    evaluations = Evaluations(store, Metrics())
    assert evaluations.stored_through(NOW_S) == 999
    assert evaluations.offer([_received(997.9), _received(999.2)])
    assert evaluations.stored_through(NOW_S) == 996
    assert await evaluations.flush()
    assert len(store.taken) == 2
    assert evaluations.stored_through(NOW_S) == 999


async def test_a_batch_that_could_not_be_stored_still_holds_its_second_back() -> None:
    """ClickHouse away: the batch is tried again, and until then its second is not read."""
    store = Store()
    store.away = True
    evaluations = Evaluations(store, Metrics())
    evaluations.offer([_received(998.0)])
    assert not await evaluations.flush()
    evaluations.offer([_received(1_000.1)])
    assert evaluations.stored_through(NOW_S) == 997
    store.away = False
    assert await evaluations.flush()
    assert evaluations.stored_through(NOW_S) == 999
