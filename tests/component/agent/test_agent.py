"""A whole agent over HTTP: what it does with a gateway, a log and a person."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from agent.memory import MAX_LISTED, Memory
from mlops.contracts.plan import Slot, rolled_back, with_weight
from mlops.contracts.release import ReleaseEvent

QUICK: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"setWeight": 50}],
    "bake": {"duration": "2s"},
    "lease": "2s",
    "grace": "0s",
    "dwell": "1s",
    "block": "1s",
    "settle": "1s",
    "holdback": "10%",
    "checks": {"errors": {"margin": 0.05}},
}
WAITS = QUICK | {"steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]}

Start = Callable[[], Awaitable[Any]]
Wait = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


def request(policy: dict[str, Any] = QUICK, **changes: object) -> dict[str, object]:
    body: dict[str, object] = {
        "route": "rag",
        "version": "2",
        "endpoints": ["http://127.0.0.1:8012"],
        "reason": "better recall",
        "policy": policy,
    }
    return body | changes


async def begin(agent: Any, wait: Wait, gateway: Any, policy: dict[str, Any] = QUICK) -> str:
    """Start a release and wait until its first weight is live."""
    status, started = await agent.call("POST", "/v1/releases", request(policy))
    assert status == 201, started

    async def live() -> bool:
        return bool(gateway.share_bp == 2000)

    await wait(live)
    return str(started["id"])


async def phase_is(agent: Any, wait: Wait, release_id: str, *phases: str) -> Any:
    async def holds() -> Any:
        found = await agent.release(release_id)
        return found if found["phase"] in phases else None

    return await wait(holds)


async def published(wait: Wait, gateway: Any, release: Any) -> None:
    """Wait for what was decided to reach the gateway: it is remembered first."""

    async def holds() -> bool:
        return bool(gateway.plan.generation == release["generation"])

    await wait(holds)


async def test_a_healthy_release_goes_from_weight_to_weight_and_settles(start, wait, gateway, log):
    agent = await start()
    # No lease ends meanwhile, however slow the machine: what was published would be so again.
    release_id = await begin(agent, wait, gateway, QUICK | {"lease": "60s"})
    settled = await phase_is(agent, wait, release_id, "settled")
    await published(wait, gateway, settled)
    assert gateway.plan.stable.version == "2"
    assert gateway.plan.previous.version == "1"
    assert gateway.plan.holdback_share_bp == 0
    assert settled["weight"] == 100
    assert settled["canary_requests"] > 50
    shares = [(plan.canary_share_bp, plan.holdback_share_bp) for plan in gateway.accepted]
    assert shares == [(2000, 0), (5000, 0), (0, 1000), (0, 0)]
    _, history = await agent.call("GET", f"/v1/releases/{release_id}/events")
    kinds = [event["kind"] for event in history]
    assert kinds == [
        "release.started", "release.step", "release.step", "release.promoted", "release.settled",
    ]  # fmt: skip

    async def told() -> bool:
        return [event.kind for event in log.events] == kinds

    await wait(told)


async def test_a_failing_canary_is_rolled_back(start, wait, gateway, log):
    agent = await start()
    log.canary_errors = 40
    release_id = await begin(agent, wait, gateway)
    ended = await phase_is(agent, wait, release_id, "rolled_back")
    assert ended["weight"] == 0
    assert ended["verdict"] == "regressed"
    assert ended["reasons"] != [""]
    await published(wait, gateway, ended)
    assert gateway.plan.canary is None
    assert gateway.plan.stable.version == "1"


async def test_without_evidence_no_lease_is_renewed_and_with_it_the_weight_returns(
    start, wait, gateway, log, monkeypatch
):
    monkeypatch.setattr("agent.standing.FRESH_S", 4.0)
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)

    async def renewed() -> bool:
        return bool(gateway.renewals >= 2)

    await wait(renewed)
    log.away = True
    paused = await phase_is(agent, wait, release_id, "paused")

    async def lapsed() -> Any:
        found = await agent.release(release_id)
        return found if (found["pause"] or {}).get("kind") == "evidence" else None

    assert paused["step"] == 1
    # Without evidence for a while it is stale; then a lease of two seconds runs out.
    async with asyncio.timeout(25):
        while gateway.share_bp:
            await asyncio.sleep(0.05)
    found = await wait(lapsed)
    assert found["step"] == 1
    assert gateway.accepted[-1].generation == found["generation"]
    log.away = False

    async def returned() -> bool:
        return bool(gateway.share_bp == 2000)

    await wait(returned)
    back = await agent.release(release_id)
    assert back["step"] == 1
    assert back["generation"] > found["generation"]


async def test_weights_set_by_hand_stay_until_resume(start, wait, gateway, log):
    agent = await start()
    release_id = await begin(agent, wait, gateway)
    hand = with_weight(
        gateway.plan,
        generation=gateway.plan.generation + 1,
        canary_share_bp=100,
        set_by="bob",
        reason="careful",
        hold=True,
    )
    gateway.by_hand(hand)
    paused = await phase_is(agent, wait, release_id, "paused")
    assert paused["pause"]["kind"] == "hand"
    assert "bob" in paused["reasons"][0]
    status, refused = await agent.call("POST", f"/v1/releases/{release_id}/promote")
    assert (status, refused["code"]) == (409, "conflict")
    assert gateway.plan == hand
    status, _ = await agent.call("POST", f"/v1/releases/{release_id}/resume", {"reason": "ok"})
    assert status == 202
    await phase_is(agent, wait, release_id, "settled")


async def test_a_rollback_by_hand_ends_the_release(start, wait, gateway, log):
    agent = await start()
    release_id = await begin(agent, wait, gateway)
    hand = rolled_back(
        gateway.plan,
        generation=gateway.plan.generation + 1,
        set_by="bob",
        reason="no",
        hold=True,
        to_previous=False,
    )
    gateway.by_hand(hand)
    await phase_is(agent, wait, release_id, "rolled_back")
    assert gateway.plan == hand


async def test_a_second_agent_stands_by_and_takes_over_where_the_first_ended(
    start, wait, gateway, log
):
    first = await start()
    # Long enough to be renewed in time on a slow machine: what was published would be so again.
    release_id = await begin(first, wait, gateway, WAITS | {"lease": "9s"})
    second = await start()

    async def readiness(agent: Any) -> str:
        async with agent.session.get(f"{agent.url}/readyz") as answer:
            return f"{answer.status} {(await answer.text()).strip()}"

    async def both_ready() -> bool:
        return [await readiness(first), await readiness(second)] == ["200 leads", "200 stands by"]

    await wait(both_ready)
    published = len(gateway.accepted)
    renewals = gateway.renewals

    async def renewed() -> bool:
        return bool(gateway.renewals > renewals + 1)

    await wait(renewed)
    assert len(gateway.accepted) == published
    await first.stop()

    async def takes_over() -> bool:
        return await readiness(second) == "200 leads"

    await wait(takes_over)
    status, _ = await second.call("POST", f"/v1/releases/{release_id}/promote", {"reason": "go"})
    assert status == 202
    await phase_is(second, wait, release_id, "settled")


async def test_a_leased_plan_that_nobody_remembers_is_taken_to_zero_and_asks_for_a_person(
    start, wait, gateway, log
):
    gateway.by_hand(
        replace(
            gateway.plan,
            generation=9,
            salt="rel-lost",
            canary=Slot(version="2", endpoints=("http://127.0.0.1:8012",)),
            canary_share_bp=5000,
            lease_s=60.0,
            set_by="agent",
        )
    )
    agent = await start()

    async def at_zero() -> bool:
        return bool(gateway.plan.generation == 10 and gateway.plan.canary_share_bp == 0)

    await wait(at_zero)
    found = await agent.release("rel-lost")
    assert found["phase"] == "paused"
    assert found["pause"]["kind"] == "memory"


# ---- the API -----------------------------------------------------------------------------------


async def test_one_release_per_route_and_none_of_what_is_stable(start, wait, gateway, log):
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)
    status, refused = await agent.call("POST", "/v1/releases", request(version="3"))
    assert (status, refused["code"]) == (409, "conflict")
    assert release_id in refused["error"]
    await agent.call("POST", f"/v1/releases/{release_id}/abort")
    await phase_is(agent, wait, release_id, "aborted")
    status, refused = await agent.call("POST", "/v1/releases", request(version="1"))
    assert status == 409
    assert "stable already" in refused["error"]
    status, again = await agent.call("POST", f"/v1/releases/{release_id}/retry")
    assert status == 201
    assert again["id"] != release_id
    assert again["version"] == "2"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (request(route="none"), 404, "known: rag"),
        (request(reason=" "), 400, "reason is empty"),
        (request(endpoints=[]), 400, "has no endpoints"),
        (request(endpoints=["http://h:8012/v1"]), 400, "endpoint 'http://h:8012/v1'"),
        (request(headers={"Content-Length": "3"}), 400, "the header 'Content-Length'"),
        (request(version="2\r\nx-served-by: stable"), 400, "version '2\\r\\nx-served-by"),
        (request({"stps": []}), 400, "did you mean 'steps'?"),
        (request(extra=1), 400, "unknown field"),
        ([], 400, "the body is not as expected"),
    ],
)
async def test_a_bad_request_says_what_came(start, gateway, log, body, status, expected):
    agent = await start()
    answered, refused = await agent.call("POST", "/v1/releases", body)
    assert answered == status
    assert expected in refused["error"]


async def test_only_an_operator_may_change_and_nobody_else_may_look(start, gateway, log):
    agent = await start()
    assert (await agent.call("GET", "/v1/releases", token="viewer"))[0] == 200
    assert (await agent.call("POST", "/v1/releases", request(), token="viewer"))[0] == 403
    assert (await agent.call("GET", "/v1/releases", token="wrong"))[0] == 401
    for path in ("/livez", "/readyz", "/healthz", "/metrics", "/openapi.json"):
        async with agent.session.get(f"{agent.url}{path}") as answer:
            assert answer.status in ({200, 503} if path in ("/readyz", "/healthz") else {200})
            assert b"operator_token" not in await answer.read()


async def test_late_scores_wait_for_the_log_and_are_stored_once(start, wait, gateway, log):
    agent = await start()
    log.away = True
    one = {"request_id": "r1", "name": "ndcg", "score": 0.5}
    assert await agent.call("POST", "/v1/evaluations", one) == (202, {"accepted": 1})
    many = [one | {"request_id": f"r{n}"} for n in range(2, 12)]
    assert await agent.call("POST", "/v1/evaluations", many) == (202, {"accepted": 10})
    status, refused = await agent.call("POST", "/v1/evaluations", one | {"score": 1.5})
    assert status == 400
    assert "outside 0..1" in refused["error"]
    log.away = False

    async def stored() -> bool:
        return sorted(e.request_id for e in log.evaluations) == sorted(
            f"r{n}" for n in range(1, 12)
        )

    await wait(stored)


async def test_events_are_streamed_as_they_happen(start, wait, gateway, log):
    agent = await start()
    headers = {"Authorization": "Bearer viewer"}
    async with agent.session.get(f"{agent.url}/v1/events", headers=headers) as stream:
        assert stream.content_type == "text/event-stream"
        await begin(agent, wait, gateway, WAITS)
        seen: list[bytes] = []
        async with asyncio.timeout(10):
            while b"event: release.step\n" not in seen:
                seen.append(await stream.content.readline())
        assert seen.index(b"event: release.started\n") < seen.index(b"event: release.step\n")


async def test_a_listener_that_missed_more_than_a_page_gets_every_event_once(
    start, wait, gateway, log, tmp_path
):
    memory = f"sqlite:///{tmp_path / 'agent.sqlite'}"
    await Memory.open(memory).close()
    missed = 2 * MAX_LISTED + 1
    earlier = ReleaseEvent(
        sequence=0,
        release_id="rel-old",
        route="rag",
        at="2026-01-01T00:00:00Z",
        kind="release.step",
        actor="agent",
        from_share_bp=0,
        to_share_bp=0,
        reason="long ago",
    )
    row = ("rel-old", "rag", 0.0, msgspec.json.encode(earlier))
    with contextlib.closing(sqlite3.connect(tmp_path / "agent.sqlite")) as database, database:
        database.executemany(
            "INSERT INTO release_events (release_id, route, at_s, body) VALUES (?, ?, ?, ?)",
            [row] * missed,
        )
    agent = await start()
    headers = {"Authorization": "Bearer viewer", "Last-Event-ID": "3"}
    async with agent.session.get(f"{agent.url}/v1/events", headers=headers) as stream:
        seen: list[int] = []
        async with asyncio.timeout(20):
            while len(seen) < missed - 3:
                seen += await next_id(stream)
            await begin(agent, wait, gateway, WAITS)
            while len(seen) < missed - 1:
                seen += await next_id(stream)
    assert seen == list(range(4, missed + 3))


async def test_a_last_event_id_is_bounded(start, wait, gateway, log, monkeypatch):
    monkeypatch.setattr("agent.api.MAX_MISSED", 1)
    agent = await start()
    await begin(agent, wait, gateway, WAITS)  # two events: started, step
    viewer = {"Authorization": "Bearer viewer"}
    for wrong in ("-1", "abc", "9" * 30):
        headers = viewer | {"Last-Event-ID": wrong}
        async with agent.session.get(f"{agent.url}/v1/events", headers=headers) as refused:
            assert refused.status == 400
    headers = viewer | {"Last-Event-ID": "0"}
    async with (
        agent.session.get(f"{agent.url}/v1/events", headers=headers) as stream,
        asyncio.timeout(10),
    ):
        lines = [await stream.content.readline() for _ in range(4)]
    assert lines[:2] == [b"event: gap\n", b'data: {"left_out":1}\n']
    assert lines[3] == b"id: 2\n"


async def next_id(stream: aiohttp.ClientResponse) -> list[int]:
    """The id on the next line, if it has one."""
    line = await stream.content.readline()
    assert line, "the stream ended"
    return [int(line.removeprefix(b"id: "))] if line.startswith(b"id: ") else []
