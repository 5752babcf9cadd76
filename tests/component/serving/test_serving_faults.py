from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.faults import FaultSettings, with_faults
from mlops.serving.versions import Versions

BODY = {"query_text": "join two paths"}


def faulty(served: Versions, settings: FaultSettings) -> TestClient:
    return TestClient(TestServer(with_faults(ModelServer(served).application(), settings)))


async def test_errors_come_at_their_share_and_repeat_with_the_seed(served: Versions) -> None:
    async def statuses() -> list[int]:
        async with faulty(served, FaultSettings(error_percent=30, seed=5)) as client:
            return [(await client.post("/query", json=BODY)).status for _ in range(100)]

    first = await statuses()
    assert set(first) == {200, 500}
    assert 15 <= first.count(500) <= 45
    assert await statuses() == first


async def test_every_answer_is_late_by_the_delay(served: Versions) -> None:
    loop = asyncio.get_running_loop()
    async with faulty(served, FaultSettings(delay_ms=60)) as client:
        started_s = loop.time()
        assert (await client.post("/query", json=BODY)).status == 200
        assert loop.time() - started_s >= 0.06


async def test_a_reset_breaks_the_connection(served: Versions) -> None:
    async with faulty(served, FaultSettings(reset_percent=100)) as client:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await client.post("/query", json=BODY)


async def test_a_hang_never_answers_but_health_does(served: Versions) -> None:
    async with faulty(served, FaultSettings(hang_percent=100)) as client:
        with pytest.raises(TimeoutError):
            await client.post("/query", json=BODY, timeout=aiohttp.ClientTimeout(total=0.3))
        assert (await client.get("/healthz")).status == 200


async def test_versions_are_loaded_as_ever(served: Versions) -> None:
    async with faulty(served, FaultSettings(error_percent=100)) as client:
        assert (await client.post("/query", json=BODY)).status == 500
        assert (await client.get("/admin/models")).status == 200
