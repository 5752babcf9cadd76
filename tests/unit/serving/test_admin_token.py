"""Who may load versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from mlops.serving.app import ModelServer
from mlops.serving.fetching import fetching, load_version
from mlops.serving.versions import Versions


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TestServer]:
    versions = Versions(partial(load_version, corpus_cache=tmp_path), fetching(tmp_path))
    async with TestServer(ModelServer(versions, admin_token="hush").application()) as found:
        yield found


async def status_of(server: TestServer, authorization: bytes) -> int:
    """Sent as it is: a client's library would refuse bytes that are no text."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = b"GET /admin/models HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"
    writer.write(head + b"Authorization: " + authorization + b"\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_the_token_lets_in(server: TestServer) -> None:
    assert await status_of(server, b"Bearer hush") == 503  # nothing is loaded


@pytest.mark.parametrize(
    "authorization", [b"", b"hush", b"Basic hush", b"Bearer hus", b"Bearer hush2", b"Bearer \xe4"]
)
async def test_anything_else_is_unauthorized(server: TestServer, authorization: bytes) -> None:
    assert await status_of(server, authorization) == 401


async def test_without_a_token_a_web_page_loads_nothing(tmp_path: Path) -> None:
    """A browser on this machine is on this machine too."""
    versions = Versions(partial(load_version, corpus_cache=tmp_path), fetching(tmp_path))
    body = b'{"model": "m", "version": "1.0.0"}'
    async with (
        TestServer(ModelServer(versions).application()) as server,
        ClientSession() as session,
        session.post(
            server.make_url("/admin/models"), data=body, headers={"Origin": "https://evil.example"}
        ) as answer,
    ):
        assert answer.status == 403
        assert "a browser may change nothing" in await answer.text()
