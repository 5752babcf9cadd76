"""A client of one managed model server: which version it serves, and which it should load."""

from __future__ import annotations

from typing import Final

from mlops.contracts.api import Problem
from mlops.contracts.serving import LoadRequest, ServedModel
from mlops.deployment.errors import ServerRefused, ServerUnavailable
from mlops.deployment.http import JsonClient

LOAD_TIMEOUT_S: Final = 120.0
"""Longest load of one version: downloading a gigabyte and warming it up."""


class ServerClient(JsonClient):
    """Every call raises `ServerUnavailable` or `ServerRefused`."""

    def unavailable(self, message: str) -> ServerUnavailable:
        return ServerUnavailable(message)

    def refused(self, message: str, status: int, problem: Problem) -> ServerRefused:
        return ServerRefused(message)

    async def served(self) -> ServedModel:
        """What it serves now."""
        return await self.call("GET", "/healthz", None, ServedModel)

    async def load(self, model: str, version: str) -> ServedModel:
        """Load, warm up, and serve a version; returns once requests would be answered by it."""
        body = LoadRequest(model=model, version=version)
        return await self.call("POST", "/admin/models", body, ServedModel)
