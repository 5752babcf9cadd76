"""Which days are archived when, how a day is cut, and how rows leave a Parquet file."""

from __future__ import annotations

import json
from datetime import date, timedelta
from io import BytesIO

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mlops.feature_store.archive_plan import (
    MAX_FILE_ROWS,
    Slice,
    due,
    part_name,
    rows_per_file,
    slices,
)
from mlops.feature_store.erasure import mention_of
from mlops.feature_store.parquet_rows import having, mentioning, without

TODAY = date(2026, 6, 1)
DAYS = [TODAY - timedelta(days=age) for age in range(12)]


@pytest.mark.parametrize(
    ("keep_days", "older_than_days", "youngest"),
    [(None, None, None), (5, None, 4), (None, 7, 7), (5, 7, 4), (9, 3, 3), (2, None, 1)],
)
def test_a_day_is_due_before_the_table_forgets_it(
    keep_days: int | None, older_than_days: int | None, youngest: int | None
) -> None:
    found = due(DAYS, today=TODAY, keep_days=keep_days, older_than_days=older_than_days)

    expected = [] if youngest is None else sorted(DAYS[youngest:])
    assert found == expected


def test_today_is_never_due() -> None:
    assert TODAY not in due(DAYS, today=TODAY, keep_days=None, older_than_days=0)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_slices_hold_every_second_once(counts: list[int], limit: int) -> None:
    seconds = [(100 + 3 * index, count) for index, count in enumerate(counts)]

    made = slices(seconds, limit)

    assert sum(piece.rows for piece in made) == sum(counts)
    covered = [s for piece in made for s, _ in seconds if piece.first <= s <= piece.last]
    assert covered == [second for second, _ in seconds]
    for piece in made:
        assert piece.rows <= limit or piece.first == piece.last


def test_files_are_smaller_where_rows_are_wider() -> None:
    assert rows_per_file(0, 0) == MAX_FILE_ROWS
    assert rows_per_file(1_000, 1_000) == MAX_FILE_ROWS
    assert rows_per_file(1_000, 4_000_000) == 16_000
    assert rows_per_file(1, 10**12) == 1


def test_files_of_two_runs_have_two_names() -> None:
    piece = Slice(first=1, last=2, rows=3)
    assert part_name(0, piece) != part_name(1, piece)


def a_file() -> bytes:
    table = pa.table(
        {
            "user_id": ["a", "b", None, "a"],
            "request_id": ["r1", "r2", "r3", "r4"],
            "times": pa.array([[1], [], [2], [3]], pa.list_(pa.float32())),
        }
    )
    out = BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def test_rows_leave_by_any_of_the_columns() -> None:
    changed = without(a_file(), {"user_id": {"a"}, "request_id": {"r3"}, "absent": {"x"}})
    assert changed is not None
    rest, gone = changed

    assert gone == 3
    assert parquet.read_table(BytesIO(rest)).to_pylist() == [
        {"user_id": "b", "request_id": "r2", "times": []}
    ]


def test_a_file_without_such_rows_stays() -> None:
    assert without(a_file(), {"user_id": {"c"}}) is None
    assert without(a_file(), {"user_id": set()}) is None
    assert without(a_file(), {"absent": {"a"}}) is None


def test_a_person_is_found_as_a_whole_word() -> None:
    texts = ['{"user": "u1"}', '{"user": "u12"}', "u1", "xu1", "a.u1,b"]
    table = pa.table({"payload": texts, "user_id": ["u1", "u12", None, "u1", ""]})

    found = mentioning(table, "payload", mention_of("u1"))

    assert found.column("payload").to_pylist() == [texts[0], texts[2], texts[4]]
    assert having(table, "user_id", "u1").num_rows == 2
    assert mentioning(table, "payload", mention_of("u.")).num_rows == 0


@pytest.mark.parametrize("user", ['Ann "A" O\'Hara', "domain\\ann", "a\tb", "zoë +1 (2)", "a|b"])
def test_a_person_is_found_by_an_id_that_json_writes_in_another_way(user: str) -> None:
    texts = [json.dumps({"user_id": user}, ensure_ascii=False), f"of {user}", '{"user_id": "b"}']
    found = mentioning(pa.table({"payload": texts}), "payload", mention_of(user))
    assert found.column("payload").to_pylist() == texts[:2]
