"""What is deployed becomes a policy that the agent reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.policy import Pause, Policy, RateCheck, ScoreCheck
from agent.policy_file import parse_policy
from mlops.config import MlopsConfig, ModelSettings, read_config
from mlops.deployment import DeploymentConfig
from mlops.deployment.config import DEFAULT_MARGINS, policy_of

DAY_S = 86_400.0
STEPS = [{"setWeight": 5}]


@pytest.fixture
def config(tmp_path: Path) -> MlopsConfig:
    return read_config({}, tmp_path)


def read(config: MlopsConfig, ceiling: float | None = None, **asked: Any) -> Policy:
    """The policy as the agent has it."""
    model: ModelSettings = config.model
    if ceiling is not None:
        model = replace(model, canary_threshold=ceiling)
    wanted = DeploymentConfig(model_name="m", model_version="1.0.1", **asked)
    return parse_policy(policy_of(wanted, config.rollout, model))


@pytest.mark.parametrize("duration_s", [0.25, 3600, 20 * DAY_S, 1_234_567.5])
def test_a_canary_stays_for_as_long_as_it_is_told_to(
    config: MlopsConfig, duration_s: float
) -> None:
    found = read(config, traffic_percentage=10, canary_duration=duration_s)
    assert found.steps[-1] == Pause(duration_s=duration_s)


@pytest.mark.parametrize("duration_s", [-1.0, float("nan"), float("inf")])
def test_a_duration_that_is_none_is_refused_by_name(config: MlopsConfig, duration_s: float) -> None:
    with pytest.raises(ValueError, match=f"canary_duration is {duration_s:g}, expected seconds"):
        read(config, traffic_percentage=10, canary_duration=duration_s)


def test_evidence_may_be_away_for_as_long_as_the_setting_says(config: MlopsConfig) -> None:
    rollout = replace(config.rollout, rollback_timeout_minutes=1_000_000.0)
    assert read(replace(config, rollout=rollout)).invalid_limit_s == 6e7


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"margin": 0.1}, 0.01),
        ({"margin": "10%"}, 0.01),
        ({"margin": "0.5%"}, 0.005),
        ({"margin": 0.001}, 0.001),
        (None, 0.005),
        ({"tolerance": 2}, 0.005),
    ],
)
def test_no_margin_of_errors_is_above_the_ceiling(
    config: MlopsConfig, check: Any, expected: float
) -> None:
    found = read(config, ceiling=0.01, policy={"steps": STEPS, "checks": {"errors": check}})
    assert isinstance(found.checks.errors, RateCheck)
    assert found.checks.errors.margin == expected


@pytest.mark.parametrize("policy", [None, {"steps": STEPS, "checks": {"errors": None}}])
def test_a_margin_that_nobody_wrote_down_has_the_ceiling_too(
    config: MlopsConfig, policy: Any
) -> None:
    found = read(config, ceiling=0.002, policy=policy)
    assert isinstance(found.checks.errors, RateCheck)
    assert found.checks.errors.margin == 0.002


def test_scores_have_it_and_latencies_have_not(config: MlopsConfig) -> None:
    checks = {"latency": {"margin": "40%"}, "score": {"field": "helpful"}}
    found = read(config, ceiling=0.01, policy={"steps": STEPS, "checks": checks})
    assert isinstance(found.checks.score, ScoreCheck)
    assert found.checks.score.margin == 0.01
    assert found.checks.latency is not None
    assert found.checks.latency.margin == 0.4


def test_the_margins_taken_for_the_agents_are_the_agents() -> None:
    assert {"errors": RateCheck().margin, "score": ScoreCheck().margin} == DEFAULT_MARGINS


@pytest.mark.parametrize(
    "checks", [[], "errors", {"errors": "10%"}, {"errors": {"margin": "a lot"}}]
)
def test_what_is_no_check_is_left_for_the_agent_to_refuse(config: MlopsConfig, checks: Any) -> None:
    wanted = DeploymentConfig(
        model_name="m",
        model_version="1.0.1",
        policy={"steps": STEPS, "checks": checks},
    )
    assert policy_of(wanted, config.rollout, config.model)["checks"] == checks


def test_the_name_of_a_file_is_no_policy() -> None:
    with pytest.raises(ValueError, match=r"policy is the text 'policy\.yaml'; expected .* Path"):
        DeploymentConfig(model_name="m", model_version="1", policy=cast("Any", "policy.yaml"))
