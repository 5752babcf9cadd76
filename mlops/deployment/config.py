"""What to deploy and how, and the release policy that comes of it. Pure but for reading YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

import yaml

from mlops.config import ModelSettings, RolloutSettings, Strategy
from mlops.config.values import LEAST_PERCENTAGE
from mlops.contracts.plan import MAX_CANARY_SHARE_BP
from mlops.deployment.strategies import DIRECTORY

DEFAULT_MARGINS: Final = {"errors": 0.005, "score": 0.02}
"""The agent's own, of the checks whose margin is absolute; a ceiling above them changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConfig:
    """One version of one model, and how it is brought to its users.

    What is None comes from the environment (`MLOPS_DEPLOYMENT_STRATEGY`,
    `MLOPS_CANARY_TRAFFIC_PERCENTAGE`), else from the shipped policy of the strategy.
    """

    model_name: str
    model_version: str
    """Semantic where this system loads the model; anything where `endpoints` are given."""
    deployment_type: str | None = None
    """`canary`, `shadow` or `blue_green`."""
    traffic_percentage: float | None = None
    """One weight instead of the policy's steps, 0.01..95; canary only."""
    canary_duration: float | None = None
    """Seconds that the canary stays at that weight at the least; then HEALTHY promotes, UNDECIDED
    waits, and REGRESSED rolls back at any time."""
    policy: Mapping[str, Any] | Path | None = None
    """A whole policy instead of the three above."""
    route: str | None = None
    """Where the model serves several routes."""
    endpoints: tuple[str, ...] = ()
    """Of servers that this system does not manage; empty: a pool of its own loads the version."""
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.model_name or not self.model_version:
            raise ValueError("model_name and model_version must not be empty")
        if isinstance(self.policy, str):
            raise ValueError(  # noqa: TRY004  as for every other field
                f"policy is the text {self.policy!r}; expected a mapping, or the Path of a file"
            )
        if self.policy is not None and self._traffic:
            raise ValueError(
                f"policy and {', '.join(self._traffic)} are both given; a policy says it all"
            )
        if self.deployment_type is not None and self.deployment_type not in set(Strategy):
            raise ValueError(
                f"deployment_type: expected {', '.join(Strategy)}, got {self.deployment_type!r}"
            )
        share = self.traffic_percentage
        if share is not None and not LEAST_PERCENTAGE <= share <= MAX_CANARY_SHARE_BP / 100:
            raise ValueError(
                f"traffic_percentage {share:g} is outside {LEAST_PERCENTAGE}.."
                f"{MAX_CANARY_SHARE_BP / 100:g}: stable keeps the rest as a control"
            )
        if self.canary_duration is not None and not 0 <= self.canary_duration < inf:
            raise ValueError(
                f"canary_duration is {self.canary_duration:g}, expected seconds from 0 on"
            )

    @property
    def _traffic(self) -> list[str]:
        names = ("deployment_type", "traffic_percentage", "canary_duration")
        return [name for name in names if getattr(self, name) is not None]


def policy_of(
    config: DeploymentConfig, rollout: RolloutSettings, model: ModelSettings
) -> dict[str, Any]:
    """The release policy as the agent reads it.

    Args:
        config: what the caller says; wins.
        rollout: what the environment says.
        model: ceiling on margins, and whether anything is rolled back by itself.

    Raises:
        ValueError: the policy's file cannot be read, or fields contradict each other.
    """
    policy = _base(config, rollout)
    policy.setdefault("invalidLimit", rollout.rollback_timeout_minutes * 60)
    if not model.rollback_enabled:
        policy["automaticRollback"] = False
    return _under_ceiling(policy, model.canary_threshold)


def _base(config: DeploymentConfig, rollout: RolloutSettings) -> dict[str, Any]:
    if isinstance(config.policy, Path):
        return _read(config.policy)
    if config.policy is not None:
        return dict(config.policy)
    strategy = Strategy(config.deployment_type or rollout.strategy)
    explicit = config.traffic_percentage is not None or config.canary_duration is not None
    if strategy is not Strategy.CANARY:
        if explicit:
            raise ValueError(
                f"traffic_percentage and canary_duration belong to a canary; {strategy} has "
                "steps of its own (give a policy to change them)"
            )
        return _read(DIRECTORY / f"{strategy}.yaml")
    policy = _read(DIRECTORY / f"{strategy}.yaml")
    if not explicit and not rollout.percentage_is_set:
        return policy
    share = config.traffic_percentage or rollout.canary_traffic_percentage
    policy["steps"] = [{"setWeight": share}]
    if config.canary_duration:
        policy["steps"].append({"pause": {"duration": config.canary_duration}})
    return policy


def _under_ceiling(policy: dict[str, Any], ceiling: float) -> dict[str, Any]:
    """Absolute margins (errors, scores) at most `ceiling`; relative ones stay as they are.

    What is no check or no margin stays too: the agent refuses it, and says where it stands.
    """
    checks = policy.get("checks")
    if checks is None:
        if ceiling >= DEFAULT_MARGINS["errors"]:
            return policy
        checks = {"errors": None, "latency": None}
    if isinstance(checks, Mapping):
        policy["checks"] = {
            name: _check_under(check, DEFAULT_MARGINS.get(name), ceiling)
            for name, check in checks.items()
        }
    return policy


def _check_under(check: Any, default: float | None, ceiling: float) -> Any:
    given = {} if check is None else check
    if default is None or not isinstance(given, Mapping):
        return check
    return {**given, "margin": ceiling} if _share(given.get("margin", default)) > ceiling else check


def _share(margin: object) -> float:
    """`0.005`, or `0.5%`; what is neither is above no ceiling."""
    if isinstance(margin, int | float):
        return float(margin)
    try:
        number, percent, _ = str(margin).strip().partition("%")
        return float(number) / 100 if percent else 0.0
    except ValueError:
        return 0.0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"policy {path}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004 - the file's fault, not the caller's
            f"policy {path}: expected keys such as `steps:`"
        )
    return found
