"""What holds when the agent dies, a lease ends, a gateway restarts, or a person steps in."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from mlops.local.processes import signal_to
from mlops.local.stack import Stack
from tests.process import whole_stack
from tests.process.whole_stack import Client

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 30}, {"pause": {"duration": "4s"}}, {"setWeight": 60}],
    "bake": {"duration": "60s"},
    "lease": "3s",
    "grace": "1s",
    "dwell": "2s",
    "block": 1,
    "settle": 1,
    "holdback": "10%",
    "checks": {"errors": {"margin": 0.05}},
}
"""Quick enough for a test: about a hundred canary requests without an error promote."""

STICKY = {"sticky": {"header": "x-user-id"}}


async def test_a_killed_agent_resumes_the_same_step_and_its_lease_protects_meanwhile(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Away past the lease: all stable, and the API says why. Back: same release, same step."""
    await whole_stack.start(stack, upstreams[0].url, **STICKY)
    async with aiohttp.ClientSession() as session, load(stack.addresses["gateway"]) as traffic:
        client = Client(stack, session)
        waits = {"steps": [{"setWeight": 30}, {"pause": {}}, {"setWeight": 60}]}
        release_id = await client.start_release(upstreams[1].url, POLICY | waits)
        await client.until(client.route, lambda route: route["share_bp"] == 3000)
        before = await client.release(release_id)

        await asyncio.to_thread(stack.kill, "agent")
        lapsed = await client.until(client.route, lambda route: route["share_bp"] == 0)
        assert lapsed["lease"]["lapsed"]
        assert "lease" in lapsed["explanation"]
        seen = len(traffic.answered)
        await traffic.until_answered(100)
        assert set(traffic.split(since=seen + 20)) == {"stable;1"}

        await asyncio.to_thread(stack.start_agent)
        await client.until(client.route, lambda route: route["share_bp"] == 3000)
        after = await client.release(release_id)
        assert after["step"] == before["step"]
        assert {status for status, _ in traffic.answered.values()} == {200}


async def test_nothing_brings_the_old_version_back_after_a_promotion(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Not a dead agent, not an ended lease, not a restart of the gateway, not a reload."""
    route = await whole_stack.start(stack, upstreams[0].url, **STICKY)
    async with aiohttp.ClientSession() as session, load(stack.addresses["gateway"]) as traffic:
        client = Client(stack, session)
        await client.start_release(upstreams[1].url, POLICY)
        promoted = await client.until(
            client.route, lambda live: live["plan"]["stable"]["version"] == "2"
        )
        assert promoted["plan"]["previous"]["version"] == "1"

        await asyncio.to_thread(stack.kill, "agent")
        await client.until(client.route, lambda route: route["lease"]["lapsed"])
        await _assert_all_new(client, traffic)
        signal_to(stack.process("gateway"), signal.SIGHUP)
        await client.call("admin", "POST", "/v1/reload")
        await _assert_all_new(client, traffic)
        await asyncio.to_thread(stack.kill, "gateway")
        await asyncio.to_thread(stack.start_gateway, [route])
        await _assert_all_new(client, traffic)


async def _assert_all_new(client: Client, traffic: Any) -> None:
    route = await client.route()
    assert route["plan"]["stable"]["version"] == "2"
    assert route["share_bp"] == 0
    seen = len(traffic.answered)
    await traffic.until_answered(100)
    assert set(traffic.split(since=seen + 20)) == {"stable;2"}


async def test_the_agent_never_undoes_a_rollback_by_hand(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """In the middle of a healthy release a person says no: the agent adopts it and stays away."""
    await whole_stack.start(stack, upstreams[0].url, **STICKY)
    async with aiohttp.ClientSession() as session, load(stack.addresses["gateway"]) as traffic:
        client = Client(stack, session)
        release_id = await client.start_release(upstreams[1].url, POLICY)
        await client.until(client.route, lambda route: route["share_bp"] == 3000)
        await client.call("admin", "POST", "/v1/routes/rag/rollback", {"reason": "I said so"})
        ended = await client.until_release(
            release_id,
            lambda release: release["phase"] in {"rolled_back", "aborted"},
        )
        assert ended["weight"] == 0
        await traffic.until_answered(400)  # several cycles of the agent
        route = await client.route()
        assert route["share_bp"] == 0
        assert route["plan"]["stable"]["version"] == "1"
        assert route["plan"].get("canary") is None


async def test_the_agent_never_undoes_a_rollback_by_hand_during_bake(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Promoted and healthy, and a person wants the old version back: it is, and it stays."""
    await whole_stack.start(stack, upstreams[0].url, **STICKY)
    async with aiohttp.ClientSession() as session, load(stack.addresses["gateway"]) as traffic:
        client = Client(stack, session)
        release_id = await client.start_release(upstreams[1].url, POLICY)
        await client.until_release(
            release_id,
            lambda release: release["phase"] == "baking" and release["converged"],
        )
        by_hand = {"to": "previous", "reason": "the users say so"}
        held = await client.call("admin", "POST", "/v1/routes/rag/rollback", by_hand)
        assert held["plan"]["stable"]["version"] == "1"

        ended = await client.until_release(
            release_id,
            lambda release: release["phase"] in {"rolled_back", "aborted"},
        )
        assert ended["weight"] == 0
        after = await client.cycles() + 5
        await client.until(client.cycles, lambda cycles: cycles >= after)
        assert (await client.route())["plan"] == held["plan"]
        assert (await client.release(release_id))["phase"] == ended["phase"]
        seen = len(traffic.answered)
        await traffic.until_answered(100)
        assert set(traffic.split(since=seen + 20)) == {"stable;1"}


async def test_a_failing_canary_is_rolled_back_without_a_person(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Every answer of the canary is a 500: gone within seconds, stable unharmed."""
    await whole_stack.start(stack, upstreams[0].url, **STICKY)
    upstreams[1].status = 500
    async with aiohttp.ClientSession() as session, load(stack.addresses["gateway"]):
        client = Client(stack, session)
        release_id = await client.start_release(upstreams[1].url, POLICY)
        ended = await client.until_release(
            release_id, lambda release: release["phase"] == "rolled_back"
        )
        assert any("error" in reason for reason in ended["reasons"]), ended
        # What the agent means to do is remembered before it is published.
        route = await client.until(client.route, lambda route: route["share_bp"] == 0)
        assert route["plan"]["stable"]["version"] == "1"

        again = await _replay(stack, release_id)
        assert again[-1]["result"] == "rolled_back", again
        assert again[-1]["canary_requests"] > 0
        assert "error" in again[-1]["reason"]
        since = str(datetime.fromisoformat(ended["started_at"]).timestamp())
        lax = stack.directory / "lax.yaml"
        lax.write_text("steps: [{setWeight: 30}]\ndwell: 1h\nchecks: {latency: {margin: 100%}}\n")
        what_if = ("--what-if", "--route", "rag", "--since", since, "--policy", str(lax))
        other = await _replay(stack, *what_if)
        assert other[-1]["result"] == "rolled_back", "the guard against catastrophe always judges"


async def _replay(stack: Stack, *arguments: str) -> list[Any]:
    """The lines of `rag-mlops release replay`."""
    environment = stack.environment() | {"MLOPS_AGENT_URL": stack.addresses["agent"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore::SyntaxWarning", "-m", "cli", "release", "replay",
        *arguments, "-o", "json",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 1, errors.decode()
    return [json.loads(line) for line in output.splitlines()]
