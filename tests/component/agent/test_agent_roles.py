"""Every request of the agent's API with every kind of token, from the API's own document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.api import PUBLIC_PATHS
from agent.openapi import document
from tests import tokens_of_each_kind
from tests.tokens_of_each_kind import TOKENS, headers_of, operations

REQUEST = {
    "route": "rag",
    "version": "2",
    "endpoints": ["http://127.0.0.1:8012"],
    "reason": "a test",
}
ABOUT_EVERY_ROUTE = frozenset({"/v1/evaluations", "/v1/events"})


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(tokens_of_each_kind.token_file())
    return path


@pytest.mark.parametrize("who", ["none", *TOKENS])
async def test_every_request_with_every_token(start: Any, gateway: Any, log: Any, who: str) -> None:
    agent = await start()
    status, release = await agent.call("POST", "/v1/releases", REQUEST, token=TOKENS["admin"][0])
    assert status == 201
    headers = headers_of(who)
    for method, path in operations(document()):
        got = await _status(agent, method, _named(path, release), headers)
        if path in PUBLIC_PATHS:
            assert got in (200, 503), (method, path)
        elif who in ("none", "wrong", "expired"):
            assert got == 401, (method, path)
        elif _is_refused(who, method, path):
            assert got == 403, (method, path)
        else:
            assert got in (200, 400, 404), (method, path)


def _named(path: str, release: Any) -> str:
    return str(path.replace("{id}", release["id"]).replace("{route}", "rag"))


def _is_refused(who: str, method: str, path: str) -> bool:
    if who == "viewer":
        return method != "GET"
    if path in ABOUT_EVERY_ROUTE:
        return who in ("operator", "other route")
    return who == "other route" and "{" in path


async def _status(agent: Any, method: str, path: str, headers: dict[str, str]) -> int:
    async with agent.session.request(
        method, f"{agent.url}{path}", headers=headers, data=b"{"
    ) as answer:
        return int(answer.status)


async def test_a_release_of_another_route_is_refused_and_not_listed(
    start: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    theirs = TOKENS["other route"][0]
    status, refused = await agent.call("POST", "/v1/releases", REQUEST, token=theirs)
    assert (status, refused["code"]) == (403, "forbidden")
    assert "is not of route 'rag'" in refused["error"]
    status, _ = await agent.call("POST", "/v1/releases", REQUEST, token=TOKENS["operator"][0])
    assert status == 201
    assert await agent.call("GET", "/v1/releases", token=theirs) == (200, [])
