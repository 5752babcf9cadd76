"""The metric of completeness: as the store says, and nothing while it cannot be asked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.recorder.completeness import CompletenessGauge
from mlops.feature_store.completeness import Completeness
from mlops.feature_store.errors import Unavailable


class Store:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.found: tuple[Completeness, ...] | None = ()

    async def read(self) -> tuple[Completeness, ...]:
        if self.found is None:
            raise Unavailable("away")
        return self.found


def arm(name: str, stored: int, answered: int) -> Completeness:
    return Completeness(route="rag", arm=name, stored=stored, answered=answered, dropped=0)


async def test_a_ratio_for_each_arm_and_none_while_the_store_is_away() -> None:
    store, registry = Store(), CollectorRegistry()
    gauge = CompletenessGauge(store.read, registry)

    def ratio(name: str) -> float | None:
        labels = {"route": "rag", "arm": name}
        return registry.get_sample_value("log_completeness_ratio", labels)

    store.found = (arm("stable", 199, 200), arm("canary", 5, 5), arm("holdback", 3, 0))
    await gauge.look()
    assert (ratio("stable"), ratio("canary"), ratio("holdback")) == (0.995, 1.0, None)
    store.found = (arm("stable", 1, 1),)
    await gauge.look()
    assert (ratio("stable"), ratio("canary")) == (1.0, None)
    store.found = None
    await gauge.look()
    assert ratio("stable") is None
