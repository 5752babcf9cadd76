"""The arithmetic of docs/scaling.md."""

from __future__ import annotations

from typing import Any

import pytest

from bench import scaling
from bench.scaling import MEASURED, Inputs

GIVEN = Inputs(
    gateway_us=20,
    event_us=10,
    idle_kib=6,
    two_workers=1,
    recorder_rows=20_000,
    recorder_rows_floats=10_000,
    beside_rows=15_000,
    beside_rows_floats=8_000,
    engine_rows=40_000,
    engine_rows_floats=20_000,
    look_ms=30,
    cycle_ms=10,
    fleet_s=0.3,
)


def report(*, without: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (benchmark, figure) in MEASURED.items():
        if name != without:
            row = {"name": figure, "value": getattr(GIVEN, name)}
            found.setdefault(benchmark, {"figures": []})["figures"].append(row)
    return found


def test_figures_are_those_of_the_report() -> None:
    assert scaling.inputs(report()) == GIVEN


def test_without_a_figure_nothing_is_said() -> None:
    assert scaling.inputs(report(without="gateway_us")) is None
    assert scaling.block("scaling: cost", report(without="cycle_ms")) is None


def test_a_pod_forwards_what_its_target_lets_it() -> None:
    assert GIVEN.pod_rate == pytest.approx(15_000)
    said = scaling.one_of_each(GIVEN)
    assert "0.3 s / 20.0 µs = **15,000 requests a second**" in said
    assert "0.75 of a core for chat rows, and 1.50 with" in said
    assert "**the recorder is the narrow place.**" in said


def test_there_is_one_pod_more_than_needed_and_never_one_alone() -> None:
    rows = [line.split(" | ") for line in scaling.arithmetic(GIVEN).splitlines()[2:]]
    assert [row[1].split(";")[0] for row in rows] == ["2", "2", "3", "8"]
    assert rows[3][2:4] == ["2.00 + 5.00", "8.64 billion"]
    assert rows[3][4] == "2.50; with 384 floats 5.00 |"


def test_a_million_queries_cost_the_sum_of_their_parts() -> None:
    parts = GIVEN.million_s(floats=False)
    assert parts == pytest.approx({"gateway": 20, "recorder": 50, "ClickHouse": 50, "agent": 0.36})
    assert "**120**" in scaling.cost(GIVEN)
    assert "**0.0013 USD**" in scaling.cost(GIVEN)
