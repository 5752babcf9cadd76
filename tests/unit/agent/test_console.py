"""What the console draws, worked out of evidence."""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent
from agent.console.api import _status_of, live_route
from agent.console.door import STATIC
from agent.console.history import MAX_POINTS as MAX_KEPT
from agent.console.history import EvidenceHistory, EvidencePoint
from agent.console.series import MAX_POINTS, edge_ms, quantile_ms, traffic
from agent.console.whole import RecentTraffic, WholeTraffic
from agent.judge import CheckResult, Judgement, Verdict
from agent.moments import iso
from agent.release import Phase, Sight, Verb
from mlops.contracts.evidence import AnsweredCounts, Evidence, SecondCounts, latency_bin
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.release import FAILED_PHASES, ReleaseStatus
from mlops.deployment.errors import GatewayError, GatewayRefused, GatewayUnavailable


@given(values=st.lists(st.integers(100, 10**8), min_size=1, max_size=200), q=st.floats(0.01, 1))
def test_a_quantile_lies_at_the_edge_of_its_bin(values: list[int], q: float) -> None:
    bins: dict[int, int] = {}
    for value in values:
        bins[latency_bin(value)] = bins.get(latency_bin(value), 0) + 1
    enough = [value for value in values if sum(v <= value for v in values) >= q * len(values)]
    assert quantile_ms(bins, q) == round(edge_ms(latency_bin(min(enough))), 3)


