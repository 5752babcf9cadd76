"""Gates against real servers: what passes, what holds, and what refuses a version for good."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
import trustme
from aiohttp import web
from msgspec.structs import replace

from agent.condition import Condition
from agent.providers import SPACE_PATH, Providers
from agent.release import Release
from agent.rules import Gate, Prometheus, Provider, Rules, Web
from mlops.contracts.plan import Slot
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.tls import Trust
from mlops.service.tls_settings import ClientTls, ServerTls
from tests import releases
from tests.certificates import issue

POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"pause": {}}],
    "grace": "0s",
    "dwell": "1s",
    "block": "1s",
    "settle": "1s",
    "checks": {"errors": {"margin": 0.05}},
}


def release(*endpoints: str, version: str = '2"b') -> Release:
    slot = Slot(version=version, endpoints=endpoints or ("http://127.0.0.1:9",))
    return releases.release(candidate=slot)


@pytest.fixture
async def providers() -> Any:
    found = Providers(ClickHouseSettings())
    yield found
    await found.close()


def gate(provider: Provider, condition: str | None = None) -> Gate:
    parsed = None if condition is None else Condition(condition)
    return Gate(name="g", provider=provider, condition=parsed, timeout_s=1.0)


def vector(*values: str) -> web.Response:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return web.json_response(
        {"status": "success", "data": {"resultType": "vector", "result": result}}
    )


@pytest.mark.parametrize(
    ("answer", "passed", "why"),
    [
        (vector("0.01"), True, "result[0] < 0.05 holds for 0.01"),
        (vector("0.2"), False, "does not hold for 0.2"),
        (vector(), False, "cannot be said of 0 values"),
        (vector("NaN"), False, "not a number"),
        (web.json_response({"status": "error", "error": "bad query"}, status=400), False, "bad"),
        (vector("0.01", "9"), True, "holds for 0.01, 9"),
        (vector("much"), False, "not as Prometheus"),
        (web.Response(text="<html>", status=200), False, "not as Prometheus"),
        (web.Response(text="x" * 2_000_000), False, "more than"),
    ],
)
async def test_a_prometheus_query(providers, receiver, answer, passed, why) -> None:
    receiver.answers["/api/v1/query"] = lambda _: answer
    query = 'sum(rate(errors{version="{{args.version}}"}[5m]))'
    prometheus = Prometheus(address=receiver.url, query=query)
    said = await providers.ask(gate(prometheus, "result[0] < 0.05"), release())
    assert said[0] is passed
    assert why in said[1]
    ((_, _, body),) = receiver.received
    assert parse_qs(body.decode())["query"] == ['sum(rate(errors{version="2\\"b"}[5m]))']


async def test_a_webhook_gets_the_step_and_its_status_decides(providers, receiver) -> None:
    hook = Web(url=f"{receiver.url}/may-it", token="t0ken")
    receiver.answers["/may-it"] = lambda _: web.Response(status=403, text="incident open")
    passed, why = await providers.ask(gate(hook), release())
    assert not passed
    assert "incident open" in why
    receiver.answers["/may-it"] = lambda _: web.Response(status=204)
    assert (await providers.ask(gate(hook), release()))[0]
    assert receiver.received[0][1]["authorization"] == "Bearer t0ken"
    assert receiver.bodies("/may-it")[0]["route"] == "rag"


async def test_nobody_there_is_a_no_that_shows_no_address(providers) -> None:
    passed, why = await providers.ask(gate(Web(url="http://127.0.0.1:9/s3cret")), release())
    assert not passed
    assert "s3cret" not in why


# ---- in a running agent -------------------------------------------------------------------------


class TestInAnAgent:
    @pytest.fixture
    def rules(self, receiver: Any) -> Rules:
        slow = Gate(name="slow", provider=Web(url=f"{receiver.url}/slow"), timeout_s=0.3)
        calm = Gate(name="calm", provider=Web(url=f"{receiver.url}/calm"), timeout_s=1.0)
        return Rules(gates={"calm": calm, "slow": slow}, max_share_bp={"rag": 4000})

    def body(self, **policy: Any) -> dict[str, Any]:
        return {
            "route": "rag",
            "version": "2",
            "endpoints": ["http://127.0.0.1:8012"],
            "reason": "test",
            "policy": POLICY | policy,
        }

    async def test_a_gate_holds_the_first_weight_until_it_says_yes(
        self, start, wait, gateway, log, receiver, monkeypatch
    ):
        monkeypatch.setattr("agent.gates.ASK_AGAIN_S", 0.2)
        receiver.answers["/calm"] = lambda _: web.Response(status=500)
        agent = await start()
        status, started = await agent.call("POST", "/v1/releases", self.body(gates=["calm"]))
        assert status == 201, started

        async def asked_twice() -> bool:
            return len(receiver.bodies("/calm")) >= 2

        await wait(asked_twice)
        assert gateway.plan.canary is None
        assert "gate 'calm'" in (await agent.release(started["id"]))["sentence"]
        receiver.answers["/calm"] = lambda _: web.Response()

        async def live() -> bool:
            return bool(gateway.share_bp == 2000)

        await wait(live)
        _, events = await agent.call("GET", f"/v1/releases/{started['id']}/events")
        step = next(e for e in events if e["kind"] == "release.step")
        assert step["detail"]["inputs"]["gates"]["calm"]["passed"] is True
        assert step["detail"]["inputs"]["policy"]

    async def test_a_gate_that_hangs_keeps_no_cycle(self, start, wait, gateway, log, receiver):
        hangs = asyncio.Event()

        async def hang(_: bytes) -> web.Response:
            await hangs.wait()
            return web.Response()

        receiver.answers["/slow"] = hang
        agent = await start()
        _, started = await agent.call("POST", "/v1/releases", self.body(gates=["slow"]))

        async def said() -> bool:
            found = await agent.release(started["id"])
            return "no answer within 0.3 s" in found["sentence"]

        await wait(said)
        hangs.set()
        assert gateway.plan.canary is None

    async def test_what_could_never_pass_is_refused_at_once(self, start, gateway, log, receiver):
        agent = await start()
        status, refused = await agent.call("POST", "/v1/releases", self.body(gates=["clam"]))
        assert status == 400
        assert "no gate 'clam'" in refused["error"]
        steps = {"steps": [{"setWeight": 50}]}
        status, refused = await agent.call("POST", "/v1/releases", self.body(**steps))
        assert status == 400
        assert "at most 40 %" in refused["error"]


# ---- the embedding space ------------------------------------------------------------------------

NORTH, EAST = [0.0, 1.0], [1.0, 0.0]


def declares(model: str = "m", dimension: int = 2, **index: Any) -> dict[str, Any]:
    canaries = [{"text": "north", "vector": NORTH}, {"text": "east", "vector": EAST}]
    found = {"name": "i1", "model": "m", "dimension": 2, "canaries": canaries} | index
    return {"model": model, "dimension": dimension, "index": found}


def serve(receiver: Any, declared: object, vectors: dict[str, list[float]]) -> None:
    def embed(body: bytes) -> web.Response:
        texts = json.loads(body)["input"]
        return web.json_response({"data": [{"embedding": vectors[text]} for text in texts]})

    receiver.answers[SPACE_PATH] = lambda _: web.json_response(declared)
    receiver.answers["/v1/embeddings"] = embed


@pytest.mark.parametrize(
    ("declared", "vectors", "expected"),
    [
        (declares(), {"north": [0.0, 2.0], "east": EAST}, ""),
        (declares(), {"north": EAST, "east": NORTH}, "the encoder does not match its index"),
        (declares(), {"north": [0, 1, 0], "east": [1, 0, 0]}, "the encoder gives 3"),
        (declares(model="other"), {"north": NORTH, "east": EAST}, "the encoder is 'other'"),
        (declares(dimension=3), {}, "has 3 dimensions"),
        (declares(canaries=[]), {}, ""),
    ],
)
async def test_the_encoder_must_match_its_index(
    providers, receiver, declared, vectors, expected
) -> None:
    serve(receiver, declared, vectors)
    said = await providers.embedding_space(release(receiver.url).candidate)
    assert (said[0], said[2]) == (not expected, bool(expected))
    assert expected in said[1]


async def test_a_server_that_declares_nothing_is_held_to_nothing(providers, receiver) -> None:
    assert (await providers.embedding_space(release(receiver.url).candidate))[0]
    assert (await providers.embedding_space(release("http://127.0.0.1:9").candidate))[0]
    receiver.answers[SPACE_PATH] = lambda _: web.Response(text="<html>welcome")
    assert (await providers.embedding_space(release(receiver.url).candidate))[0]


async def test_a_server_that_declares_and_cannot_be_asked_holds(providers, receiver) -> None:
    receiver.answers[SPACE_PATH] = lambda _: web.json_response(declares())
    passed, why, refuses = await providers.embedding_space(release(receiver.url).candidate)
    assert (passed, refuses) == (False, False)
    assert "answered 404" in why
    for status in (503, 404):  # it has declared before: silence is a no from then on
        receiver.answers[SPACE_PATH] = lambda _, status=status: web.Response(status=status)
        assert not (await providers.embedding_space(release(receiver.url).candidate))[0]


async def test_a_server_that_never_answers_is_held_to_nothing(
    providers, receiver, monkeypatch
) -> None:
    """A network policy may keep the agent out, and not the gateways."""
    monkeypatch.setattr("agent.providers.DECLARATION_TIMEOUT_S", 0.1)
    hangs = asyncio.Event()

    async def hang(_: bytes) -> web.Response:
        await hangs.wait()
        return web.Response()

    receiver.answers[SPACE_PATH] = hang
    assert (await providers.embedding_space(release(receiver.url).candidate))[0]
    hangs.set()


@pytest.mark.parametrize("shown", ["ours", "nothing", "stranger"])
async def test_a_server_behind_mutual_tls_is_asked_by_who_it_believes(
    receiver, tmp_path, caplog, shown
) -> None:
    """For its certificate's name, which is not its address's; whoever cannot ask says so."""
    ours = issue(tmp_path, trustme.CA(), "server", "models.internal")
    theirs = issue(tmp_path, trustme.CA(), "stranger")
    tls = {
        "ours": replace(ours, server_name="models.internal"),
        "nothing": ClientTls(ca=ours.ca, server_name="models.internal"),
        "stranger": ClientTls(ca=theirs.ca, server_name="models.internal"),
    }[shown]
    url = await receiver.listen(ServerTls(cert=ours.cert, key=ours.key, client_ca=ours.ca))
    serve(receiver, declares(), {"north": EAST, "east": NORTH})
    providers = Providers(ClickHouseSettings(), Trust(tls))
    try:
        passed, why, refuses = await providers.embedding_space(release(url).candidate)
    finally:
        await providers.close()
    if shown == "ours":
        assert (passed, refuses) == (False, True)
        assert "does not match its index" in why
    else:
        assert passed
        assert f"{url}: not asked for its embedding space, see modelServers.tls" in caplog.text


async def test_a_version_in_the_wrong_space_never_gets_traffic(start, wait, gateway, log, receiver):
    serve(receiver, declares(), {"north": EAST, "east": NORTH})
    agent = await start()
    body = {
        "route": "rag",
        "version": "2",
        "endpoints": [receiver.url],
        "reason": "test",
        "policy": POLICY,
    }
    _, started = await agent.call("POST", "/v1/releases", body)

    async def aborted() -> Any:
        found = await agent.release(started["id"])
        return found if found["phase"] == "aborted" else None

    found = await wait(aborted)
    assert "does not match its index" in found["reasons"][0]
    assert gateway.accepted == []
