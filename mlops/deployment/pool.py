"""The managed model servers of one pool: all serve a version, or each what it served before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, Self

from mlops.config import PlacesSettings
from mlops.contracts.serving import ServedModel
from mlops.deployment.clients import server_client
from mlops.deployment.errors import ServerError
from mlops.deployment.server_client import ServerClient

log = logging.getLogger(__name__)

LOAD_TIMEOUT_S: Final = 120.0
"""Longest load of one version: downloading a gigabyte and warming it up."""


class Pool:
    """Clients of its servers, open for as long as a deployment takes."""

    def __init__(self, urls: Sequence[str], places: PlacesSettings, *, actor: str) -> None:
        """`urls` are of one of the pools in `places`; `actor` is who deploys."""
        self._servers = [
            server_client(places, url, actor=actor, timeout_s=LOAD_TIMEOUT_S) for url in urls
        ]
        self._before: list[ServedModel] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.close()

    async def load(self, model: str, version: str) -> None:
        """Every server serves that version; where one cannot, all serve again what they did.

        Raises:
            ServerError: one is away, or refused.
        """
        self._before = await asyncio.gather(*(server.loaded() for server in self._servers))
        try:
            await _all(server.load(model, version) for server in self._servers)
        except BaseException:
            await self.put_back()
            raise

    async def put_back(self, instead: ServedModel | None = None) -> None:
        """Serve again what was served before `load`, or, where a server can, `instead` of that.

        Versions of before are in the servers' memory still, so this needs no store. A server that
        does not do it is named in the log: what made us put back is what the caller has to know.
        """
        await _all(
            _serve_first_of(server, [before] if instead is None else [instead, before])
            for server, before in zip(self._servers, self._before, strict=True)
        )


async def _serve_first_of(server: ServerClient, choices: Sequence[ServedModel]) -> None:
    for one in choices:
        try:
            await server.load(one.model, one.version)
            return
        except ServerError as error:
            log.warning("does not serve %s again: %s", one.version, error)


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """Every call is over before the first failure is raised."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
