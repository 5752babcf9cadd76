"""Answers of data sources as Grafana's frames: what its plugins make of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

Frame = dict[str, Any]
Rows = Sequence[Sequence[Any]]


def prometheus_frames(series: Iterable[Mapping[str, Any]], legend: str) -> list[Frame]:
    """One frame for each series of a range or instant query, named as its panel says."""
    frames = []
    for one in series:
        points = one["values"] if "values" in one else [one["value"]]
        name = _named(legend, one["metric"])
        frames.append(
            _frame(
                _field("Time", "time", [round(float(at_s) * 1000) for at_s, _ in points]),
                _field("Value", "number", [_number(value) for _, value in points])
                | {"config": {"displayNameFromDS": name}},
            )
        )
    return frames


def table_frame(columns: Sequence[str], rows: Rows) -> Frame:
    """Rows as they are, column by column: times, numbers, or else texts."""
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return _frame(*(_column(name, each) for name, each in zip(columns, values, strict=True)))


def series_frames(columns: Sequence[str], rows: Rows) -> list[Frame]:
    """A frame for each combination of texts, with the column `time` and those of numbers.

    A text in the column `metric` names its series, as PostgreSQL's plugin does; others are labels.
    """
    table = table_frame(columns, rows)["fields"]
    texts = [at for at, field in enumerate(table) if field["type"] == "string"]

    def key(row: Sequence[Any]) -> tuple[str, ...]:
        return tuple(str(row[at]) for at in texts)

    frames = []
    for combination, group in groupby(sorted(rows, key=key), key=key):
        labels = {columns[at]: text for at, text in zip(texts, combination, strict=True)}
        name = labels.pop("metric", None)
        fields = table_frame(columns, list(group))["fields"]
        kept = [field for field in fields if field["type"] != "string"]
        for field in kept:
            if field["type"] == "number":
                field["labels"] = labels
                field["name"] = name or field["name"]
        frames.append(_frame(*kept))
    return frames


def _named(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend)


def _frame(*fields: Frame) -> Frame:
    return {"fields": list(fields)}


def _field(name: str, kind: str, values: list[Any]) -> Frame:
    return {"name": name, "type": kind, "values": values}


def _column(name: str, values: Iterable[Any]) -> Frame:
    known = [_plain(value) for value in values]
    kinds = {type(value) for value in known if value is not None}
    if datetime in kinds:
        return _field(name, "time", [one and round(one.timestamp() * 1000) for one in known])
    if kinds <= {int, float}:
        numbers = [one if one is None else _number(one) for one in known]
        if name != "time":
            return _field(name, "number", numbers)
        return _field(name, "time", [one and round(one * 1000) for one in numbers])  # of epoch
    return _field(name, "string", [one if one is None else str(one) for one in known])


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return value


def _number(value: Any) -> float | None:
    """None for what JSON has no number for."""
    number = float(value)
    return number if abs(number) < float("inf") else None
