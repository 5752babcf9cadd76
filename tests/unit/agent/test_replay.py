"""A release judged again from the log: read in pieces, in bounds, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.console.replays import (
    MAX_MOMENTS,
    MAX_POLICY_CHARS,
    MAX_WORK_S,
    Drawn,
    Replays,
    policy_of,
)
from agent.judge import Judgement, Verdict
from agent.moments import iso
from agent.policy import Checks, Policy, RateCheck, SetWeight
from agent.policy_file import PolicyError, to_document
from agent.rehearsal import Moment
from agent.releases import NotFound, NotNow
from agent.replay import MAX_SPAN_S, READ_S, NothingToReplay, Replay, Span
from mlops.contracts.evidence import AnsweredCounts, Evidence, Pair, SecondCounts, latency_bin
from mlops.contracts.release import ReleaseStatus
from mlops.feature_store.splits import Split
from mlops.service.http import GRANT, refusing
from mlops.service.tokens import Grant, Role

START = 1_700_000_000
POLICY = Policy(
    steps=(SetWeight(1000), SetWeight(5000)),
    grace_s=5,
    dwell_s=10,
    checks=Checks(errors=RateCheck(), latency=None),
)


class Log:
    """Fifty requests a second to each arm; of the canary's, `errors` fail."""

    def __init__(self, seconds: int, errors: int = 0, arm: str = "canary") -> None:
        self._last = START + seconds - 1
        self._errors = errors
        self._arm = arm
        self.read: list[tuple[int, int]] = []

    async def read_splits(self, route: str, *, since: int, until: int) -> Sequence[Split]:
        return [
            Split(
                generation=2, share_bp=5000, has_canary=self._arm == "canary", has_holdback=False,
                first_second=since, last_second=until, stable_version="1", other_version="2",
            )
        ]  # fmt: skip

    async def read_evidence(self, route: str, *, since: int, until: int | None = None) -> Evidence:
        assert until is not None
        self.read.append((since, until))
        last = min(until, self._last)
        return Evidence(
            route=route,
            since=since,
            closed_through=last,
            seconds=tuple(
                SecondCounts(
                    second=second, generation=2, arm=arm, rows=50, requests=50,
                    errors=self._errors if arm == "canary" else 0,
                    latency_bins={latency_bin(50_000): 50},
                )
                for second in range(since, last + 1)
                for arm in ("stable", "canary")
            ),
            answered=tuple(
                AnsweredCounts(second=second, generation=2, arm=arm, answered=50, dropped=0)
                for second in range(since, last + 1)
                for arm in ("stable", "canary")
            ),
        )  # fmt: skip

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> Sequence[Pair]:
        raise AssertionError("no step mirrors")


async def moments_of(replay: Replay) -> list[Moment]:
    return [moment async for moments in replay.run() for moment in moments]


async def test_a_long_log_is_read_in_pieces_and_every_second_once() -> None:
    log = Log(2 * READ_S + 10)
    replay = await Replay.of(log, Span("rag", START, START + 3 * READ_S), POLICY)
    moments = await moments_of(replay)
    assert [moment.action for moment in moments if moment.action][:2] == ["step", "promoted"]
    assert replay.ending().result == "promoted"
    assert replay.read_through == START + 2 * READ_S + 9
    assert replay.ending().canary_requests == 50 * (2 * READ_S + 10)
    assert [since for since, _ in log.read] == [
        START, START + READ_S, START + 2 * READ_S, START + 2 * READ_S + 10,
    ]  # fmt: skip


async def test_it_stops_where_the_release_would_have_ended() -> None:
    log = Log(5 * READ_S, errors=25)
    replay = await Replay.of(log, Span("rag", START, START + 5 * READ_S), POLICY)
    moments = await moments_of(replay)
    assert moments[-1].action == replay.ending().result == "rolled_back"
    assert len(log.read) == 1


async def test_without_a_canary_there_is_nothing_to_replay() -> None:
    with pytest.raises(NothingToReplay, match="route 'rag' had no canary"):
        await Replay.of(Log(9, arm="stable"), Span("rag", START, START + 9), POLICY)


@pytest.mark.parametrize("length", [0, -1, MAX_SPAN_S + 1])
def test_a_span_has_a_length_in_bounds(length: int) -> None:
    with pytest.raises(ValueError, match="at most 31 days later"):
        Span("rag", START, START + length)


# ---- which policy --------------------------------------------------------------------------------

RELEASE = ReleaseStatus(
    id="rel-1", route="rag", version="2", stable="1", phase="settled", weight=100.0,
    verdict="healthy", step=2, steps=2, generation=4, reason="", reasons=(),
    started_at=iso(START), ended_at=iso(START + 2 * READ_S), policy=to_document(POLICY),
)  # fmt: skip