@given(length=st.integers(1, 20_000), arm=st.sampled_from(["stable", "canary"]))
def test_traffic_of_any_length_fits_and_loses_nothing(length: int, arm: str) -> None:
    seconds = tuple(
        SecondCounts(
            second=1000 + n, generation=1, arm=arm, rows=3, requests=2, errors=1,
            latency_bins={10: 2},
        )
        for n in range(0, length, max(1, length // 300))
    )  # fmt: skip
    answered = (AnsweredCounts(second=1000, generation=1, arm=arm, answered=7, dropped=0),)
    found = traffic(
        Evidence(
            route="rag", since=1000, closed_through=999 + length, seconds=seconds, answered=answered
        )
    )
    one = found.arms[arm]
    assert len(one.points) <= MAX_POINTS
    assert sum(point.requests for point in one.points) == one.requests == 2 * len(seconds)
    assert (one.errors, one.rows, one.answered) == (len(seconds), 3 * len(seconds), 7)
    assert sum(share for _, share in one.latency) == pytest.approx(1.0)


def test_nothing_is_no_arm() -> None:
    assert traffic(Evidence(route="rag", since=10, closed_through=9)).arms == {}


def test_evidence_of_any_length_keeps_its_shape_in_bounds() -> None:
    history = EvidenceHistory()
    for number in range(20_000):
        judgement = Judgement(
            verdict=Verdict.UNDECIDED, reasons=(), checks={}, e_value=float(number)
        )
        history.note("rel-1", 5.0, judgement, 1000.0 + number)
    points = history.of("rel-1")
    assert MAX_KEPT / 4 < len(points) <= MAX_KEPT
    assert points[0].at == 1000.0
    assert points[-1].at > 1000.0 + 19_000
    assert [point.at for point in points] == sorted({point.at for point in points})
    history.forget(set())
    assert history.of("rel-1") == []


def test_a_route_shows_the_newest_plan_and_what_each_gateway_has() -> None:
    slot = Slot(version="1", endpoints=("http://127.0.0.1:9",))
    canary = Slot(version="2", endpoints=("http://127.0.0.1:9",))
    old = RoutePlan(route="rag", generation=1, salt="s", stable=slot)
    new = RoutePlan(
        route="rag", generation=2, salt="s", stable=slot, canary=canary, canary_share_bp=2000,
        lease_s=30.0,
    )  # fmt: skip
    found = live_route(
        "rag",
        (
            Sight(gateway="a", plan=new, lease_remaining_s=12.0),
            Sight(gateway="b", plan=new, lease_remaining_s=0.0),
            Sight(gateway="c", plan=old),
            Sight(gateway="d", problem="no answer"),
        ),
    )
    assert (found.stable, found.canary, found.weight, found.generation) == ("1", "2", 20.0, 2)
    assert [(one.generation, one.split) for one in found.gateways] == [
        (2, 20.0), (2, 0.0), (1, 0.0), (None, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (None, None),
        ((-0.1, 0.2), (-0.1, 0.2)),
        ((-0.1, math.inf), (-0.1, None)),
        ((-math.inf, math.inf), (None, None)),
    ],
)
def test_an_open_interval_survives_json(
    interval: tuple[float, float] | None, shown: tuple[float | None, float | None] | None
) -> None:
    """JSON knows no infinity, and a client that reads the status must not stumble."""
    result = CheckResult(
        candidate_count=1, control_count=1, candidate_value=0.0, control_value=0.0, effect=0.0,
        interval=interval, e_value=1.0, noninferiority_e_value=1.0, still_needed=None,
    )  # fmt: skip
    history = EvidenceHistory()
    history.note(
        "rel-1", 5.0, Judgement(verdict=Verdict.UNDECIDED, reasons=(), checks={"x": result}), 1.0
    )
    (point,) = msgspec.json.decode(
        msgspec.json.encode(history.of("rel-1")), type=list[EvidencePoint]
    )
    assert point.checks["x"].interval == shown


@pytest.mark.parametrize(
    ("confirmed", "problems", "status"),
    [
        (["a"], [], 200),
        ([], [GatewayRefused("no", status=409)], 409),
        (["a"], [GatewayRefused("no", status=409)], 502),
        ([], [GatewayRefused("no", status=409), GatewayUnavailable("away")], 502),
    ],
)
def test_what_every_gateway_refused_is_refused(
    confirmed: list[str], problems: list[GatewayError], status: int
) -> None:
    assert _status_of(confirmed, problems) == status


class CountingLog:
    def __init__(self) -> None:
        self.read: list[tuple[int, int, int]] = []

    async def read_evidence(self, route: str, *, since: int) -> Evidence:
        self.read.append((since, since + 900, 1))
        return Evidence(route=route, since=since, closed_through=since + 890)

    async def read_traffic(self, route: str, *, since: int, until: int, every_s: int) -> Evidence:
        self.read.append((since, until, every_s))
        return Evidence(route=route, since=since, closed_through=until)


def release_of(started_s: float, ended_s: float | None) -> ReleaseStatus:
    return ReleaseStatus(
        id="r", route="rag", version="2", stable="1", phase="", step=1, steps=1, weight=5.0,
        generation=1, reason="", verdict="", reasons=(), started_at=iso(started_s),
        ended_at=None if ended_s is None else iso(ended_s),
    )  # fmt: skip


async def test_a_long_release_is_read_again_once_it_has_a_point_more() -> None:
    log = CountingLog()
    whole = WholeTraffic(log)
    day_s = 24 * 3600
    for now_s in (day_s, day_s + 5, day_s + 959, day_s + 980):
        await whole.of(release_of(0, None), now_s)
    assert log.read == [(0, day_s, 961), (0, day_s + 980, 971)]


async def test_a_release_that_ended_is_read_once_more_and_never_again() -> None:
    log = CountingLog()
    whole = WholeTraffic(log)
    await whole.of(release_of(0, None), 9_000)
    for now_s in (9_002, 90_000, 900_000):
        await whole.of(release_of(0, 9_001), now_s)
    assert [until for _, until, _ in log.read] == [9_000, 9_001]


async def test_a_routes_last_minutes_are_read_once_however_many_look() -> None:
    log = CountingLog()
    recent = RecentTraffic(log)
    for now_s in (9_000.0, 9_000.2, 9_010.9, 9_011.0, 9_012.0):
        assert (await recent.of("rag", 15, now_s)).since <= int(now_s) - 900
    assert [since for since, _, _ in log.read] == [8_100, 8_111]
    await recent.of("other", 15, 9_012.0)
    await recent.of("rag", 5, 9_012.0)
    assert len(log.read) == 4
    await recent.of("rag", 15, 8_000.0)  # the clock was set back
    assert log.read[-1][0] == 7_100


def test_the_page_knows_every_event_that_the_agent_tells() -> None:
    """By the names in the sources: what it does not listen to is shown late and by its raw name."""
    sources = [file.read_text() for file in Path(agent.__file__).parent.glob("*.py")]
    told = {
        kind for text in sources for kind in re.findall(r'"((?:release|drift)\.[a-z_]+)"', text)
    } - {"release.json"}
    told |= {f"release.{phase}" for phase in FAILED_PHASES}
    listening = re.search(r"const kinds = \[(.*?)\].*?of \[(.*?)\]", page("api.js"), re.DOTALL)
    assert listening is not None
    releases, drift = (re.findall(r'"([a-z_]+)"', part) for part in listening.groups())
    assert {f"release.{kind}" for kind in releases} | {f"drift.{kind}" for kind in drift} == told
    words = re.search(r"const EVENTS = \{(.*?)\};", page("views.js"))
    assert words is not None
    assert set(re.findall(r"(\w+):", words[1])) == set(releases)


def test_the_page_has_words_for_every_command_and_phase() -> None:
    verbs = re.search(r"const VERBS = \{(.*?)\n\};", page("actions.js"), re.DOTALL)
    phases = re.search(r"const PHASES = \{(.*?)\};", page("views.js"))
    assert verbs is not None
    assert phases is not None
    assert set(re.findall(r"^  (\w+):", verbs[1], re.MULTILINE)) == set(Verb)
    assert set(re.findall(r"(\w+):", phases[1])) == {*Phase, "paused"}


def page(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
