"""What data sources answer, as the preview of the dashboards draws it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.dashboards.frames import prometheus_frames, series_frames, table_frame

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT_MS = 1_772_452_800_000


def test_a_series_of_prometheus_is_named_as_its_panel_says() -> None:
    series = [{"metric": {"arm": "canary"}, "values": [[AT_MS / 1000, "0.5"], [1.0, "NaN"]]}]
    (frame,) = prometheus_frames(series, "{{arm}} of {{ route }}")
    time, value = frame["fields"]
    assert time["values"] == [AT_MS, 1000]
    assert value["values"] == [0.5, None]
    assert value["config"]["displayNameFromDS"] == "canary of "


def test_the_last_value_alone_is_a_frame_too() -> None:
    (frame,) = prometheus_frames([{"metric": {}, "value": [2.0, "7"]}], "now")
    assert [field["values"] for field in frame["fields"]] == [[2000], [7.0]]


@pytest.mark.parametrize(
    ("column", "values", "kind", "expected"),
    [
        ("at", [AT, None], "time", [AT_MS, None]),
        ("at", [AT.replace(tzinfo=None)], "time", [AT_MS]),
        ("time", [Decimal(2)], "time", [2000]),
        ("rows", [3, None], "number", [3.0, None]),
        ("share", [Decimal("0.5"), float("inf")], "number", [0.5, None]),
        ("state", ["failed", None], "string", ["failed", None]),
    ],
)
def test_a_column_is_of_times_numbers_or_texts(
    column: str, values: list[object], kind: str, expected: list[object]
) -> None:
    (field,) = table_frame([column], [[value] for value in values])["fields"]
    assert (field["type"], field["values"]) == (kind, expected)


def test_an_empty_table_keeps_its_columns() -> None:
    assert [one["name"] for one in table_frame(["a", "b"], [])["fields"]] == ["a", "b"]


def test_texts_tell_series_apart_and_times_stay_in_order() -> None:
    rows = [(AT, "b", 1), (AT, "a", 2), (datetime(2026, 3, 3, tzinfo=UTC), "b", 3)]
    first, second = series_frames(["time", "arm", "requests"], rows)
    assert [first["fields"][1]["labels"], second["fields"][1]["labels"]] == [
        {"arm": "a"},
        {"arm": "b"},
    ]
    assert second["fields"][1]["values"] == [1.0, 3.0]


def test_the_column_metric_names_its_series() -> None:
    (frame,) = series_frames(["time", "metric", "value"], [(AT, "recall", 0.8)])
    assert frame["fields"][1]["name"] == "recall"
    assert frame["fields"][1]["labels"] == {}
