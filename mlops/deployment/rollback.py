"""Take a version back at once: the gateways first, then the agent, then the record of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from mlops.config import MlopsConfig, read_config
from mlops.contracts.api import RouteStatus
from mlops.deployment.clients import agent_client, gateway_client
from mlops.deployment.errors import (
    AgentError,
    GatewayError,
    GatewayRefused,
    NotDeployable,
    RollbackIncomplete,
)
from mlops.deployment.gateway_client import GatewayClient
from mlops.deployment.notices import Notice, tell
from mlops.deployment.recording import not_recorded
from mlops.deployment.way_back import WayBack, way_back
from mlops.model_registry import RAGModelRegistry, UnknownVersion

NOTHING_TO_RESTORE: Final = "nothing_to_restore"
"""The gateway's word for a route that is all stable and has no version to go back to."""

AGENT_TIMEOUT_S: Final = 2.0
"""Longest time for the agent. A release that has begun stops by itself when it sees the gateways'
plans; one that has published nothing yet must be told."""


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback did."""

    model: str
    routes: dict[str, str]
    """Route to the version that serves it now."""
    taken_back: tuple[str, ...]
    """Versions that serve no users any more."""
    confirmed: tuple[str, ...]
    """Gateways, by address."""
    unconfirmed: dict[str, str]
    """Gateways that did not confirm, and why; they may still send requests to the version."""
    without_model: tuple[str, ...] = ()
    """Gateways that answered and route nothing to this model: there was nothing to take back."""
    recorded: bool
    """The registry knows, and its aliases have moved."""
    not_recorded: str = ""
    """Why it does not."""
    not_told: str = ""
    """Why the notice (`MLOPS_NOTICE_URL`) was not taken; empty if it was, or nobody is told."""


class _Answer(NamedTuple):
    """Of one gateway: before and after of each of the model's routes, and what went wrong."""

    routes: list[tuple[RouteStatus, RouteStatus]]
    problem: GatewayError | NotDeployable | None = None

    @property
    def lacks_model(self) -> bool:
        return not self.routes and self.problem is None


class RollbackManager:
    """Needs the gateways and nothing else; the registry is told when it answers."""

    def __init__(
        self,
        config: MlopsConfig | None = None,
        *,
        registry: RAGModelRegistry | None = None,
        actor: str = "mlops",
    ) -> None:
        """`config` defaults to what the environment says; nothing is connected yet."""
        self._config = config or read_config()
        self._registry = registry or RAGModelRegistry(self._config)
        self._actor = actor

    async def emergency_rollback(
        self, model_name: str, reason: str, *, to: str | None = None, force: bool = False
    ) -> RolledBack:
        """Every route of the model to stable on every gateway, at once; where there is no canary,
        to the version before the last promotion. Repeating it changes nothing.

        The agent, the registry and whoever `MLOPS_NOTICE_URL` names are told once all gateways have
        answered, each within a bound; none of them is needed.

        Args:
            model_name: as the gateway's file names it.
            reason: kept in the plan, the journal and the registry.
            to: the version to return to; it must be one that the gateways kept.
            force: return to it even if it does not answer.

        Raises:
            NotDeployable: no gateway routes anything to this model, or none kept the version.
            RollbackIncomplete: a gateway did not confirm; `result` says which.
        """
        urls = self._config.places.gateway_admin_urls
        found = await asyncio.gather(
            *(self._on(url, model_name, reason, to, force=force) for url in urls)
        )
        answers = dict(zip(urls, found, strict=True))
        _require_some(model_name, answers)
        result = await self._afterwards(_joined(model_name, answers), reason)
        if result.unconfirmed:
            raise RollbackIncomplete(
                f"{model_name}: {len(result.unconfirmed)} of {len(urls)} gateways did not confirm: "
                + "; ".join(result.unconfirmed.values()),
                result,
            )
        return result

    async def _on(
        self, url: str, model_name: str, reason: str, to: str | None, *, force: bool
    ) -> _Answer:
        """One gateway; whatever goes wrong on it is its own."""
        async with gateway_client(self._config.places, url, actor=self._actor) as client:
            try:
                routes = [one for one in await client.routes() if one.model == model_name]
                ways = [WayBack.STABLE if to is None else way_back(one.plan, to) for one in routes]
            except (GatewayError, NotDeployable) as error:
                return _Answer([], error)
            afters = await asyncio.gather(
                *(
                    _roll_back(client, route, way, reason, force=force)
                    for route, way in zip(routes, ways, strict=True)
                ),
                return_exceptions=True,
            )
        moved, problem = list[tuple[RouteStatus, RouteStatus]](), None
        for route, after in zip(routes, afters, strict=True):
            if isinstance(after, GatewayError):
                problem = after
            elif isinstance(after, BaseException):
                raise after
            else:
                moved.append((route, after))
        return _Answer(moved, problem)

    async def _afterwards(self, result: RolledBack, reason: str) -> RolledBack:
        """Tell everybody else: none of them is needed, and none waits for another."""
        told = asyncio.ensure_future(tell(self._config.notices, self._notice(result, reason)))
        try:
            aborted = await self._abort_releases(set(result.routes), reason)
            taken_back = sorted({*result.taken_back, *aborted} - set(result.routes.values()))
            result = msgspec.structs.replace(result, taken_back=tuple(taken_back))
            result = await self._recorded(result, reason)
            return msgspec.structs.replace(result, not_told=await told)
        finally:
            told.cancel()

    def _notice(self, result: RolledBack, reason: str) -> Notice:
        return Notice(
            target=result.model,
            routes=result.routes,
            actor=self._actor,
            reason=reason,
            confirmed=result.confirmed,
            unconfirmed=tuple(result.unconfirmed),
        )

    async def _abort_releases(self, routes: set[str], reason: str) -> list[str]:
        """End releases of these routes; their versions. What the agent does not end, because it is
        away or the release has just ended by itself, is left out and holds up no other."""
        aborted = []
        async with agent_client(
            self._config.places, actor=self._actor, timeout_s=AGENT_TIMEOUT_S
        ) as agent:
            try:
                running = [
                    one
                    for one in await agent.releases()
                    if one.route in routes and one.ended_at is None and not one.generation
                ]
            except AgentError:
                return []
            for one in running:
                with suppress(AgentError):
                    await agent.command(one.id, "abort", reason)
                    aborted.append(one.version)
        return aborted

    async def _recorded(self, result: RolledBack, reason: str) -> RolledBack:
        def record() -> None:
            for version in result.taken_back:
                with suppress(UnknownVersion):  # of servers that are not ours
                    self._registry.roll_back(result.model, version, reason)

        problem = await not_recorded(record)
        return msgspec.structs.replace(result, recorded=not problem, not_recorded=problem)


