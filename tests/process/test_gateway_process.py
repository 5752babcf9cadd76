"""A real gateway process: kills, restarts, leases, reloads and ends, seen through both ports."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.spool.format import RecordType, tally_of
from gateway.spool.reader import WorkerReader
from gateway.spool.segments import workers_of
from mlops.contracts.plan import promoted
from mlops.contracts.tally import Tally
from tests.process.gateway_process import (
    DEADLINE_S,
    OPERATOR,
    Gateway,
    Servers,
    Stream,
    failed_start,
    plan,
    route,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]


async def test_the_stored_plan_wins_after_a_kill(gateway: Gateway, servers: Servers) -> None:
    canary = {**msgspec.to_builtins(servers.slots["B"]), "weight": 10}
    gateway.write_file(route(servers, canary=canary))
    await gateway.start()
    assert (await gateway.status()).share_bp == 1000
    await gateway.done("PUT", "/v1/routes/rag/weights", {"stable": 60, "canary": 40})
    before = await gateway.status()
    assert await gateway.versions() == {"A", "B"}
    await gateway.end(signal.SIGKILL)
    await gateway.start()
    after = await gateway.status()
    assert after.plan == before.plan
    assert (after.plan.generation, after.share_bp) == (2, 4000)


async def test_an_ended_lease_sends_everything_to_stable_and_says_why(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=30))
    assert await gateway.versions() == {"A", "B"}
    await gateway.done("PUT", "/v1/routes/rag/lease", {"generation": 7, "lease_s": 0.5})
    lapsed = await gateway.until(lambda status: status.share_bp == 0)
    assert "everything to stable A: the lease of generation 7 ended" in lapsed.explanation
    assert await gateway.versions() == {"A"}
    await gateway.done("PUT", "/v1/routes/rag/lease", {"generation": 7, "lease_s": 30})
    assert await gateway.versions() == {"A", "B"}
    await gateway.end(signal.SIGKILL)
    await gateway.start()
    restored = await gateway.status()
    assert (restored.plan.generation, restored.share_bp) == (7, 0)
    assert "restored from disk" in restored.explanation
    assert await gateway.versions() == {"A"}


async def test_after_a_promotion_nothing_brings_the_old_version_back(
    gateway: Gateway, servers: Servers
) -> None:
    """Not the end of the lease, not a reload, not a kill: the file still names A as stable."""
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=30))
    promotion = promoted(
        plan(servers, 7),
        generation=8,
        holdback_share_bp=500,
        lease_s=0.5,
        set_by="agent",
        reason="promoted",
    )
    await gateway.done("PUT", "/v1/routes/rag/plan", promotion)
    await gateway.until(lambda status: status.share_bp == 0)
    assert await gateway.versions() == {"B"}
    await gateway.done("POST", "/v1/reload")
    assert await gateway.versions() == {"B"}
    for number in (signal.SIGKILL, signal.SIGTERM):
        await gateway.end(number)
        await gateway.start()
        assert (await gateway.status()).plan.stable.version == "B"
        assert await gateway.versions() == {"B"}


async def test_a_rollback_by_hand_survives_repetition_and_a_kill(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    promotion = promoted(
        plan(servers, 7),
        generation=8,
        holdback_share_bp=0,
        lease_s=None,
        set_by="agent",
        reason="",
    )
    await gateway.done("PUT", "/v1/routes/rag/plan", promotion)
    assert await gateway.versions() == {"B"}
    for _ in range(2):
        await gateway.done("POST", "/v1/routes/rag/rollback")
        assert await gateway.versions() == {"A"}
        await gateway.end(signal.SIGKILL)
        await gateway.start()
    status = await gateway.status()
    assert (status.plan.generation, status.plan.stable.version) == (9, "A")
    assert status.plan.hold


async def test_a_bad_file_is_refused_whole_on_reload(gateway: Gateway, servers: Servers) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    before = await gateway.status()
    other = route(servers, sticky={"header": "x-other"})
    for bad, more in ((route(servers, stikcy={}), {}), (other, {"workers": 3})):
        gateway.write_file(bad, **more)
        status, body = await gateway.ask("POST", "/v1/reload")
        assert status == 422, body
    gateway.signal(signal.SIGHUP)
    async with asyncio.timeout(DEADLINE_S):
        while "the reload was refused" not in gateway.log.read_text():
            await asyncio.sleep(0.02)
    assert await gateway.status() == before
    assert await gateway.versions() == {"A"}
    gateway.write_file(route(servers))
    await gateway.done("POST", "/v1/reload")


async def test_sigterm_refuses_readiness_first_and_then_lets_exchanges_finish(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    status, _ = await gateway.ask("GET", "/readyz")
    assert status == 200
    servers.may_answer.clear()
    waiting = asyncio.create_task(gateway.versions(1))
    async with asyncio.timeout(DEADLINE_S):
        await servers.asked.wait()
    gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        while (await gateway.ask("GET", "/readyz"))[0] != 503:
            await asyncio.sleep(0.02)
    assert not waiting.done()
    servers.may_answer.set()
    assert await waiting == {"A"}
    assert await gateway.wait() == 0


async def test_sigterm_lets_a_stream_end_and_then_waits_for_nobody(
    gateway: Gateway, servers: Servers
) -> None:
    """The client keeps its connection: once that is idle, nothing holds the end up."""
    gateway.write_file(route(servers))
    await gateway.start()
    servers.may_answer.clear()
    stream = await Stream.open(gateway.url)
    gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        while (await gateway.ask("GET", "/readyz"))[0] != 503:
            await asyncio.sleep(0.02)
    servers.may_answer.set()
    await stream.finish()
    assert await gateway.wait() == 0
    stream.close()


async def test_what_does_not_end_is_cut_when_the_drain_is_over(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), drain="500ms")
    await gateway.start()
    servers.may_answer.clear()
    stream = await Stream.open(gateway.url)
    assert await gateway.end(signal.SIGTERM) == 0
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await stream.finish()
    stream.close()
    assert "1 exchanges were cut after 0.5 s of draining" in gateway.log.read_text()


async def test_everything_answered_is_in_the_tallies_and_the_metrics(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.versions(50)
    _, text = await gateway.ask("GET", "/metrics")
    counts = {
        (sample.labels["arm"], sample.labels["version"], sample.labels["outcome"]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
    }
    assert counts == {("stable", "A", "ok"): 50}
    assert await gateway.end() == 0
    (worker,) = workers_of(gateway.spool)
    reader = WorkerReader(gateway.spool, worker)
    frames = [record.frame for record in reader.read(10_000, final=True)]
    reader.close()
    tallies = [
        msgspec.json.decode(tally_of(frame.body), type=Tally)
        for frame in frames
        if frame.kind == RecordType.TALLY
    ]
    exchanges = [frame for frame in frames if frame.kind == RecordType.EXCHANGE]
    assert len(exchanges) == 50
    assert sum(entry.answered for tally in tallies for entry in tally.entries) == 50
    seconds = [tally.second for tally in tallies]
    assert seconds == sorted(set(seconds))
    assert [tally.final for tally in tallies] == [False] * (len(tallies) - 1) + [True]


async def test_what_cannot_start_says_why_and_ends_with_2(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers, stikcy={}))
    assert await failed_start(gateway) == 2
    assert "did you mean 'sticky'?" in gateway.log.read_text()
    gateway.write_file(route(servers))
    gateway.state.mkdir()
    (gateway.state / "plan-rag.json").write_text("{")
    assert await failed_start(gateway) == 2
    said = gateway.log.read_text()
    assert "plan-rag.json: not a stored plan" in said
    taken = str(gateway.file)
    gateway.write_file(route(servers), state=taken)
    assert await failed_start(gateway) == 2
    gateway.write_file(route(servers), state=f"{taken}-state", spool={"dir": taken})
    assert await failed_start(gateway) == 2
    said = gateway.log.read_text()
    for name in ("state", "spool"):
        assert f"gateway: {name}: {taken}: File exists; expected a directory to write to" in said
    assert "Traceback" not in said


async def test_no_secret_reaches_log_metrics_errors_spool_or_process_list(
    gateway: Gateway, servers: Servers
) -> None:
    slot = msgspec.structs.replace(servers.slots["A"], headers={"authorization": "s3cret"})
    gateway.write_file(route(servers, stable=msgspec.to_builtins(slot)))
    await gateway.start()
    asked = {"authorization": "Bearer cl1ent", "cookie": "session=b1scuit", "x-api-key": "ap1-k3y"}
    async with gateway.session.get(f"{gateway.url}/query", headers=asked) as answer:
        assert answer.status == 200
    said = []
    for token in ("wr0ng", OPERATOR):
        headers = {"Authorization": f"Bearer {token}"}
        for method, path in (("PUT", "weights"), ("GET", "none"), ("POST", "rollback?x")):
            url = f"{gateway.admin}/v1/routes/rag/{path}"
            async with gateway.session.request(method, url, data=b"{", headers=headers) as answer:
                assert answer.status >= 400
                said.append(await answer.read())
    said.append((await gateway.ask("GET", "/metrics"))[1])
    spool = b"".join(one.read_bytes() for one in gateway.spool.rglob("*") if one.is_file())
    assert b"/query" in spool
    processes = [gateway.pid, *gateway.workers()]
    said += [spool, *(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes)]
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7))
    await gateway.end()
    said.append(gateway.log.read_bytes())
    assert b"generation 7" in said[-1]
    for secret in (b"s3cret", b"cl1ent", b"b1scuit", b"ap1-k3y", b"wr0ng", OPERATOR.encode()):
        assert not any(secret in text for text in said), secret
