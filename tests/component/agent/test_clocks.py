"""Gateways whose clock is not the agent's: a whole agent, and a log dated by another clock."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mlops.contracts.evidence import Evidence

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
