"""A batch is columns, the reach of its times, and what of it is still missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlops.contracts.record import ROW_COLUMNS, Row
from mlops.feature_store.batch import MAX_BATCH_DAYS, MAX_BATCH_ROWS, batch_of, microseconds
from mlops.feature_store.errors import Refused
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)


def row(number: int, route: str = "rag", ended_at: datetime | None = None) -> Row:
    ended = NOON + timedelta(microseconds=number) if ended_at is None else ended_at
    return stored_row(record_id=f"w-1-{number}", ended_at=ended, route=route)


def test_microseconds_are_exact_where_floats_are_not() -> None:
    for number in (1, 123_457, 999_999):
        moment = NOON + timedelta(days=30_000, microseconds=number)
        assert microseconds(moment) % 1_000_000 == number
    assert microseconds(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0
    assert microseconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_columns_keep_order_and_reach_covers_every_row() -> None:
    batch = batch_of([row(5, "b"), row(2, "a"), row(9, "b")], "w/1")

    assert list(batch.columns[0]) == ["w-1-5", "w-1-2", "w-1-9"]
    assert len(batch.columns) == len(ROW_COLUMNS)
    start = microseconds(NOON)
    assert batch.reach == {
        "batch": "w/1",
        "routes": ["a", "b"],
        "first": start + 2,
        "last": start + 9,
    }


def test_what_is_stored_is_left_out() -> None:
    batch = batch_of([row(1), row(2), row(3)], "w/1")

    missing = batch.without(frozenset({"w-1-2"}))

    assert list(missing.columns[0]) == ["w-1-1", "w-1-3"]
    assert {len(column) for column in missing.columns} == {2}
    assert missing.rows == 2
    assert missing.reach == batch.reach


@pytest.mark.parametrize("count", [0, MAX_BATCH_ROWS + 1])
def test_a_batch_of_no_or_too_many_rows_is_refused(count: int) -> None:
    with pytest.raises(Refused, match=f"has {count:,} rows"):
        batch_of([row(1)] * count, "w/1")


@pytest.mark.parametrize("year", [1969, 2107])
def test_a_second_that_has_no_number_is_refused(year: int) -> None:
    with pytest.raises(Refused, match="expected the years 1970 to 2105"):
        batch_of([row(1), row(2, ended_at=NOON.replace(year=year))], "w/1")


def test_a_batch_over_too_many_days_is_refused_and_halves_of_it_fit() -> None:
    rows = [row(day, ended_at=NOON + timedelta(days=day)) for day in range(MAX_BATCH_DAYS + 1)]

    with pytest.raises(Refused, match="lies in 51 days, at most 50"):
        batch_of(rows, "w/1")
    assert batch_of(rows[:25], "w/1a").rows + batch_of(rows[25:], "w/1b").rows == len(rows)
