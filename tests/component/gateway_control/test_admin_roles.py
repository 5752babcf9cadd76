"""Every request of the admin API with every kind of token, from the API's own document."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.admin import PUBLIC_PATHS
from gateway.openapi import openapi_document
from mlops.service.failures import MAX_FAILURES
from mlops.service.tokens import new_token
from tests import tokens_of_each_kind
from tests.tokens_of_each_kind import TOKENS, headers_of, operations

OpenDesk = Callable[..., Awaitable[Any]]

NEEDS = {"none": 401, "wrong": 401, "expired": 401, "viewer": 403, "other route": 403}
"""What a change is answered with; anything else gets past the door."""


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(tokens_of_each_kind.token_file())
    return path


def test_there_are_operations_of_each_kind() -> None:
    found = list(operations(openapi_document()))
    assert {method for method, _ in found} == {"GET", "PUT", "POST"}
    assert {path for _, path in found} >= PUBLIC_PATHS


@pytest.mark.parametrize("who", ["none", *sorted(NEEDS.keys() - {"none"}), "operator", "admin"])
async def test_every_request_with_every_token(
    open_desk: OpenDesk, token_file: Path, who: str
) -> None:
    desk = await open_desk(tokens=token_file)
    headers = headers_of(who)
    documented = openapi_document()["paths"]
    for method, path in operations(openapi_document()):
        where = path.replace("{route}", "rag")
        async with desk.client.request(method, where, headers=headers, data=b"{") as answer:
            got = answer.status
            body = await answer.read()
        assert str(got) in documented[path][method.lower()]["responses"], (method, path)
        if path in PUBLIC_PATHS:
            assert got == 200, (method, path)
        elif NEEDS.get(who) == 401:
            assert got == 401, (method, path)
        elif (method != "GET" and who in NEEDS) or (who == "other route" and "{route}" in path):
            assert got == 403, (method, path)
        elif path == "/v1/reload":
            assert got == (422 if who == "admin" else 403), "a reload is of every route"
        else:
            assert got in (200, 400), (method, path)
        if who == "other route" and path == "/v1/routes":
            assert msgspec.json.decode(body) == {"routes": []}


async def test_a_change_is_audited_with_who_and_how_it_ended(
    open_desk: OpenDesk,
    token_file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="audit")
    desk = await open_desk(tokens=token_file)
    path = "/v1/routes/rag/rollback"
    for who, said in (
        ("operator", "alice (operator release-bot)"),
        ("viewer", "alice (viewer reader)"),
    ):
        headers = headers_of(who) | {"x-actor": "alice"}
        async with desk.client.post(path, headers=headers) as answer:
            assert f"POST {path} by {said} from 127.0.0.1: {answer.status}" in caplog.text
    async with desk.client.post(path) as answer:
        assert f"POST {path} by nobody from 127.0.0.1: {answer.status}" in caplog.text
    assert not [token for token, _ in TOKENS.values() if token in caplog.text]


async def test_a_token_is_taken_away_and_given_without_a_restart(
    open_desk: OpenDesk, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.service.tokens.LOOK_S", 0.0)
    desk = await open_desk(tokens=token_file)

    async def answered(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with desk.client.get("/v1/routes", headers=headers) as answer:
            return int(answer.status)

    assert await answered(TOKENS["viewer"][0]) == 200
    fresh, entry = new_token("fresh", "viewer")
    token_file.write_bytes(msgspec.yaml.encode([entry]))
    assert (await answered(fresh), await answered(TOKENS["viewer"][0])) == (200, 401)
    token_file.write_text("- {name: broken}")
    assert await answered(fresh) == 200


async def test_wrong_tokens_without_end_are_not_listened_to(
    open_desk: OpenDesk, token_file: Path
) -> None:
    desk = await open_desk(tokens=token_file)
    wrong = [{"Authorization": f"Bearer guess-{guess}"} for guess in range(MAX_FAILURES)]
    for headers in (*wrong, *[{}] * 2):
        async with desk.client.get("/v1/routes", headers=headers) as answer:
            assert answer.status == (401 if headers else 429)
    headers = headers_of("admin")
    async with desk.client.get("/v1/routes", headers=headers) as answer:
        assert answer.status == 429
        document = openapi_document()["paths"]["/v1/routes"]["get"]
        assert str(answer.status) in document["responses"]
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    async with desk.client.get("/livez") as answer:
        assert answer.status == 200
