"""Many gateways: by name, joining late, leaving, cut off, and waiting for their first plan."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from agent.discovery import REFRESH_S, Discovery
from agent.publisher import Gateways
from agent.release import Publish
from agent.settings import GatewaySettings
from mlops.contracts.plan import RoutePlan, Slot

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


class Name:
    """A resolver with one name, whose addresses a test sets."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.is_away = False

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) != ("", 0)
        if self.is_away:
            raise OSError("no such name")
        return list(self.addresses)


@pytest.fixture
async def port(gateways_at: Any) -> int:
    """One that is free on every host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def gateways_at(new_gateway: Any) -> AsyncIterator[Any]:
    """Serve a gateway at HOST, PORT; the runner ends it."""
    runners: list[web.AppRunner] = []

    async def serve(host: str, port: int) -> tuple[Any, web.AppRunner]:
        fake = new_gateway()
        runner = web.AppRunner(fake.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        runners.append(runner)
        return fake, runner

    yield serve
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def world(gateways_at: Any, port: int) -> AsyncIterator[Any]:
    name, clock = Name(), [0.0]
    listed = GatewaySettings(url=f"http://gateways.test:{port}", is_name=True)
    discovery = Discovery([listed], actor="agent", now_s=lambda: clock[0], resolve=name.resolve)
    gateways = Gateways(discovery, lambda: clock[0])

    async def look(after_s: float = REFRESH_S) -> Any:
        clock[0] += after_s
        return await gateways.look()

    yield name, look, gateways
    await gateways.close()


def leased(generation: int = 2, lease_s: float = 60.0) -> RoutePlan:
    return RoutePlan(
        route="rag",
        generation=generation,
        salt="rel-1",
        stable=Slot(version="1", endpoints=("http://127.0.0.1:9",)),
        canary=Slot(version="2", endpoints=("http://127.0.0.1:10",)),
        canary_share_bp=500,
        lease_s=lease_s,
    )


async def test_every_address_of_a_name_is_a_gateway(world: Any, gateways_at: Any, port: int):
    name, look, gateways = world
    served = [await gateways_at(host, port) for host in HOSTS[:2]]
    name.addresses = list(HOSTS[:2])
    view = await look()
    assert [s.gateway for s in sorted(view.of("rag"), key=lambda s: s.gateway)] == [
        f"http://{host}:{port}" for host in HOSTS[:2]
    ]
    urls = tuple(sight.gateway for sight in view.of("rag"))
    assert await gateways.publish(Publish(leased(), urls)) == []
    assert [fake.plan.generation for fake, _ in served] == [2, 2]


async def test_a_gateway_that_joins_late_is_found(world: Any, gateways_at: Any, port: int):
    name, look, _ = world
    await gateways_at(HOSTS[0], port)
    name.addresses = [HOSTS[0]]
    assert len((await look()).of("rag")) == 1
    await gateways_at(HOSTS[1], port)
    name.addresses = list(HOSTS[:2])
    assert len((await look(REFRESH_S / 2)).of("rag")) == 1  # not asked again yet
    assert len((await look()).of("rag")) == 2


async def test_one_that_left_counts_while_its_lease_may_run(
    world: Any, gateways_at: Any, port: int
):
    name, look, gateways = world
    fake, runner = await gateways_at(HOSTS[0], port)
    await gateways_at(HOSTS[1], port)
    name.addresses = list(HOSTS[:2])
    url = f"http://{HOSTS[0]}:{port}"
    await look()
    await gateways.publish(Publish(leased(lease_s=60.0), (url,)))
    assert fake.plan.generation == 2
    await look()
    await runner.cleanup()
    name.addresses = [HOSTS[1]]
    silent = [s for s in (await look()).of("rag") if s.plan is None]
    assert [s.gateway for s in silent] == [url]
    await look(61.0)
    assert [s.gateway for s in (await look()).of("rag")] == [f"http://{HOSTS[1]}:{port}"]


async def test_a_resolver_that_is_away_changes_nothing(world: Any, gateways_at: Any, port: int):
    name, look, _ = world
    await gateways_at(HOSTS[0], port)
    name.addresses = [HOSTS[0]]
    await look()
    name.is_away = True
    assert len((await look()).of("rag")) == 1


async def test_the_systems_resolver_knows_localhost(gateways_at: Any, port: int):
    await gateways_at("127.0.0.1", port)
    listed = GatewaySettings(url=f"http://localhost:{port}", is_name=True)
    gateways = Gateways(Discovery([listed], actor="agent", now_s=lambda: 0.0), lambda: 0.0)
    try:
        view = await gateways.look()
    finally:
        await gateways.close()
    assert f"http://127.0.0.1:{port}" in {s.gateway for s in view.of("rag") if s.plan}


async def test_a_managed_route_gets_its_plan_without_a_release(start, wait, gateway, log):
    gateway.forget(generation=0)
    await start()

    async def published() -> bool:
        return bool(gateway.plan.generation == 1)

    await wait(published)
    assert gateway.plan.stable.version == "1"
    assert not gateway.plan.hold
    assert gateway.plan.lease_s is None


async def test_a_managed_gateway_that_joins_late_gets_the_others_plan(
    start, wait, gateway, log, second_gateway
):
    by_hand = replace(gateway.plan, generation=7, hold=True, set_by="bob")
    gateway.by_hand(by_hand)
    second_gateway.forget(generation=0)
    await start()

    async def published() -> bool:
        return bool(second_gateway.plan.generation == 7)

    await wait(published)
    assert second_gateway.plan == by_hand


async def test_a_managed_gateway_that_joins_while_a_person_s_plan_stands_gets_it(
    start, wait, gateway, log, second_gateway
):
    """The release that gave way publishes nothing, and no file's stable is served instead."""
    agent = await start()
    body = {"route": "rag", "version": "2", "endpoints": ["http://127.0.0.1:8012"]}
    await agent.call("POST", "/v1/releases", body | {"reason": "better recall"})

    async def begun() -> bool:
        return bool(gateway.plan.canary and second_gateway.plan.canary)

    await wait(begun)
    generation = gateway.plan.generation + 1
    by_hand = replace(gateway.plan, generation=generation, lease_s=None, hold=True, set_by="bob")
    gateway.by_hand(by_hand)
    second_gateway.forget(generation=0)

    async def brought() -> bool:
        return bool(second_gateway.plan == by_hand)

    await wait(brought)


