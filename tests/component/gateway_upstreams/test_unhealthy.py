"""Servers that misbehave are noticed, by asking them and by how requests end, and come back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.record import OUTCOMES
from gateway.settings import MatchSettings, RetrySettings, RouteSettings, StickySettings
from gateway.upstream_settings import HealthCheckSettings, OutlierSettings, UpstreamSettings
from mlops.contracts.plan import Slot
from tests.component.gateway.conftest import OK, until
from tests.component.gateway_upstreams.conftest import a_route

ERROR = b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"
NO_RETRY = RetrySettings(on=frozenset())
FAST = UpstreamSettings(
    health_check=HealthCheckSettings(
        path="/healthz?deep=1", interval_s=0.03, timeout_s=0.2, healthy=2, unhealthy=2
    )
)


def two_endpoints(first, second, **more):
    slot = Slot(version="1", endpoints=(first.url, second.url))
    return RouteSettings(name="rag", model="m", match=MatchSettings(), stable=slot, **more)


def health(world, slot="stable"):
    return [(each.healthy, each.reason) for each in world.proxy.upstreams("rag")[slot]]


class Changeable:
    """Answers what it is told to; requests other than health checks always work."""

    def __init__(self):
        self.answer: bytes | None = OK
        self.seen = None

    async def __call__(self, reader, writer):
        if b"/healthz" not in self.seen.heads[-1]:
            writer.write(OK)
        elif self.answer is None:
            await asyncio.sleep(30)
        else:
            writer.write(self.answer)
            await writer.drain()


async def checked_upstream(world):
    handler = Changeable()
    handler.seen = await world.upstream(handler)
    return handler


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ERROR, "health check: /healthz?deep=1 answered 500, expected 200-299"),
        (None, "health check: no answer within 0.2 s"),
        (b"220 smtp ready\r\n", "health check: the answer is not HTTP"),
    ],
    ids=["error", "silence", "garbage"],
)
async def test_an_endpoint_whose_checks_fail_gets_nothing_until_they_pass(world, answer, reason):
    bad, good = await checked_upstream(world), await checked_upstream(world)
    await world.serve(two_endpoints(bad.seen, good.seen, upstream=FAST))
    assert b"GET /healthz?deep=1 HTTP/1.1\r\n" in b"".join(bad.seen.heads) or not bad.seen.heads
    bad.answer = answer
    await until(lambda: health(world)[0][1].startswith(reason))
    assert [ok for ok, _ in health(world)] == [False, True]
    for _ in range(20):
        assert await world.get() == "stable;1"
    served = [head for head in bad.seen.heads if b"/healthz" not in head]
    assert served == []
    bad.answer = OK
    await until(lambda: health(world)[0] == (True, ""))
    await world.records(20)


async def test_a_canary_whose_checks_fail_costs_no_request_and_is_charged(world):
    stable, canary = await checked_upstream(world), await checked_upstream(world)
    canary.answer = ERROR
    await world.serve(
        a_route(
            "rag", stable.seen.url, canary.seen.url, canary_share_bp=9500,
            sticky=StickySettings(header="x-user-id"), upstream=FAST,
        )
    )  # fmt: skip
    await until(lambda: not health(world, "canary")[0][0])
    assert await world.get(b"x-user-id: u") == "stable;1"
    (record,) = await world.records(1)
    assert (OUTCOMES[record.first_attempt_outcome], record.attempts) == ("upstream_error", 2)


async def test_stable_answers_for_a_canary_that_is_out_also_where_nothing_is_retried(world):
    """Whatever the body: nothing of it was sent."""
    stable, canary = await checked_upstream(world), await checked_upstream(world)
    canary.answer = ERROR
    await world.serve(
        a_route(
            "rag", stable.seen.url, canary.seen.url, canary_share_bp=9500, upstream=FAST,
            sticky=StickySettings(header="x-user-id"), retry=RetrySettings(attempts=1),
        )
    )  # fmt: skip
    await until(lambda: not health(world, "canary")[0][0])
    client = await world.client()
    body = b"x" * 300_000
    head = b"POST / HTTP/1.1\r\nHost: a\r\nx-user-id: u\r\nContent-Length: %d\r\n\r\n" % len(body)
    await client.send(head + body)
    status, headers, _ = await client.answer()
    assert (status, headers["x-served-by"]) == (200, "stable;1")
    assert body in stable.seen.bodies


async def test_stable_is_asked_all_the_same_where_all_its_endpoints_are_out(world):
    stable = await checked_upstream(world)
    stable.answer = ERROR
    await world.serve(a_route("rag", stable.seen.url, upstream=FAST))
    await until(lambda: not health(world)[0][0])
    assert await world.get() == "stable;1"


async def test_checks_end_with_the_plan_that_named_the_endpoint_and_with_the_gateway(world):
    stable, canary = await checked_upstream(world), await checked_upstream(world)
    await world.serve(a_route("rag", stable.seen.url, canary.seen.url, upstream=FAST))
    await until(lambda: canary.seen.heads and stable.seen.heads)
    plan = world.proxy.live("rag").plan
    world.apply(generation=2, stable=plan.stable)
    checks = world.proxy._checks._tasks
    assert [endpoint.url for endpoint in checks] == [stable.seen.url]
    world.apply(generation=3, stable=plan.stable, previous=plan.canary)
    assert {endpoint.url for endpoint in checks} == {stable.seen.url, canary.seen.url}
    tasks = list(checks.values())
    await world.proxy.drain(0)
    await until(lambda: all(task.done() for task in tasks))
    assert all(task.cancelled() for task in tasks)


def watched(**more):
    settings = OutlierSettings(consecutive_failures=3, base_ejection_s=0.3, **more)
    return UpstreamSettings(outlier_detection=settings)


async def closing(reader, writer):
    writer.close()


async def cut(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("answer", [ERROR, closing, cut], ids=["500", "reset", "cut short"])
async def test_an_endpoint_that_fails_requests_is_ejected_and_tried_again_later(world, answer):
    bad, good = await world.upstream(answer), await world.upstream()
    await world.serve(two_endpoints(bad, good, upstream=watched(), retry=NO_RETRY))
    await until_ejected(world)
    seen = len(bad.heads)
    assert seen == 3
    for _ in range(10):
        assert await world.get() == "stable;1"
    assert len(bad.heads) == seen
    ((ejected, why), (works, _)) = health(world)
    assert (ejected, works) == (False, True)
    assert "3 failures in a row" in why
    assert [each.ejections for each in world.proxy.upstreams("rag")["stable"]] == [1, 0]
    await until(lambda: health(world)[0][0])


async def until_ejected(world):
    for _ in range(100):
        if not health(world)[0][0]:
            return
        client = await world.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await client.rest()
    raise AssertionError("never ejected")


async def test_a_retried_status_counts_once_against_its_endpoint(world):
    unavailable = b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
    bad, good = await world.upstream(unavailable), await world.upstream()
    await world.serve(two_endpoints(bad, good, upstream=watched()))
    for _ in range(100):
        if not health(world)[0][0]:
            break
        assert await world.get() == "stable;1"
    assert len(bad.heads) == 3


async def test_a_canary_that_is_ejected_costs_no_more_requests(world):
    stable, canary = await world.upstream(), await world.upstream(ERROR)
    await world.serve(
        a_route(
            "rag", stable.url, canary.url, canary_share_bp=9500, upstream=watched(),
            sticky=StickySettings(header="x-user-id"),
        )
    )  # fmt: skip
    served = [await world.get(b"x-user-id: u") for _ in range(8)]
    assert served == ["canary;2"] * 3 + ["stable;1"] * 5
    records = await world.records(8)
    assert {OUTCOMES[each.first_attempt_outcome] for each in records} == {"upstream_error"}
    assert world.proxy.arms("rag")["canary"].errors == 8


async def test_refused_connections_eject_too(world, unused_tcp_port):
    refusing = f"http://127.0.0.1:{unused_tcp_port}"
    good = await world.upstream()
    slot = Slot(version="1", endpoints=(refusing, good.url))
    await world.serve(
        RouteSettings(name="rag", model="m", match=MatchSettings(), stable=slot, upstream=watched())
    )
    for _ in range(40):
        assert await world.get() == "stable;1"
    assert world.proxy.upstreams("rag")["stable"][0].ejections == 1
