"""Another version takes over while requests are under way."""

from __future__ import annotations

import asyncio

from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.versions import Versions
from mlops.training.linear_adapter import BASE_VERSION, BETTER_VERSION, WORSE_VERSION

BODY = {"query_text": "join two paths"}


async def test_no_request_fails_while_versions_change(client: TestClient, served: Versions) -> None:
    seen: set[tuple[int, str]] = set()
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            answer = await client.post("/query", json=BODY)
            seen.add((answer.status, (await answer.json())["version"]))

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for version in (BASE_VERSION, WORSE_VERSION, BETTER_VERSION):
        answer = await client.post("/admin/models", json={"version": version})
        assert (await answer.json())["version"] == version
        answer = await client.post("/query", json=BODY)
        assert (await answer.json())["version"] == version, "new requests get it at once"
    done.set()
    await asyncio.gather(*asking)

    assert {status for status, _ in seen} == {200}
    assert served.loaded == [BASE_VERSION, WORSE_VERSION, BETTER_VERSION]


async def test_only_the_versions_used_last_stay_in_memory(served: Versions) -> None:
    served._max_loaded = 2

    for version in (BASE_VERSION, WORSE_VERSION, BASE_VERSION, BETTER_VERSION):
        await served.serve_version("docs-retriever", version)

    assert served.loaded == [BASE_VERSION, BETTER_VERSION]


async def test_a_version_that_cannot_be_served_changes_nothing(client: TestClient) -> None:
    before = await (await client.get("/healthz")).json()

    for body, status in (({"version": "9.9.9"}, 409), ({"version": ""}, 400), ({"v": "1"}, 400)):
        answer = await client.post("/admin/models", json=body)
        assert answer.status == status, await answer.text()

    assert await (await client.get("/healthz")).json() == before


async def test_loading_needs_the_token_where_there_is_one(served: Versions) -> None:
    server = ModelServer(served, admin_token="hush")
    body = {"version": BASE_VERSION}
    async with TestClient(TestServer(server.application())) as client:
        assert (await client.post("/admin/models", json=body)).status == 401
        wrong = {"Authorization": "Bearer hus"}
        assert (await client.post("/admin/models", json=body, headers=wrong)).status == 401
        right = {"Authorization": "Bearer hush"}
        assert (await client.post("/admin/models", json=body, headers=right)).status == 200
        assert (await client.get("/admin/models", headers=right)).status == 200
