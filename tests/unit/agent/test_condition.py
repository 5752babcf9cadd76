"""A condition says yes or no about numbers, and can say nothing else."""

from __future__ import annotations

from math import nan

import pytest

from agent.condition import Condition, Undecidable


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("result[0] < 0.05", [0.01], True),
        ("result[0] < 0.05", [0.05], False),
        ("result < 0.05", [0.01], True),
        ("0 <= result[0] <= 1 && len(result) == 2", [0.5, 2.0], True),
        ("not (result[0] > 1 || result[1] > 1)", [0.5, 0.5], True),
        ("result[0] / result[1] < 0.1", [1.0, 20.0], True),
        ("isNaN(result[0]) or result[0] < 1", [nan], True),
        ("len(result) == 0", [], True),
    ],
)
def test_what_a_condition_says(text: str, result: list[float], expected: bool) -> None:
    assert Condition(text).holds(result) is expected


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("result[0] < 1", []),
        ("result < 1", [1.0, 2.0]),
        ("result[0] != 5", [nan]),
        ("result[0] / result[1] < 1", [1.0, 0.0]),
        ("result[0]", [1.0]),
        ("result[0] < 1" + "0" * 400, [1.0]),
    ],
)
def test_no_value_is_neither_yes_nor_no(text: str, result: list[float]) -> None:
    with pytest.raises(Undecidable):
        Condition(text).holds(result)


@pytest.mark.parametrize(
    "text",
    ["", "result[0] <", "__import__('os')", "result.x < 1", "open('f') < 1", "x < 1",
     "[r for r in result] == 1", "result[0] in (1,)", "'a' < 'b'", "1 " * 400],
)  # fmt: skip
def test_nothing_else_is_understood(text: str) -> None:
    with pytest.raises(ValueError, match="successCondition"):
        Condition(text)
