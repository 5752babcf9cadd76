"""`/v1/drift`: what the watcher says, and how a person acknowledges it."""

from __future__ import annotations

from aiohttp import web

from agent.drift_watcher import DriftWatcher
from agent.releases import NotFound
from mlops.contracts.drift import DriftAcknowledgement
from mlops.service.http import GRANT, actor_of, decode, json_answer, read_body


class DriftApi:
    """Handlers; added to the agent's application."""

    def __init__(self, watcher: DriftWatcher) -> None:
        self._watcher = watcher

    def routes(self) -> list[web.RouteDef]:
        """To be added behind the door of the API: `authorizing` must have let the caller in."""
        path = "/v1/routes/{route}/drift"
        return [
            web.get("/v1/drift", self._get_all),
            web.get(path, self._get_one),
            web.post(f"{path}/acknowledge", self._post_acknowledge),
        ]

    async def _get_all(self, request: web.Request) -> web.Response:
        grant = request[GRANT]
        found = await self._watcher.statuses()
        return json_answer([one for route, one in found.items() if grant.may_touch(route)])

    async def _get_one(self, request: web.Request) -> web.Response:
        route = request.match_info["route"]
        found = (await self._watcher.statuses()).get(route)
        if found is None:
            raise _unknown(route)
        return json_answer(found)

    async def _post_acknowledge(self, request: web.Request) -> web.Response:
        route, body = request.match_info["route"], await read_body(request)
        wanted = decode(body, DriftAcknowledgement) if body else DriftAcknowledgement()
        found = await self._watcher.acknowledge(route, actor_of(request), wanted.reason)
        if found is None:
            raise _unknown(route)
        return json_answer(found)


def _unknown(route: str) -> NotFound:
    return NotFound(f"no queries of a route {route!r} were looked at")
