"""Bring a registered version to its users: load it, start its release, follow it to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from mlops.artifact_store import ArtifactError, MinIOArtifactStore
from mlops.config import MlopsConfig, PlacesSettings, read_config
from mlops.contracts.api import RouteStatus
from mlops.contracts.release import (
    ENDED_PHASES,
    PROMOTED_PHASES,
    ReleaseRequest,
    ReleaseStatus,
)
from mlops.contracts.serving import ServedModel
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.clients import agent_client, gateway_client
from mlops.deployment.config import DeploymentConfig, policy_of
from mlops.deployment.errors import (
    AgentError,
    AgentRefused,
    GatewayError,
    GatewayUnavailable,
    NotDeployable,
    ReleaseUnderWay,
)
from mlops.deployment.free_pool import why_taken
from mlops.deployment.pool import Pool
from mlops.deployment.recording import not_recorded
from mlops.model_registry import NotReleased, RAGModelRegistry, UnknownVersion

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How often `wait` asks the agent; a step takes tens of seconds."""

Sleep = Callable[[float], Awaitable[None]]


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A release that was started, or was under way already."""

    release_id: str
    url: str
    """Where the agent tells of it."""
    model: str
    version: str
    route: str
    endpoints: tuple[str, ...]
    """Of the new version; empty where a release under way has published nothing yet."""
    phase: str
    started: bool
    """False where the same version was being released there already."""
    not_recorded: str = ""
    """Why the registry's alias `challenger` does not lead to the version; empty if it does, or no
    registry knows the version. Deploying again sets it."""


class CanaryDeployment:
    """Every call is safe to repeat.

    ```python
    deployment = CanaryDeployment()
    made = await deployment.deploy_canary(
        DeploymentConfig(model_name="rag_embedding_model", model_version="1.2.3")
    )
    ended = await deployment.wait(made.release_id)
    ```
    """

    def __init__(
        self,
        config: MlopsConfig | None = None,
        *,
        registry: RAGModelRegistry | None = None,
        actor: str = "mlops",
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`config` defaults to what the environment says; nothing is connected yet."""
        self._config = config or read_config()
        self._registry = registry or RAGModelRegistry(self._config)
        self._actor = actor
        self._sleep = sleep

    async def deploy_canary(self, config: DeploymentConfig) -> Deployment:
        """Load the version where stable is not, wait until it is warm, and start its release.

        What fails leaves everything as it was: a pool that loaded the version for nothing serves
        again what it did. Only where the agent does not answer whether the release has begun, the
        version stays loaded; the same call finds the release, or starts it.

        Raises:
            NotDeployable: no route, or several, serve this model; users are on both pools; stable
                is this version; or an alias is given for a version.
            ReleaseUnderWay: another version is being released on the route.
            UnknownVersion: neither the registry nor the artifact store has this version.
            TrackingError: MLflow does not say whether it has. Once the release has begun it is no
                error that MLflow is away: see `not_recorded`.
            ServerError, AgentError, GatewayError: one of them is away, or refused. The `code` of a
                `ServerRefused` says what the artifact store's trouble is, if it is that.
        """
        everywhere = await answers_of(self._config.places, self._actor)
        route = _route(config, newest(everywhere))
        running = await self._running(route.plan.route)
        if running is not None:
            return await self._found(config, route, running)
        if route.plan.stable.version == config.model_version:
            raise NotDeployable(
                f"route {route.plan.route!r}: {config.model_version} is stable already"
            )
        if config.endpoints:
            status = await self._start(self._request(config, route, config.endpoints))
            return self._deployment(config, status, config.endpoints, started=True)
        await asyncio.to_thread(self._require_known, config.model_name, config.model_version)
        endpoints = self._free_pool(route.plan.route, everywhere)
        request = self._request(config, route, endpoints)
        async with Pool(endpoints, self._config.places, actor=self._actor) as pool:
            await pool.load(config.model_name, config.model_version)
            status = await self._started_on(pool, request, config.model_name)
        problem = await self._challenges(config, status)
        return self._deployment(config, status, endpoints, started=True, not_recorded=problem)

    async def wait(
        self, release_id: str, *, model_name: str = "", timeout_s: float | None = None
    ) -> ReleaseStatus:
        """Until the release has ended; with `model_name` its aliases follow in the registry.

        Args:
            release_id: as `deploy_canary` gave it.
            model_name: of the registry's model; empty leaves its aliases as they are.
            timeout_s: longest wait; None waits for as long as the release takes.

        Raises:
            TimeoutError: it is still under way.
            AgentError: the agent is away, or knows no such release.
            TrackingError: MLflow did not move the aliases.
        """
        async with asyncio.timeout(timeout_s), self._agent() as agent:
            while (status := await agent.release(release_id)).phase not in ENDED_PHASES:
                await self._sleep(POLL_S)
        if model_name:
            await self.follow(model_name, status)
        return status

    async def follow(self, model_name: str, status: ReleaseStatus) -> None:
        """Move the registry's aliases to where a release has come; safe to repeat.

        A version that the registry does not know (of servers we do not manage, or only stored) is
        left alone.

        Raises:
            NotReleased: the release is still on its way: neither promoted nor ended.
            TrackingError: MLflow did not move them.
        """
        if status.phase in PROMOTED_PHASES:
            with suppress(UnknownVersion):
                await asyncio.to_thread(self._registry.promote, model_name, status.version, status)
        elif status.phase == "rolled_back":
            reason = "; ".join(status.reasons) or "rolled back"
            with suppress(UnknownVersion):
                await asyncio.to_thread(
                    self._registry.roll_back, model_name, status.version, reason
                )
        elif status.phase == "aborted":
            with suppress(UnknownVersion):
                await asyncio.to_thread(self._registry.withdraw, model_name, status.version)
        else:
            raise NotReleased(f"release {status.id} is {status.phase}, so nothing follows yet")

    # ---- parts ----------------------------------------------------------------------------------

    async def _running(self, route: str) -> ReleaseStatus | None:
        async with self._agent() as agent:
            releases = await agent.releases()
        return next(
            (one for one in releases if one.route == route and one.phase not in ENDED_PHASES), None
        )

    async def _found(
        self, config: DeploymentConfig, route: RouteStatus, running: ReleaseStatus
    ) -> Deployment:
        if running.version != config.model_version:
            raise ReleaseUnderWay(
                f"route {running.route!r}: release {running.id} of {running.version} is "
                f"{running.phase}; wait for its end or abort it, then deploy "
                f"{config.model_version}. Nothing was loaded",
                release_id=running.id,
            )
        # Whoever started it may have died before.
        problem = await self._challenges(config, running)
        canary = route.plan.canary
        served = config.endpoints if canary is None else canary.endpoints
        return self._deployment(config, running, served, started=False, not_recorded=problem)

    async def _challenges(self, config: DeploymentConfig, status: ReleaseStatus) -> str:
        """Let the registry's alias lead to the version; why it does not. The release is under way
        by now: whoever is told of a failure would take it for one that is not."""
        if config.endpoints or status.phase in PROMOTED_PHASES:
            return ""

        def record() -> None:
            with suppress(UnknownVersion):
                self._registry.set_challenger(config.model_name, config.model_version)

        if problem := await not_recorded(record):
            log.warning("release %s goes on; `challenger` was not moved: %s", status.id, problem)
        return problem

    def _require_known(self, model: str, version: str) -> None:
        try:
            found = self._registry.resolve(model, version)
        except UnknownVersion as unknown:
            try:
                MinIOArtifactStore(self._config.minio).manifest(model, version)
            except (ArtifactError, ValueError) as error:
                raise UnknownVersion(f"{unknown}; artifact store: {error}") from unknown
            log.warning(
                "%s %s is stored but not registered: no alias will follow it", model, version
            )
            return
        if found.version != version:
            raise NotDeployable(
                f"{version!r} is an alias of {model} {found.version}; a release is of a version"
            )

    def _free_pool(self, route: str, everywhere: Sequence[RouteStatus]) -> tuple[str, ...]:
        """The pool that no route's users are on. What `previous` held is given up for it."""
        places, plans = self._config.places, [one.plan for one in everywhere]
        taken = []
        for name, pool in (("a", places.pool_a), ("b", places.pool_b)):
            why = why_taken(pool, plans, route) if pool else "no servers"
            if not why:
                return pool
            taken.append(f"pool {name}: {why}")
        raise NotDeployable(f"route {route!r}: no pool is free ({'; '.join(taken)})")

    def _request(
        self, config: DeploymentConfig, route: RouteStatus, endpoints: tuple[str, ...]
    ) -> ReleaseRequest:
        return ReleaseRequest(
            route=route.plan.route,
            version=config.model_version,
            endpoints=endpoints,
            reason=config.reason or f"deploy {config.model_name} {config.model_version}",
            policy=policy_of(config, self._config.rollout, self._config.model),
        )

    async def _start(self, request: ReleaseRequest) -> ReleaseStatus:
        async with self._agent() as agent:
            return await agent.start(request)

    async def _started_on(self, pool: Pool, request: ReleaseRequest, model: str) -> ReleaseStatus:
        """Start the release; where it is refused, the pool serves again what it did. But where
        another was faster, it serves what that one releases: it may have loaded it before us."""
        try:
            return await self._start(request)
        except AgentRefused:
            await pool.put_back(await self._faster(request.route, model))
            raise

    async def _faster(self, route: str, model: str) -> ServedModel | None:
        """What is released on the route; None where nothing is, or the agent has just gone away."""
        try:
            running = await self._running(route)
        except AgentError as error:
            log.warning("route %r: is another release under way? %s", route, error)
            return None
        return None if running is None else ServedModel(model=model, version=running.version)

    def _agent(self) -> AgentClient:
        return agent_client(self._config.places, actor=self._actor)

    def _deployment(
        self,
        config: DeploymentConfig,
        status: ReleaseStatus,
        endpoints: tuple[str, ...],
        *,
        started: bool,
        not_recorded: str = "",
    ) -> Deployment:
        return Deployment(
            release_id=status.id,
            url=f"{self._config.places.agent_url}/v1/releases/{status.id}",
            model=config.model_name,
            version=status.version,
            route=status.route,
            endpoints=endpoints,
            phase=status.phase,
            started=started,
            not_recorded=not_recorded,
        )


