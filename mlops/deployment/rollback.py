"""Take a version back at once: the gateways first, then the agent, then the record of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import msgspec

from mlops.config import MlopsConfig, read_config
from mlops.contracts.api import RouteStatus
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.errors import (
    AgentError,
    GatewayError,
    GatewayRefused,
    NotDeployable,
    RollbackIncomplete,
)
from mlops.deployment.gateway_client import GatewayClient
from mlops.model_registry import RAGModelRegistry, TrackingError, UnknownVersion

NOTHING_TO_RESTORE: Final = "nothing_to_restore"
"""The gateway's word for a route that is all stable and has no version to go back to."""

AGENT_TIMEOUT_S: Final = 2.0
"""Longest time for the agent. A release that has begun stops by itself when it sees the gateways'
plans; one that has published nothing yet must be told."""

RECORD_TIMEOUT_S: Final = 10.0
"""Longest time for the registry; what matters has been done by then."""


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
    recorded: bool
    """The registry knows, and its aliases have moved."""
    not_recorded: str = ""
    """Why it does not."""


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

        Args:
            model_name: as the gateway's file names it.
            reason: kept in the plan, the journal and the registry.
            to: the version to return to; it must be the one that the gateways kept.
            force: return to it even if it does not answer.

        Raises:
            NotDeployable: no route serves this model, or the version asked for is not kept.
            RollbackIncomplete: a gateway did not confirm; `result` says which.
        """
        urls = self._config.places.gateway_admin_urls
        answers = await asyncio.gather(
            *(self._on(url, model_name, reason, to, force=force) for url in urls)
        )
        result = _joined(model_name, dict(zip(urls, answers, strict=True)))
        aborted = await self._abort_releases(set(result.routes), reason)
        taken_back = sorted({*result.taken_back, *aborted})
        result = msgspec.structs.replace(result, taken_back=tuple(taken_back))
        result = await self._recorded(result, reason)
        if result.unconfirmed:
            raise RollbackIncomplete(
                f"{model_name}: {len(result.unconfirmed)} of {len(urls)} gateways did not confirm: "
                + "; ".join(result.unconfirmed.values()),
                result,
            )
        return result

    async def _on(
        self, url: str, model_name: str, reason: str, to: str | None, *, force: bool
    ) -> list[tuple[RouteStatus, RouteStatus]] | GatewayError:
        """Before and after of each route on one gateway, or why it did not confirm."""
        async with GatewayClient(
            url, self._config.places.gateway_token, actor=self._actor
        ) as client:
            try:
                routes = [one for one in await client.routes() if one.model == model_name]
                if not routes:
                    raise NotDeployable(f"{url}: no route serves model {model_name!r}")
                afters = await asyncio.gather(
                    *(_roll_back(client, one, to, reason, force=force) for one in routes)
                )
            except GatewayError as error:
                return error
        return list(zip(routes, afters, strict=True))

    async def _abort_releases(self, routes: set[str], reason: str) -> list[str]:
        """End releases of these routes; their versions. Nothing where the agent does not answer."""
        places = self._config.places
        try:
            async with AgentClient(
                places.agent_url, places.agent_token, actor=self._actor, timeout_s=AGENT_TIMEOUT_S
            ) as agent:
                running = [
                    one
                    for one in await agent.releases()
                    if one.route in routes and one.ended_at is None and not one.generation
                ]
                for one in running:
                    await agent.command(one.id, "abort", reason)
        except AgentError:
            return []
        return [one.version for one in running]

    async def _recorded(self, result: RolledBack, reason: str) -> RolledBack:
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S):
                for version in result.taken_back:
                    # A version of servers that are not ours is in no registry.
                    with suppress(UnknownVersion):
                        await asyncio.to_thread(
                            self._registry.roll_back, result.model, version, reason
                        )
        except (TrackingError, TimeoutError) as error:
            problem = str(error) or f"no answer within {RECORD_TIMEOUT_S:g} s"
            return msgspec.structs.replace(result, recorded=False, not_recorded=problem)
        return result


async def _roll_back(
    client: GatewayClient, route: RouteStatus, to: str | None, reason: str, *, force: bool
) -> RouteStatus:
    """After the rollback; a route that is all stable already stays as it is."""
    try:
        return await client.rollback(
            route.plan.route, to=_slot(route, to), reason=reason, force=force
        )
    except GatewayRefused as error:
        if error.code != NOTHING_TO_RESTORE or to is not None:
            raise
        return route


def _slot(route: RouteStatus, to: str | None) -> str:
    """What to ask the gateway for.

    Raises:
        NotDeployable: the version asked for is not one that it kept.
    """
    plan = route.plan
    if to is None:
        return ""
    if plan.canary is not None and plan.stable.version == to:
        return ""
    if plan.previous is not None and plan.previous.version == to:
        return "previous"
    kept = plan.previous.version if plan.previous else "none"
    raise NotDeployable(
        f"route {plan.route!r} keeps {kept} to return to, not {to}; to bring {to} back, release it"
    )


def _joined(
    model: str, answers: dict[str, list[tuple[RouteStatus, RouteStatus]] | GatewayError]
) -> RolledBack:
    routes: dict[str, str] = {}
    taken_back: set[str] = set()
    for answer in answers.values():
        if isinstance(answer, GatewayError):
            continue
        for before, after in answer:
            routes[after.plan.route] = after.plan.stable.version
            gone = {one.version for one in (before.plan.stable, before.plan.canary) if one}
            taken_back |= gone - {after.plan.stable.version}
    return RolledBack(
        model=model,
        routes=routes,
        taken_back=tuple(sorted(taken_back)),
        confirmed=tuple(
            url for url, answer in answers.items() if not isinstance(answer, GatewayError)
        ),
        unconfirmed={
            url: str(answer) for url, answer in answers.items() if isinstance(answer, GatewayError)
        },
        recorded=True,
    )