async def test_a_gateway_that_was_cut_off_and_lost_its_plan_is_brought_up_to_date(
    start, wait, gateway, log, second_gateway
):
    """Partition: the release goes on without it once its lease has ended, and it catches up."""
    agent = await start()
    body = {
        "route": "rag",
        "version": "2",
        "endpoints": ["http://127.0.0.1:8012"],
        "reason": "test",
        "policy": {
            "steps": [{"setWeight": 20}, {"setWeight": 50}],
            "bake": {"duration": "60s"},
            "lease": "1s",
            "grace": "0s",
            "dwell": "1s",
            "block": "1s",
            "settle": "1s",
            "checks": {"errors": {"margin": 0.05}},
        },
    }
    second_gateway.is_cut_off = True
    status, started = await agent.call("POST", "/v1/releases", body)
    assert status == 201

    async def promoted() -> bool:
        return bool(gateway.plan.stable.version == "2")

    await wait(promoted)
    found = await agent.release(started["id"])
    assert found["unreachable"] == [second_gateway.url]
    assert second_gateway.plan.generation == 1
    second_gateway.is_cut_off = False

    async def caught_up() -> bool:
        return bool(second_gateway.plan == gateway.plan)

    await wait(caught_up)
    assert await asyncio.wait_for(wait(caught_up), 5)