def _route(config: DeploymentConfig, routes: Sequence[RouteStatus]) -> RouteStatus:
    """The one that is meant."""
    if config.route is not None:
        found = [one for one in routes if one.plan.route == config.route]
    else:
        found = [one for one in routes if one.model == config.model_name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.plan.route for one in found or routes) or "none"
    what = f"route {config.route!r}" if config.route else f"model {config.model_name!r}"
    raise NotDeployable(
        f"{what} is served by {len(found)} routes ({names}); expected one: "
        + ("name it with route=" if found else "see `model` in the gateway's file")
    )


async def answers_of(places: PlacesSettings, actor: str) -> list[RouteStatus]:
    """Every route of every gateway that answers.

    Raises:
        GatewayUnavailable: none answers.
    """

    async def ask(url: str) -> list[RouteStatus] | GatewayError:
        async with gateway_client(places, url, actor=actor) as client:
            try:
                return await client.routes()
            except GatewayError as error:
                return error

    found = await asyncio.gather(*(ask(url) for url in places.gateway_admin_urls))
    problems = [str(one) for one in found if isinstance(one, GatewayError)]
    if len(problems) == len(found):
        raise GatewayUnavailable(f"no gateway answers: {'; '.join(problems)}")
    return [route for one in found if not isinstance(one, GatewayError) for route in one]


def newest(everywhere: Sequence[RouteStatus]) -> list[RouteStatus]:
    """Each route once: of several gateways' answers, the one of the greatest generation."""
    found: dict[str, RouteStatus] = {}
    for one in everywhere:
        known = found.get(one.plan.route)
        if known is None or one.plan.generation > known.plan.generation:
            found[one.plan.route] = one
    return list(found.values())