async def _roll_back(
    client: GatewayClient, route: RouteStatus, way: WayBack | None, reason: str, *, force: bool
) -> RouteStatus:
    """After the rollback; a route that is where it should be already stays as it is."""
    if way is None:
        return route
    try:
        return await client.rollback(route.plan.route, to=way, reason=reason, force=force)
    except GatewayRefused as error:
        if error.code != NOTHING_TO_RESTORE:
            raise
        return route


def _require_some(model: str, answers: dict[str, _Answer]) -> None:
    """Refuse what can be done on no gateway, now or later."""
    problems = [one.problem for one in answers.values() if not one.lacks_model]
    if not problems:
        raise NotDeployable(f"no route serves model {model!r} on {', '.join(answers)}")
    refusals = [one for one in problems if isinstance(one, NotDeployable)]
    if len(refusals) == len(problems):
        raise refusals[0]


def _joined(model: str, answers: dict[str, _Answer]) -> RolledBack:
    """What all gateways did. One that still serves what another has taken back, as it kept nothing
    to return to, has not confirmed."""
    gone: dict[str, set[str]] = {}
    for answer in answers.values():
        for before, after in answer.routes:
            served = {one.version for one in (before.plan.stable, before.plan.canary) if one}
            gone.setdefault(after.plan.route, set()).update(served - {after.plan.stable.version})
    routes: dict[str, str] = {}
    unconfirmed = {url: str(one.problem) for url, one in answers.items() if one.problem}
    for url, answer in answers.items():
        for _, after in answer.routes:
            route, version = after.plan.route, after.plan.stable.version
            if version not in gone[route]:
                routes[route] = version
                continue
            routes.setdefault(route, version)
            unconfirmed.setdefault(
                url, f"{url}: route {route!r} serves {version} and keeps nothing to return to"
            )
    taken_back = {version for versions in gone.values() for version in versions}
    return RolledBack(
        model=model,
        routes=routes,
        taken_back=tuple(sorted(taken_back - set(routes.values()))),
        confirmed=tuple(
            url for url, one in answers.items() if one.routes and url not in unconfirmed
        ),
        unconfirmed=unconfirmed,
        without_model=tuple(url for url, one in answers.items() if one.lacks_model),
        recorded=True,
    )
