"""`doctor` suggests margins out of a real log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import md5

from cli.margins import DELAY_S, suggested
from mlops.contracts.evidence import KEY_GROUPS
from mlops.contracts.record import Row
from mlops.doctor.findings import State
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)
UNTIL = int(NOON.timestamp())
ROWS = 26_000
SPAN_S = 20 * 3_600


def _row(number: int, route: str, slower: float) -> Row:
    """Spread over the time and over groups of keys; half the groups are slower."""
    ended = NOON - timedelta(seconds=SPAN_S * (1 - number / ROWS))
    bucket = number * 7919 % 10_000
    factor = slower if bucket % KEY_GROUPS % 2 else 1.0
    latency_us = int((20_000 + 137 * (number % 400)) * factor)
    return stored_row(
        record_id=f"{route}-{number}", request_id=str(number), ended_at=ended, route=route,
        bucket=bucket, latency_us=latency_us, relevance_score=0.5,
    )  # fmt: skip


async def test_margins_are_suggested_by_route(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    for route, slower, count in (("even", 1.0, ROWS), ("uneven", 1.2, ROWS), ("idle", 1.0, 50)):
        rows = [_row(number, route, slower) for number in range(ROWS - count, ROWS)]
        await feature_log.insert_rows(rows, token=route)

    found = {one.part: one for one in await suggested(settings, UNTIL + DELAY_S)}

    assert set(found) == {"margins of even", "margins of uneven", "margins of idle"}
    assert "50 requests" in found["margins of idle"].what
    even, uneven = found["margins of even"].what, found["margins of uneven"].what
    assert "latency: {margin: 5%}" in even
    assert "errors: {margin: 0.001}" in even
    assert "score: {margin: 0.005}" in even
    assert "latency: {margin: 25%} (equal groups of users differ by 10." in uneven
    assert "ttft: {margin: 5%}" in uneven


async def test_a_store_that_is_away_suggests_nothing() -> None:
    away = ClickHouseSettings(host="127.0.0.1", port=1)

    assert await suggested(away, UNTIL) == []


async def test_a_server_that_is_slower_than_the_other_is_named_and_allowed_for(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    for route, slower in (("pods", 1.05), ("alike", 1.0)):
        rows = [_of_pod(number, route, slower) for number in range(ROWS)]
        await feature_log.insert_rows(rows, token=route)

    found = {one.part: one for one in await suggested(settings, UNTIL + DELAY_S)}

    alike, apart = found["servers of alike"], found["servers of pods"]
    assert (alike.state, alike.what) == (State.OK, "2 of stable: they answer alike")
    assert apart.state is State.WARNING
    assert apart.what.startswith("2 of stable: http://b:8000 stands out: p50 +")
    told = dict(one.split(" ") for one in apart.what.partition("out: ")[2].split(", "))
    assert set(told) == {"p50", "p95", "p99"}
    assert all(0.04 < float(by.rstrip("%")) / 100 < 0.06 for by in told.values())
    assert "latency: {margin: 10%} (its 2 servers differ by 3." in found["margins of pods"].what
    assert "latency: {margin: 5%} (equal groups" in found["margins of alike"].what


def _of_pod(number: int, route: str, slower: float) -> Row:
    """By chance of one of two servers, of which the second is slower and retried once in a while.

    What a retry took and who answered it are another's: they must not be held against it.
    """
    row = _row(number, route, 1.0)
    digits = int(md5(f"{route} {number}".encode(), usedforsecurity=False).hexdigest(), 16)
    is_b = digits % 2
    row.endpoint = row.first_attempt_endpoint = "http://b:8000" if is_b else "http://a:8000"
    spread = digits // 2 % 10_000 / 10_000
    row.latency_us = int((20_000 + 40_000 * spread**4) * (slower if is_b else 1.0))
    if is_b and digits // 20_000 % 2_000 == 0:
        row.attempts, row.endpoint, row.latency_us = 2, "http://a:8000", 900_000
        row.first_attempt_outcome = "reset"
    return row
