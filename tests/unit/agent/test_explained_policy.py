"""A policy in words: every check and every number in force is there."""

from __future__ import annotations

import pytest

from agent.console.explained import duration, explained
from agent.policy import Checks, Pause, Policy, ScoreCheck, SetMirror, SetWeight


def test_every_check_is_named_judged_or_not() -> None:
    lines = {line.name: line for line in explained(Policy())}
    for name in Checks.__dataclass_fields__:
        assert f"checks.{name}" in lines
    assert lines["checks.tokens"].value == "off"
    assert lines["checks.latency"].value == "p50, p95, p99, margin 10%"
    assert "5.00%" in lines["alpha"].meaning


def test_a_step_says_who_gets_it_and_what_ends_it() -> None:
    steps = (SetMirror(2000), Pause(90.0), SetWeight(2500), Pause())
    lines = {line.name: line for line in explained(Policy(steps=steps))}
    assert "no user sees it" in lines["steps[1]"].meaning
    assert "after 90 s at the earliest" in lines["steps[1]"].meaning
    assert lines["steps[2]"].value == "weight 25 %"
    assert "person's promote" in lines["steps[2]"].meaning
    assert "pairs.margin" in lines


def test_a_score_that_means_something_else_is_said_to_be_left_out() -> None:
    policy = Policy(checks=Checks(score=ScoreCheck(comparable=False)))
    lines = {line.name: line for line in explained(policy)}
    assert "not judged" in lines["checks.score"].meaning


def test_what_a_regression_does_depends_on_the_switch() -> None:
    lines = {line.name: line for line in explained(Policy(rolls_back=False))}
    assert "a person must roll back" in lines["automaticRollback"].meaning


@pytest.mark.parametrize(
    ("seconds", "said"), [(30, "30 s"), (119.5, "119.5 s"), (600, "10 min"), (7200, "2 h")]
)
def test_durations_are_read_at_a_glance(seconds: float, said: str) -> None:
    assert duration(seconds) == said
