"""The report and the documents say what was measured, and the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bench import figures

MACHINE = {"cpu": "c", "cores": 2, "memory_mib": 1, "system": "s"}


def row(name: str, value: float, **changes: Any) -> dict[str, Any]:
    measured = {"name": name, "value": value, "unit": "us", "goal": "", "holds": True, "peers": {}}
    run = {"machine": MACHINE, "versions": {"python": "3"}, "measured_on": "2026-01-01"}
    return measured | run | changes


def test_report_and_documents_match() -> None:
    """If not: `make report`."""
    assert figures.stale(figures.load()) == []


def test_the_report_names_every_benchmark_by_its_command() -> None:
    report = figures.load()
    assert set(report) <= set(figures.COMMANDS)
    assert "make bench-gateway" in figures.page(report)


def test_no_figure_is_said_to_hold_that_its_number_contradicts() -> None:
    compared = 0
    for name, found in figures.load().items():
        for figure in found["figures"]:
            goal = re.fullmatch(r"(?:must )?(<=|>=) ([\d.]+)", figure["goal"])
            if goal is not None:
                compared += 1
                short = figure["value"] - float(goal[2])
                holds = short <= 0 if goal[1] == "<=" else short >= 0
                assert figure["holds"] is holds, f"{name}: {figure['name']}"
    assert compared


def test_a_run_of_a_part_replaces_its_own_figures_alone() -> None:
    whole = figures.gathered({}, {"agent": [row("a", 1), row("b", 2), row("c", 3)]})
    part = figures.gathered(whole, {"agent": [row("b", 5), row("d", 4)]})
    values = [(each["name"], each["value"]) for each in part["agent"]["figures"]]
    assert values == [("a", 1), ("b", 5), ("d", 4), ("c", 3)]


def test_a_whole_run_replaces_all_that_was_there() -> None:
    before = figures.gathered({}, {"agent": [row("a", 1), row("renamed", 2)]})
    whole = figures.gathered(before, {"agent": [row("a", 3, is_part=False)]})
    assert [(each["name"], each["value"]) for each in whole["agent"]["figures"]] == [("a", 3)]


def test_a_result_of_no_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of gateway, .* got 'stroe'"):
        figures.gathered({}, {"stroe": [row("a", 1)]})


@pytest.mark.parametrize("name", figures.SELECTIONS)
def test_a_table_of_several_benchmarks_has_all_its_figures(name: str) -> None:
    report = figures.load()
    found = {figure["name"] for figure in figures.selected(report, name)}
    wanted = figures.SELECTIONS[name]
    assert found == {figure for benchmark, figure in wanted if benchmark in report}


def test_every_benchmark_has_a_table_in_a_document() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in figures.documents())
    for name in figures.COMMANDS:
        assert f"<!-- figures: {name} -->" in text or f"<!-- figures: {name} goals -->" in text


def test_figures_of_another_machine_do_not_stand_beside() -> None:
    whole = figures.gathered({}, {"agent": [row("a", 1), row("b", 2)]})
    other = figures.gathered(whole, {"agent": [row("b", 5, machine={**MACHINE, "cores": 8})]})
    assert [each["name"] for each in other["agent"]["figures"]] == ["b"]


def test_a_figure_with_two_goals_is_one_line() -> None:
    goals = [row("a", 1.2345, goal="<= 2"), row("a", 1.2345, goal="<= 1", holds=False)]
    assert "| a | 1.23 µs | <= 2 ✓; <= 1 (missed) | |" in figures.table(goals)


def test_a_goal_that_is_missed_is_said_first() -> None:
    report = figures.gathered({}, {"agent": [row("a", 3, goal="<= 1", holds=False)]})
    assert "- agent: a, 3 us (<= 1)" in figures.page(report)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.00204, "0.00204"), (131.53, "131.5"), (59_582.9, "59,580"), (11_166, "11,166")],
)
def test_digits_that_count(value: float, expected: str) -> None:
    assert figures.shown(value) == expected


def test_a_table_is_filled_in_and_one_without_results_says_how_to_get_them() -> None:
    text = "a\n<!-- figures: NAME -->\nold\n<!-- /figures -->\nb"
    report = figures.gathered({}, {"agent": [row("x", 1), row("y", 2, goal="<= 3")]})
    filled = figures.filled(text.replace("NAME", "agent goals"), report)
    assert "| y | 2 µs | <= 3 ✓ | |" in filled
    assert "| x |" not in filled
    assert filled.startswith("a\n<!-- figures")
    assert filled.endswith("<!-- /figures -->\nb")
    assert figures.filled(filled, report) == filled
    other = figures.filled(text.replace("NAME", "store goals"), report)
    assert "\nold\n" not in other
    assert "Not measured for this report: `make bench-store FULL=1`." in other


def test_a_table_of_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of gateway, .* got 'stroe'"):
        figures.filled("<!-- figures: stroe -->\n<!-- /figures -->", {})
