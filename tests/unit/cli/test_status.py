"""Every route on one screen, also where somebody does not answer."""

from __future__ import annotations

import json
import socket
from io import StringIO

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from rich.console import Console

from cli.exits import EXIT_NO_ANSWER
from cli.main import main
from cli.shapes import StatusOverview
from cli.status import Screen, _headline, _joined, plain, sentence
from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.release import CheckStatus
from tests.unit.cli.test_view import STATUS

ONE, TWO = "http://one:8001", "http://two:8001"
SUMMARY = "Not known yet whether 1.2.0 is all right."
RELEASE = replace(STATUS, summary=SUMMARY)
CHECK = CheckStatus(
    candidate_count=1_234_567, control_count=1, candidate_value=12345.6, control_value=12345.6,
    e_value=3.2e-7, noninferiority_e_value=12.0, still_needed=90,
)  # fmt: skip


def live(route: str, canary: str | None = "1.2.0", share_bp: int = 2500) -> RouteStatus:
    plan = RoutePlan(
        route=route,
        generation=4,
        salt="s",
        stable=Slot(version="1.1.0", endpoints=("http://a:1",), headers={"x-key": "s3cret"}),
        canary=Slot(version=canary, endpoints=("http://b:1",)) if canary else None,
        canary_share_bp=share_bp if canary else 0,
    )
    return RouteStatus(plan=plan, share_bp=share_bp, explanation=f"25 % of {route}")


def overview(**gateways: list[RouteStatus]) -> StatusOverview:
    found = {ONE: gateways.get("one", []), TWO: gateways.get("two", [])}
    return StatusOverview(routes=list(_joined(found, [RELEASE], ())), not_answering={}, agent="")


def drawn(found: StatusOverview, width: int) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(Screen().draw(found))
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above


def test_each_route_is_joined_from_every_gateway_and_its_newest_release() -> None:
    found = overview(one=[live("rag"), live("other", None)], two=[live("rag")])
    assert [one.route for one in found.routes] == ["rag", "other"]
    rag, other = found.routes
    assert (set(rag.gateways), rag.release) == ({ONE, TWO}, RELEASE)
    assert (set(other.gateways), other.release) == ({ONE}, None)
    assert "s3cret" not in str(found)


def test_a_running_release_is_shown_when_no_gateway_answers() -> None:
    (found,) = overview().routes
    assert (found.route, found.gateways, sentence(found)) == ("rag", {}, SUMMARY)
    ended = replace(RELEASE, phase="settled")
    assert list(_joined({}, [ended], ())) == []


def test_only_what_is_asked_for_is_shown() -> None:
    found = list(_joined({ONE: [live("rag"), live("other")]}, [], ("other",)))
    assert [one.route for one in found] == ["other"]


def test_without_the_agent_what_is_live_is_said() -> None:
    (one,) = _joined({ONE: [live("rag")]}, [], ())
    assert sentence(one) == "No release is known. Stable is 1.1.0, canary is 1.2.0."


def test_lines_say_the_answer_first_then_what_is_live() -> None:
    lines = list(plain(overview(one=[live("rag")])))
    assert lines == [f"rag: {SUMMARY}", f"  {ONE}: 25 % of rag"]


@pytest.mark.parametrize("width", [80, 110, 140])
def test_no_figure_is_cut_off(width: int) -> None:
    """Also not in a terminal of 80 columns, whatever the checks are called."""
    checks = dict.fromkeys(("latency", "rank_biased_overlap", "empty_retrievals"), CHECK)
    found = overview(one=[live("rag")])
    route = replace(found.routes[0], release=replace(RELEASE, checks=checks))
    text = drawn(replace(found, routes=[route]), width)
    assert text.count("1,234,567") == text.count("3.2e-07") == 3
    assert text.count("12.3 ms") == 2
    assert SUMMARY in text
    assert "rag-mlops rollback rag" in text
    assert all(len(line) <= width for line in text.splitlines())


def test_counts_that_grow_are_no_news() -> None:
    (one,) = _joined({ONE: [live("rag")]}, [RELEASE], ())
    more = replace(one, release=replace(RELEASE, canary_requests=99))
    assert _headline(one) == _headline(more)
    healthy = replace(one, release=replace(RELEASE, verdict="healthy"))
    moved = replace(one, gateways={ONE: live("rag", share_bp=5000)})
    assert _headline(one) not in (_headline(healthy), _headline(moved))


def test_whoever_does_not_answer_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        environ = {"MLOPS_GATEWAY_ADMIN_URLS": url, "MLOPS_AGENT_URL": f"{url}/agent"}
        said = CliRunner().invoke(main, ["status", "-o", "json"], env=environ)
    assert said.exit_code == EXIT_NO_ANSWER
    found = json.loads(said.stdout)
    assert (set(found["not_answering"]), found["agent"]) == ({url, f"{url}/agent"}, f"{url}/agent")


def test_it_is_said_which_of_them_is_silent() -> None:
    away = {ONE: "connection refused", "http://a:8002": "expected a known token"}
    found = StatusOverview(routes=[], not_answering=away, agent="http://a:8002")
    assert list(plain(found)) == [
        f"gateway {ONE}: connection refused",
        "agent http://a:8002: expected a known token",
    ]


def test_a_route_that_nobody_has_is_refused() -> None:
    said = CliRunner().invoke(main, ["status", "--watch", "-o", "json"])
    assert said.exit_code == 2
    assert "--watch draws for people" in said.output
