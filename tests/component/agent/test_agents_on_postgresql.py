"""Two agents and one PostgreSQL: a whole release, handed over in the middle."""

from __future__ import annotations

from typing import Any

import pytest

POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}],
    "bake": {"duration": "1s"},
    "lease": "5s",
    "grace": "0s",
    "dwell": "1s",
    "block": "1s",
    "settle": "1s",
    "holdback": "10%",
    "checks": {"errors": {"margin": 0.05}},
}


@pytest.fixture
def database(postgresql: str) -> str:
    return postgresql


async def test_a_release_goes_on_under_another_agent(start, wait, gateway, log):
    first, second = await start(), await start()
    body = {
        "route": "rag",
        "version": "2",
        "endpoints": ["http://127.0.0.1:8012"],
        "reason": "test",
        "policy": POLICY,
    }
    # Whoever is asked notes it; whoever leads carries it out.
    status, started = await second.call("POST", "/v1/releases", body)
    assert status == 201
    path = f"/v1/releases/{started['id']}"
    twice, refused = await first.call("POST", "/v1/releases", body)
    assert twice == 409
    assert started["id"] in refused["error"]

    async def live() -> bool:
        return bool(gateway.share_bp == 2000)

    await wait(live)
    for method in ("PUT", "PATCH", "POST"):
        answered, _ = await second.call(method, path, {"policy": {"alpha": 0.5}})
        assert answered == 405, "a policy does not change while its release runs"
    async with first.session.get(f"{first.url}/readyz") as answer:
        first_leads = (await answer.text()).strip() == "leads"
    leader, other = (first, second) if first_leads else (second, first)
    await leader.stop()
    assert (await other.call("POST", f"{path}/promote", {}))[0] == 202

    async def settled() -> bool:
        return bool((await other.release(started["id"]))["phase"] == "settled")

    await wait(settled)
    assert gateway.plan.stable.version == "2"
    generations = [plan.generation for plan in gateway.accepted]
    assert generations == sorted(set(generations))
    _, history = await other.call("GET", f"{path}/events")
    hashes = {e["detail"]["inputs"]["policy"] for e in history if "inputs" in e["detail"]}
    assert len(hashes) == 1
