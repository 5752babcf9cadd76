"""Who is told what, and how often: delivered to a real receiver."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from agent.memory import Memory
from agent.metrics import Metrics
from agent.notifier import MAX_ATTEMPTS, Notifier, wait_s
from agent.outbox import Outbox
from agent.release import Change
from agent.rules import Rules, Target
from tests.releases import release

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"pause": {}}],
    "bake": {"duration": "0s"},
    "grace": "0s",
    "dwell": "1s",
    "block": "1s",
    "settle": "1s",
    "checks": {"errors": {"margin": 0.05}},
}
BODY = {
    "route": "rag",
    "version": "2",
    "endpoints": ["http://127.0.0.1:8012"],
    "reason": "<b> & recall",
    "policy": POLICY,
}


@pytest.fixture
def rules(receiver: Any) -> Rules:
    receiver.answers = {"/slack": lambda _: web.Response(), "/hook": lambda _: web.Response()}
    return Rules(
        notices=(
            Target(name="slack", url=f"{receiver.url}/slack", is_slack=True),
            Target(name="hook", url=f"{receiver.url}/hook", is_slack=False, secret=SECRET),
        )
    )


def kinds(receiver: Any) -> list[str]:
    return [body["type"] for body in receiver.bodies("/hook")]


async def test_every_transition_is_told_once_also_what_a_person_does(
    start, wait, gateway, log, receiver
):
    agent = await start()
    _, started = await agent.call("POST", "/v1/releases", BODY)
    release = f"/v1/releases/{started['id']}"

    async def told(kind: str) -> bool:
        return kind in kinds(receiver)

    await wait(lambda: told("release.step"))
    await agent.call("POST", f"{release}/pause", {"reason": "lunch"})
    await wait(lambda: told("release.paused"))
    await agent.call("POST", f"{release}/resume", {})
    await wait(lambda: told("release.resumed"))
    await wait(lambda: told("release.held"))
    await agent.call("POST", f"{release}/promote", {"reason": "looks good"})
    await wait(lambda: told("release.promoted"))

    async def both_told() -> bool:
        return len(receiver.bodies("/slack")) == len(receiver.bodies("/hook"))

    await wait(both_told)
    await agent.stop()
    assert sorted(kinds(receiver)) == sorted(
        f"release.{kind}" for kind in ("started", "step", "paused", "resumed", "held", "promoted")
    )
    assert len(receiver.bodies("/slack")) == 6
    (text,) = [b["text"] for b in receiver.bodies("/slack") if "promoted" in b["text"]]
    assert text.startswith("*rag* 2: promoted by ann (operator), 20 % -&gt; 100 %: looks good")
    (first,) = [b["text"] for b in receiver.bodies("/slack") if "started" in b["text"]]
    assert "&lt;b&gt; &amp; recall" in first


async def test_a_webhook_is_signed_as_the_standard_says(start, wait, gateway, log, receiver):
    agent = await start()
    await agent.call("POST", "/v1/releases", BODY)

    async def told() -> bool:
        return len(kinds(receiver)) >= 2

    await wait(told)
    hooks = [(headers, body) for path, headers, body in receiver.received if path == "/hook"]
    for headers, body in hooks:
        checked = Webhook(SECRET).verify(body, headers)
        assert checked["data"]["route"] == "rag"
        assert headers["webhook-id"].startswith("rel-")
    assert len({headers["webhook-id"] for headers, _ in hooks}) == len(hooks)


async def test_a_notice_survives_the_agent_and_is_delivered_by_the_next(
    start, wait, gateway, log, receiver
):
    receiver.answers["/hook"] = lambda _: web.Response(status=500)
    first = await start()
    await first.call("POST", "/v1/releases", BODY)

    async def tried() -> bool:
        return bool(kinds(receiver))

    await wait(tried)
    await first.stop()
    failed = {headers["webhook-id"] for path, headers, _ in receiver.received if path == "/hook"}
    receiver.received.clear()
    receiver.answers["/hook"] = lambda _: web.Response()
    await start()

    async def delivered() -> bool:
        return {"release.started", "release.step"} <= set(kinds(receiver))

    await wait(delivered)
    again = {headers["webhook-id"] for path, headers, _ in receiver.received if path == "/hook"}
    assert failed <= again


async def test_a_target_that_never_answers_is_given_up(tmp_path, receiver):
    memory = Memory.open(f"sqlite:///{tmp_path / 'agent.sqlite'}", ("hook",))
    await memory.create(release(), Change(kind="release.started", actor="ann", reason=""), 0.0)
    target = Target(
        name="hook", url=f"{receiver.url}/gone", is_slack=False, events=("release.started",)
    )
    clock, metrics = [0.0], Metrics()
    notifier = Notifier(
        memory, (target,), leads=lambda: True, unix_s=lambda: clock[0], metrics=metrics
    )
    import aiohttp  # noqa: PLC0415  only here

    async with aiohttp.ClientSession() as session:
        for attempt in range(MAX_ATTEMPTS):
            assert await notifier._round(session)
            assert not await notifier._round(session)  # not before its time
            clock[0] += wait_s(attempt)
    assert await Outbox(memory).untold() == 0
    assert len(receiver.received) == MAX_ATTEMPTS
    assert b'agent_notices_total{result="given_up",target="hook"} 1.0' in metrics.render()
    await memory.close()
