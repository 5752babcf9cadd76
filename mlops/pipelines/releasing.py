"""Release what a run registered: begun once, found again by a retry, followed to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from mlops.config import MlopsConfig
from mlops.contracts.release import ENDED_PHASES, ReleaseStatus
from mlops.deployment import CanaryDeployment, DeploymentConfig
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.clients import agent_client
from mlops.deployment.errors import ReleaseUnderWay
from mlops.model_registry import RAGModelRegistry
from mlops.pipelines.account import Released
from mlops.pipelines.request import RetrainingRequest
from mlops.serving.files import write_whole
from mlops.training.outcomes import Registered

RELEASED: Final = "release.json"
ACTOR: Final = "retraining"


class NothingToRelease(RuntimeError):
    """No version was registered, or no release was begun."""


def kept_release(folder: Path) -> Released | None:
    """The release that the run in this partition began; None if it began none."""
    try:
        content = (folder / RELEASED).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=Released)


def keep_release(folder: Path, released: Released) -> None:
    """Write down where the release is; the last thing a step does."""
    write_whole(folder / RELEASED, msgspec.json.format(msgspec.json.encode(released)) + b"\n")


class Releasing:
    """Each call is safe to repeat: what was begun before is found by its reason at the agent."""

    def __init__(self, config: MlopsConfig, registry: RAGModelRegistry) -> None:
        self._config = config
        self._registry = registry
        self._deployment = CanaryDeployment(config, registry=registry, actor=ACTOR)

    async def begin(self, request: RetrainingRequest, registered: Registered) -> Released:
        """Load the version and start its release, or find the one that was started before.

        Raises:
            ReleaseUnderWay: the route is busy with another version, which holds the pool of model
                servers that this one would be loaded on.
            NotDeployable, UnknownVersion: as `CanaryDeployment.deploy_canary`.
            AgentError, GatewayError, ServerError: one of them is away, or refused.
        """
        async with self._agent() as agent:
            releases = await agent.releases()
        for one in releases:
            if one.version == registered.version and one.reason == request.release_reason:
                return self._released(registered.model, one)
        self._refuse_busy(request.route, releases)
        made = await self._deployment.deploy_canary(
            DeploymentConfig(
                model_name=registered.model,
                model_version=registered.version,
                policy=request.policy,
                route=request.route,
                reason=request.release_reason,
            )
        )
        return await self.look(registered.model, made.release_id)

    async def look(self, model: str, release_id: str) -> Released:
        """Where the release is now.

        Raises:
            AgentError: the agent is away, or knows no such release.
        """
        async with self._agent() as agent:
            return self._released(model, await agent.release(release_id))

    async def follow(self, released: Released) -> Released:
        """Let the registry's aliases follow the release; the release as it is now.

        Raises:
            NotReleased: it is still on its way: neither promoted nor ended.
            AgentError, TrackingError: the agent or MLflow is away, or refused.
        """
        async with self._agent() as agent:
            status = await agent.release(released.release_id)
        await self._deployment.follow(released.model, status)
        return self._released(released.model, status)

    def _refuse_busy(self, route: str | None, releases: list[ReleaseStatus]) -> None:
        for one in releases:
            if one.phase not in ENDED_PHASES and route in (None, one.route):
                raise ReleaseUnderWay(
                    f"route {one.route!r} is busy: release {one.id} of {one.version} is "
                    f"{one.phase}; its end is waited for",
                    release_id=one.id,
                )

    def _agent(self) -> AgentClient:
        return agent_client(self._config.places, actor=ACTOR)

    def _released(self, model: str, status: ReleaseStatus) -> Released:
        url = f"{self._config.places.agent_url}/v1/releases/{status.id}"
        return Released.of(model, status, url)
