"""What the agent's file may say of the agent itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.loop import CLOCK_SKEW_S, LEADER_TTL_S
from agent.settings import MAX_INTERVAL_S, AgentSettings, SettingsError, load


def with_interval(tmp_path: Path, interval: str) -> AgentSettings:
    path = tmp_path / "agent.yaml"
    path.write_text(f'gateways: [{{url: "http://127.0.0.1:8001"}}]\ninterval: {interval}\n')
    return load(path, {})


@pytest.mark.parametrize(("text", "seconds"), [("50ms", 0.05), ("1s", 1.0), ("5s", 5.0)])
def test_a_cycle_begins_each_interval(tmp_path: Path, text: str, seconds: float) -> None:
    assert with_interval(tmp_path, text).interval_s == seconds


@pytest.mark.parametrize("text", ["49ms", "5001ms", "60s", "soon", '"1"'])
def test_an_interval_that_would_not_do_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="interval: expected a duration"):
        with_interval(tmp_path, text)


def test_a_leader_acts_from_one_cycle_to_the_next_but_one() -> None:
    assert 2 * MAX_INTERVAL_S <= LEADER_TTL_S - CLOCK_SKEW_S
