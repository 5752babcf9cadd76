"""A client of one managed model server: which version it serves, and which it should load."""

from __future__ import annotations

from mlops.contracts.api import Problem
from mlops.contracts.serving import LoadRequest, ServedModel
from mlops.deployment.errors import ServerRefused, ServerUnavailable
from mlops.deployment.http import JsonClient


class ServerClient(JsonClient):
    """Every call raises `ServerUnavailable` or `ServerRefused`."""

    def unavailable(self, message: str) -> ServerUnavailable:
        """For `JsonClient.call`."""
        return ServerUnavailable(message)

    def refused(self, message: str, status: int, problem: Problem) -> ServerRefused:
        """The same."""
        return ServerRefused(message, status=status, code=problem.code)

    async def served(self) -> ServedModel:
        """What it serves now."""
        return await self.call("GET", "/healthz", None, ServedModel)

    async def loaded(self) -> ServedModel:
        """What it serves now, under the name that loads it again."""
        return await self.call("GET", "/admin/models", None, ServedModel)

    async def load(self, model: str, version: str) -> ServedModel:
        """Load, warm up, and serve a version; returns once requests would be answered by it."""
        body = LoadRequest(model=model, version=version)
        return await self.call("POST", "/admin/models", body, ServedModel)
