"""Clocks that disagree: a log dated by another clock, a database dated by another agent's."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from agent.memory import Memory
from agent.policy_file import parse_policy, to_document
from agent.release import Change, Phase, Release
from mlops.contracts.evidence import Evidence
from mlops.contracts.plan import Slot

POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}],
    "lease": "2s",
    "grace": "0s",
    "dwell": "1s",
    "block": "1s",
    "settle": "1s",
    "checks": {"errors": {"margin": 0.05}},
}


class Apart:
    """Reads what rows and tallies say whose clock is `ahead_s` before this process's."""

    def __init__(self, log: Any, ahead_s: int) -> None:
        self._read = log.read_evidence
        self.ahead_s = ahead_s

    async def __call__(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        ahead_s = self.ahead_s
        found = await self._read(route, since=since - ahead_s)
        through = found.closed_through + ahead_s
        closed = through if until is None else min(through, until)

        def dated(counts: Any) -> tuple[Any, ...]:
            moved = (replace(one, second=one.second + ahead_s) for one in counts)
            return tuple(one for one in moved if one.second <= closed)

        return Evidence(
            route=route,
            since=since,
            closed_through=closed,
            log_through=through,
            seconds=dated(found.seconds),
            answered=dated(found.answered),
        )


@pytest.mark.parametrize(("ahead_s", "said"), [(60, "clocks apart: the log is"), (-60, "no evid")])
async def test_the_release_is_held_no_lease_renewed_and_the_reason_told(
    start, wait, gateway, log, monkeypatch, ahead_s, said
):
    apart = Apart(log, ahead_s)
    monkeypatch.setattr(log, "read_evidence", apart)
    agent = await start()
    body = {"route": "rag", "version": "2", "endpoints": ["http://127.0.0.1:8012"]}
    status, started = await agent.call(
        "POST", "/v1/releases", body | {"reason": "better recall", "policy": POLICY}
    )
    assert status == 201, started

    async def shares(share_bp: int) -> None:
        async def holds() -> bool:
            return bool(gateway.share_bp == share_bp)

        await wait(holds)

    async def told() -> bool:
        found = await agent.release(started["id"])
        return any(said in one for one in found["reasons"])

    await shares(2000)
    await wait(told)
    await shares(0)
    assert gateway.renewals == 0, "nothing keeps a canary that nobody can watch"
    apart.ahead_s = 0

    async def renewed() -> bool:
        return bool(gateway.renewals)

    await wait(renewed)


DAY_S = 86_400.0


def dated_ahead(name: str, **changes: Any) -> Release:
    """What an agent noted whose clock was a day ahead."""
    values: dict[str, Any] = {
        "id": name,
        "route": "rag",
        "candidate": Slot(version="2", endpoints=("http://127.0.0.1:8012",)),
        "policy": to_document(parse_policy(POLICY, source="test")),
        "reason": "better recall",
        "started_by": "ann",
        "started_at_s": time.time() + DAY_S,
    }
    return Release(**(values | changes))


async def remembered(database: str, release: Release) -> None:
    memory = Memory.open(database)
    change = Change(kind="release.started", actor="ann", reason="better recall")
    await memory.create(release, change, release.started_at_s)
    await memory.close()


async def test_a_release_is_looked_after_though_an_earlier_one_is_dated_later(
    start, wait, gateway, log, database
):
    await remembered(database, dated_ahead("rel-before", phase=Phase.ABORTED, ended_at_s=1.0))
    agent = await start()
    body = {"route": "rag", "version": "3", "endpoints": ["http://127.0.0.1:8013"]}
    status, started = await agent.call(
        "POST", "/v1/releases", body | {"reason": "better recall", "policy": POLICY}
    )
    assert status == 201, started

    async def begun() -> bool:
        return bool(gateway.share_bp == 2000)

    await wait(begun)
    _, listed = await agent.call("GET", "/v1/releases")
    assert [one["id"] for one in listed] == [started["id"], "rel-before"]


async def test_a_release_that_another_agent_dated_ahead_is_judged_and_goes_on(
    start, wait, gateway, log, database
):
    await remembered(database, dated_ahead("rel-1"))
    agent = await start()

    async def waits_for_a_person() -> bool:
        found = await agent.release("rel-1")
        return gateway.share_bp == 2000 and any("promote" in one for one in found["reasons"])

    await wait(waits_for_a_person)

    async def renewed() -> bool:
        return bool(gateway.renewals)

    await wait(renewed)
    _, events = await agent.call("GET", "/v1/releases/rel-1/events")
    assert [one["kind"] for one in events][:3] == [
        "release.started", "release.redated", "release.step",
    ]  # fmt: skip
    assert events[1]["reason"].startswith("a clock was 8")
    await agent.call("POST", "/v1/releases/rel-1/promote", {"reason": "known good"})

    async def stepped() -> bool:
        return bool(gateway.share_bp == 5000)

    await wait(stepped)
