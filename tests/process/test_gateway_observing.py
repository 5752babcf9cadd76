"""The access log and the traces of a real gateway with two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process.gateway_process import Gateway, Servers, failed_start, route

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_every_worker_writes_its_lines_and_none_is_lost_at_the_end(
    gateway: Gateway, servers: Servers, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    gateway.write_file(
        route(servers),
        workers=2,
        observe={"trace": "make", "server_timing": True, "access_log": {"path": str(path)}},
    )
    await gateway.start()
    await gateway.versions(80)
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-server-timing": "1"}
    async with gateway.session.get(f"{gateway.url}/query", headers=headers) as answer:
        assert answer.headers["server-timing"].startswith("gateway;dur=")
    _, metrics = await gateway.ask("GET", "/metrics")
    assert b"gateway_access_log_dropped_total 0.0" in metrics
    assert await gateway.end() == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len({line["request_id"] for line in lines}) == 81
    assert sum(line["trace_id"] == TRACE for line in lines) == 1
    assert all(len(line["trace_id"]) == 32 for line in lines)


async def test_answers_need_not_say_who_served_them(gateway: Gateway, servers: Servers) -> None:
    gateway.write_file(route(servers), observe={"served_by": False})
    await gateway.start()
    async with gateway.session.get(f"{gateway.url}/query") as answer:
        assert answer.status == 200
        assert "x-request-id" in answer.headers
        assert "x-served-by" not in answer.headers


async def test_an_access_log_that_cannot_be_opened_stops_the_start(
    gateway: Gateway, servers: Servers, tmp_path: Path
) -> None:
    path = str(tmp_path / "missing" / "access.log")
    gateway.write_file(route(servers), observe={"access_log": {"path": path}})
    assert await failed_start(gateway) == 2
    assert path in gateway.log.read_text()
