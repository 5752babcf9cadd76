"""What teams release, end to end: real gateway, recorder, engine and agent, and model servers that
are slow, slow for a few, worse at retrieval, cold, idle, retried, or better.

Minutes on a busy machine, so `make test-releases` runs them and `make test` does not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mlops.local.stack import Stack
from tests.process import whole_stack
from tests.process.whole_stack import Client

pytestmark = [pytest.mark.process, pytest.mark.scenario, pytest.mark.timeout(300)]

WAIT_S = 180.0
"""A condition that has not come by then is not coming."""
LATENCY_MARGIN = "100%"
"""Far beyond the noise of a machine that runs other tests; what is slow here is slower by more."""


@dataclass(frozen=True)
class Answer:
    delay_s: float = 0.02
    status: int = 200
    score: float = 0.9


class Model:
    """A model server; `behave` says how it answers its n-th request."""

    def __init__(self, behave: Callable[[int], Answer]) -> None:
        self.behave = behave
        self.url = ""
        self._numbers = count()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        said = self.behave(next(self._numbers))
        await asyncio.sleep(said.delay_s)
        content = {"query_id": body["query_text"], "relevance_score": said.score}
        return web.json_response(content, status=said.status)


@contextlib.asynccontextmanager
async def serving(*models: Model) -> AsyncIterator[None]:
    runners = []
    for model in models:
        app = web.Application()
        app.router.add_post("/query", model.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
    yield
    for runner in runners:
        await runner.cleanup()


def policy(weight: int = 40, **changes: Any) -> dict[str, Any]:
    """One weight that waits for a person: its verdict is what a test looks at."""
    return {
        "steps": [{"setWeight": weight}, {"pause": {}}],
        "lease": "30s",
        "grace": "2s",
        "dwell": "2s",
        "settle": "1s",
        "checks": {"errors": {"margin": 0.05}},
    } | changes


class Releasing:
    """A release under way."""

    def __init__(self, client: Client, release_id: str) -> None:
        self.client = client
        self._id = release_id

    async def until(self, holds: Callable[[Any], bool]) -> Any:
        return await self.client.until_release(self._id, holds)

    async def ends(self) -> Any:
        """Gone back, or proved: whichever comes first."""
        return await self.until(
            lambda one: one["phase"] == "rolled_back" or one["verdict"] == "healthy"
        )


@contextlib.asynccontextmanager
async def released(
    stack: Stack, stable: Model, canary: Model, given: dict[str, Any]
) -> AsyncIterator[Releasing]:
    """A whole system, in which the release has just begun."""
    await whole_stack.start(stack, stable.url, retry={"attempts": 1})
    async with aiohttp.ClientSession() as session:
        client = Client(stack, session, wait_s=WAIT_S)
        yield Releasing(client, await client.start_release(canary.url, given))


def always(answer: Answer = Answer()) -> Callable[[int], Answer]:
    return lambda _: answer


CALM = always()
LATENCY = {"latency": {"quantiles": [0.5, 0.95], "margin": LATENCY_MARGIN}}
TAIL = {"latency": {"quantiles": [0.99], "margin": LATENCY_MARGIN}}
SCORE = {"score": {"field": "relevance_score", "margin": 0.05}}

BAD = {
    "slow": (LATENCY, always(Answer(delay_s=1.0))),
    "slow for one in twenty": (TAIL, lambda n: Answer(delay_s=2.0 if n % 20 == 0 else 0.02)),
    "worse retrieval": (SCORE, lambda n: Answer(score=0.55 if n % 2 else 0.85)),
    "failing": ({"errors": {"margin": 0.05}}, lambda n: Answer(status=500 if n % 3 == 0 else 200)),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_version_goes_back_and_the_reason_names_the_check(
    stack: Stack, load: Any, name: str
) -> None:
    checks, behave = BAD[name]
    stable, canary = Model(CALM), Model(behave)
    async with (
        serving(stable, canary),
        released(stack, stable, canary, policy(checks=checks)) as releasing,
        load(stack.addresses["gateway"]),
    ):
        ended = await releasing.ends()

        assert ended["phase"] == "rolled_back", ended
        assert next(iter(checks)) in " ".join(ended["reasons"]), ended["reasons"]
        assert ended["weight"] == 0


GOOD = {
    "better": (LATENCY, always(Answer(delay_s=0.1)), CALM),
    "a cold start": (LATENCY, CALM, lambda n: Answer(delay_s=0.3 if n < 60 else 0.02)),
}


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_version_proves_itself(stack: Stack, load: Any, name: str) -> None:
    checks, before, after = GOOD[name]
    stable, canary = Model(before), Model(after)
    async with (
        serving(stable, canary),
        released(stack, stable, canary, policy(checks=checks, grace="10s")) as releasing,
        load(stack.addresses["gateway"], rate_per_s=100.0),
    ):
        ended = await releasing.ends()

        assert ended["verdict"] == "healthy", ended


async def test_an_idle_service_is_neither_promoted_nor_blamed(stack: Stack) -> None:
    stable, canary = Model(CALM), Model(CALM)
    async with (
        serving(stable, canary),
        released(stack, stable, canary, policy()) as releasing,
    ):
        await releasing.until(lambda one: one["weight"] == 40 and one["phase"] == "paused")
        enough = await releasing.client.cycles() + 20
        await releasing.client.until(releasing.client.cycles, lambda cycles: cycles >= enough)
        after = await releasing.until(lambda _: True)

        assert (after["phase"], after["weight"], after["verdict"]) == ("paused", 40, "undecided")
        assert after["canary_requests"] == 0


async def test_a_retry_storm_that_hits_both_versions_blames_neither(
    stack: Stack, load: Any
) -> None:
    """Every failure comes five times over, as from clients that try again: bursts, not evidence."""
    storm = lambda n: Answer(status=500 if n % 100 < 5 else 200)  # noqa: E731  a table's entry
    stable, canary = Model(storm), Model(storm)
    async with (
        serving(stable, canary),
        released(stack, stable, canary, policy()) as releasing,
        load(stack.addresses["gateway"]),
    ):
        seen = await releasing.until(
            lambda one: one["canary_requests"] >= 1_500 or one["phase"] == "rolled_back"
        )

        assert seen["phase"] != "rolled_back", seen
