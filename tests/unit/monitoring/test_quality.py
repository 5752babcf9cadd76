"""Is the log of an hour whole?"""

from __future__ import annotations

import msgspec
import pytest

from mlops.feature_store.completeness import Completeness
from mlops.monitoring.figures import HOUR_S, HourFigures, collected
from mlops.monitoring.quality import quality

HOUR = 500_000 * HOUR_S
BEFORE = HourFigures(
    route="rag",
    hour=HOUR - HOUR_S,
    requests=1_000,
    errors=0,
    latency_p50_ms=1.0,
    latency_p95_ms=2.0,
    scored=0,
    score_total=0.0,
    score_squares=0.0,
    without_text=10,
    without_embedding=10,
)


def hours(**changed: int):
    now = msgspec.structs.replace(BEFORE, hour=HOUR, **changed)
    return collected(HOUR, HOUR - HOUR_S, [BEFORE, now], [])


def whole(stored: int, answered: int) -> Completeness:
    return Completeness(route="rag", arm="stable", stored=stored, answered=answered, dropped=0)


def test_a_whole_hour_has_no_findings() -> None:
    found = quality(hours(), [whole(1_000, 1_000)], 0)
    assert found.findings == []
    assert found.not_judged == []


@pytest.mark.parametrize(("stored", "names"), [(9_990, []), (9_989, ["completeness"])])
def test_rows_that_are_missing_are_critical(stored: int, names: list[str]) -> None:
    found = quality(hours(), [whole(stored, 10_000)], 0)
    assert [one.name for one in found.findings] == names
    assert all(one.severity == "critical" for one in found.findings)


def test_no_tally_is_not_taken_for_whole() -> None:
    assert quality(hours(), [whole(10, 0)], 0).not_judged == [
        "rag stable: no tally of the hour, completeness unknown"
    ]


def test_features_that_vanish_are_told() -> None:
    found = quality(hours(without_embedding=70), [], 0)
    assert [one.name for one in found.findings] == ["without_embedding"]
    assert quality(hours(without_embedding=55), [], 0).findings == []


def test_dead_letters_are_told_by_their_share() -> None:
    assert [one.name for one in quality(hours(), [], 2).findings] == ["dead_letters"]
    assert quality(hours(), [], 1).findings == []
