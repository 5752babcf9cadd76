"""A client of the agent's API."""

from __future__ import annotations

from urllib.parse import quote

from mlops.contracts.api import Problem
from mlops.contracts.release import ReleaseRequest, ReleaseStatus, VerbRequest
from mlops.deployment.errors import AgentRefused, AgentUnavailable
from mlops.deployment.http import JsonClient


class AgentClient(JsonClient):
    """Every call raises `AgentUnavailable` or `AgentRefused`."""

    def unavailable(self, message: str) -> AgentUnavailable:
        """For `JsonClient.call`."""
        return AgentUnavailable(message)

    def refused(self, message: str, status: int, problem: Problem) -> AgentRefused:
        """The same."""
        return AgentRefused(message, status=status, code=problem.code)

    async def releases(self) -> list[ReleaseStatus]:
        """Every release, newest first, without their policies."""
        return await self.call("GET", "/v1/releases", None, list[ReleaseStatus])

    async def release(self, release_id: str) -> ReleaseStatus:
        """One, with its policy; refused (404) where there is none of that id."""
        return await self.call(
            "GET", f"/v1/releases/{quote(release_id, safe='')}", None, ReleaseStatus
        )

    async def start(self, request: ReleaseRequest) -> ReleaseStatus:
        """Begin a release; refused (409) while its route has one."""
        return await self.call("POST", "/v1/releases", request, ReleaseStatus)

    async def command(self, release_id: str, verb: str, reason: str) -> ReleaseStatus:
        """`pause`, `resume`, `promote`, `abort` or `retry`."""
        path = f"/v1/releases/{quote(release_id, safe='')}/{verb}"
        return await self.call("POST", path, VerbRequest(reason=reason), ReleaseStatus)