def test_the_policy_is_its_own_or_a_shipped_one_or_the_one_given() -> None:
    assert policy_of(RELEASE, "", None) == POLICY
    assert policy_of(RELEASE, "", "") == POLICY
    assert policy_of(RELEASE, "blue_green", None) != POLICY
    assert policy_of(RELEASE, "", "alpha: 0.2").alpha == 0.2


@pytest.mark.parametrize(
    ("strategy", "text", "said"),
    [
        ("canary", "alpha: 0.2", "one of the two"),
        ("green", None, "expected one of"),
        ("", "alhpa: 0.2", "alhpa"),
        ("", "a" * (MAX_POLICY_CHARS + 1), "--policy FILE` takes more"),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(
    strategy: str, text: str | None, said: str
) -> None:
    with pytest.raises((ValueError, PolicyError), match=said):
        policy_of(RELEASE, strategy, text)


# ---- in bounds -----------------------------------------------------------------------------------


async def test_what_is_kept_of_a_replay_is_bounded() -> None:
    replay = await Replay.of(Log(10), Span("rag", START, START + 9), POLICY)
    judgement = Judgement(verdict=Verdict.UNDECIDED, reasons=("few",), checks={})
    flap = Moment(
        at_s=1.0, judgement=judgement, action="", reasons=("few",), to_share_bp=1, share_bp=1
    )
    drawn = Drawn()
    for _ in range(MAX_MOMENTS + 7):
        drawn.note(replay, (flap,))
    found = drawn.answer(replay, POLICY, is_whole=True)
    assert (len(found.moments), found.left_out) == (MAX_MOMENTS, 7)
    assert found.result == "undecided"


def serving(log: Log, monotonic_s: Callable[[], float]) -> TestClient[Any, Any]:
    async def show(_: str) -> ReleaseStatus:
        return RELEASE

    @web.middleware
    async def as_viewer(request: web.Request, handler: Any) -> web.StreamResponse:
        request[GRANT] = Grant(role=Role.VIEWER)
        answer: web.StreamResponse = await handler(request)
        return answer

    replays = Replays(
        SimpleNamespace(show=show),  # type: ignore[arg-type]
        log, unix_s=lambda: float(START), monotonic_s=monotonic_s,
    )  # fmt: skip
    problems = {NotFound: (404, "not_found"), NotNow: (503, "unavailable")}
    app = web.Application(middlewares=[refusing(problems, max_body_bytes=1), as_viewer])
    app.add_routes(replays.routes())
    return TestClient(TestServer(app))


async def test_a_release_is_replayed_by_its_own_policy_and_by_another() -> None:
    async with serving(Log(400), lambda: 0.0) as client:
        own = await (await client.get("/v1/releases/rel-1/replay")).json()
        assert (own["result"], own["is_whole"], own["left_out"]) == ("promoted", True, 0)
        assert next(one["action"] for one in own["moments"] if one["action"]) == "step"
        assert len(own["points"]) > 10
        assert own["checks"]["errors"]["e_value"] <= 1
        assert own["policy"]["alpha"] == POLICY.alpha
        given = {"policy": "steps: [setWeight: 50, pause: {duration: 1h}]"}
        other = await (await client.get("/v1/releases/rel-1/replay", params=given)).json()
        assert (other["result"], other["policy"]["steps"][0]) == ("undecided", {"setWeight": 50.0})
        bad = await client.get("/v1/releases/rel-1/replay", params={"policy": "alhpa: 1"})
        assert (bad.status, "alhpa" in (await bad.json())["error"]) == (400, True)


async def test_work_ends_in_time_and_the_answer_says_how_far_it_came() -> None:
    now_s = 0.0

    def monotonic_s() -> float:
        nonlocal now_s
        now_s += MAX_WORK_S / 10
        return now_s

    async with serving(Log(2 * READ_S), monotonic_s) as client:
        found = await (await client.get("/v1/releases/rel-1/replay")).json()
    assert found["is_whole"] is False
    assert START < found["read_through"] < START + 60


async def test_one_at_a_time() -> None:
    class Slow(Log):
        def __init__(self) -> None:
            super().__init__(100)
            self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        async def read_splits(self, route: str, *, since: int, until: int) -> Sequence[Split]:
            self.begun.set()
            await self.go_on.wait()
            return await super().read_splits(route, since=since, until=until)

    log = Slow()
    async with serving(log, lambda: 0.0) as client:
        first = asyncio.ensure_future(client.get("/v1/releases/rel-1/replay"))
        await log.begun.wait()
        second = await client.get("/v1/releases/rel-1/replay")
        assert (second.status, "one at a time" in await second.text()) == (503, True)
        log.go_on.set()
        assert (await first).status == 200
        assert (await client.get("/v1/releases/rel-1/replay")).status == 200


async def test_a_release_that_had_no_traffic_is_said() -> None:
    async with serving(Log(9, arm="stable"), lambda: 0.0) as client:
        found = await client.get("/v1/releases/rel-1/replay")
        assert (found.status, "no canary" in await found.text()) == (404, True)
