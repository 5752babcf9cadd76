"""The console in a real browser, during a real release. Each test goes on from the last one."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import PRIVATE, PRIVATE_HOST

pytestmark = [pytest.mark.console, pytest.mark.timeout(240)]

PAGES = ("history", "queries", "settings", "")
AXE = Path("var/axe/axe.min.js")
MAX_LOAD_MS = 300
LOADS = 5
"""The best of them counts: how fast it is, not how busy the machine."""
MAX_BYTES = 150_000


def test_a_wrong_token_is_refused_and_a_right_one_opens(console: Any, live: Any) -> None:
    one = console()
    page = one.page
    page.goto(live.url)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("this token is not known").wait_for()
    one.picture("login")
    one.complaints.clear()  # the browser itself tells of the 401
    one.sign_in(live.tokens["ann"])
    page.get_by_text("No release yet.").first.wait_for()
    assert one.complaints == []


def test_it_loads_fast_and_small_from_no_other_host(console: Any, live: Any) -> None:
    asked: list[str] = []
    loads = [load(console(), live.url, asked) for _ in range(LOADS)]
    took_ms, total = min(loads)
    print(f"loaded in {took_ms:.0f} ms, {total} bytes")  # noqa: T201
    assert took_ms <= MAX_LOAD_MS
    assert 20_000 < total < MAX_BYTES
    assert all(url.startswith((live.url, "data:")) for url in asked)


def load(one: Any, url: str, asked: list[str]) -> tuple[float, int]:
    """Milliseconds and bytes of a first visit, with nothing in the browser's cache."""
    one.page.on("request", lambda request: asked.append(request.url))
    one.page.goto(url)
    one.page.get_by_role("heading", name="Log in").wait_for()
    took_ms, total = one.page.evaluate(
        "[performance.getEntriesByType('navigation')[0].loadEventEnd,"
        " performance.getEntriesByType('resource').reduce((sum, x) => sum + x.decodedBodySize, 0)]"
    )
    return took_ms, total


def test_mirrored_answers_stand_side_by_side(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    one.page.get_by_text("until a person says promote").first.wait_for()
    one.open("queries?order=pairs")
    one.page.get_by_role("heading", name="Mirrored: 1.1.0").first.wait_for()
    one.picture("pairs")
    assert one.complaints == []


def test_promote_gives_it_traffic(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    one.open(f"release/{release['id']}")
    one.act("Promote", "the mirrored answers are fine")
    path = f"/v1/releases/{release['id']}"
    live.wait(path, lambda found: found["weight"] == 20 and found["checks"])
    live.wait(path, lambda found: found["canary_requests"] > 30)
    one.open("")
    one.page.get_by_text("20.0 % to the canary").wait_for()
    one.picture("overview")
    events = live.call("GET", f"{path}/events")
    asked = next(event for event in events if event["kind"] == "asked.promote")
    assert (asked["actor"], asked["reason"]) == ("operator ann", "the mirrored answers are fine")
    assert one.complaints == []


def test_the_release_page_shows_how_it_went(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    live.wait(
        f"/v1/releases/{release['id']}/evidence",
        lambda found: len(found) > 3 and "latency" in found[-1]["checks"],
    )
    one.open(f"release/{release['id']}")
    page = one.page
    shown = ("rolled back at: 33.3", "errors: both arms", "latency: difference", "matters from: ")
    for title in shown:
        page.get_by_text(title).first.wait_for()
    page.get_by_role("img", name="Latency, share of requests").wait_for()
    page.get_by_text("Completeness of the log").wait_for()
    page.get_by_text("finds the right document more often").first.wait_for()
    page.get_by_role("heading", name="Drift").wait_for()
    one.picture("release")
    assert one.complaints == []


@pytest.mark.parametrize("order", ["newest", "slowest", "worst", "failed"])
def test_queries_are_listed(console: Any, live: Any, release: Any, order: str) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    one.open(f"queries?order={order}")
    wanted = "0 of route rag" if order == "failed" else "50 of route rag"
    one.page.get_by_text(wanted).first.wait_for()
    if order == "newest":
        one.picture("queries")
    assert one.complaints == []


def test_what_redaction_dropped_is_on_no_page(console: Any, live: Any) -> None:
    secret = "what the patient in room 7 has"
    live.ask(secret, Host=PRIVATE_HOST)
    path = f"/v1/routes/{PRIVATE}/queries"
    rows = live.wait(path, lambda found: len(found) > 0)
    assert rows[0]["query_text"] is None
    one = console()
    one.sign_in(live.tokens["ann"])
    one.open(f"queries?route={PRIVATE}")
    one.page.get_by_text("not recorded").first.wait_for()
    assert rows[0]["request_id"] in one.page.content()
    assert secret not in one.page.content()
    assert one.complaints == []


def test_weights_by_hand_and_resume(console: Any, live: Any, release: Any) -> None:
    one = console()
    path = f"/v1/releases/{release['id']}"
    one.sign_in(live.tokens["ann"])
    one.act("Set weight", "two fifths, for a minute", Percent="40")
    one.page.get_by_text("40.0 % to the canary").wait_for()
    one.page.get_by_text("two fifths, for a minute").first.wait_for()
    live.wait(path, lambda found: found["pause"] and found["pause"]["kind"] == "hand")
    one.open(f"release/{release['id']}")
    one.act("Resume", "go on")
    live.wait(path, lambda found: found["weight"] == 20 and not found["asked"])
    live.wait(path, lambda found: not found["pause"] or found["pause"]["kind"] == "step")


def test_a_pause_is_said_with_who_and_why(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    path = f"/v1/releases/{release['id']}"
    one.open(f"release/{release['id']}")
    one.act("Promote", "to the last weight")
    live.wait(path, lambda found: found["weight"] == 50 and not found["asked"])
    one.act("Pause", "lunch")
    one.page.get_by_text("paused by operator ann: lunch").first.wait_for()
    one.act("Resume", "back")
    live.wait(path, lambda found: not found["pause"] or found["pause"]["kind"] == "step")


def test_an_event_is_shown_before_the_page_would_look_again(
    console: Any, live: Any, release: Any
) -> None:
    """Its clock stands still, so no timer goes off: it is told by the agent."""
    one = console()
    one.page.clock.install()
    one.sign_in(live.tokens["eve"])
    one.page.goto(f"{live.url}/#/history")
    one.page.get_by_role("heading", name="History").wait_for()
    one.page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
    with one.page.expect_response("**/v1/releases"):
        live.call("POST", f"/v1/releases/{release['id']}/pause", {"reason": "look"})
    one.page.get_by_role("cell", name="paused by operator: look").wait_for()
    live.call("POST", f"/v1/releases/{release['id']}/resume", {"reason": "seen"})


def test_a_change_of_queries_is_acknowledged(console: Any, live: Any, release: Any) -> None:
    """The change is made up, a real one takes minutes; what the agent answers is not."""

    def changed(route: Any) -> None:
        answer = route.fetch()
        found = [
            one | {"state": "drifted", "detected": {"query_length": one["reference_since"]}}
            for one in answer.json()
        ]
        route.fulfill(response=answer, json=found)

    one = console()
    one.page.route("**/v1/drift", changed)
    live.wait("/v1/drift", lambda found: "rag" in [drift["route"] for drift in found])
    one.sign_in(live.tokens["ann"])
    one.page.get_by_text("queries have changed").first.wait_for()
    with one.page.expect_response("**/drift/acknowledge") as told:
        one.act("Acknowledge", "a new tenant")
    assert told.value.ok
    one.page.unroute_all(behavior="ignoreErrors")
    assert one.complaints == []


def test_settings_explain_the_policy(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["eve"])
    one.open("settings")
    one.page.get_by_text("everything goes to stable").first.wait_for()
    one.page.get_by_text("mirror 50 %").first.wait_for()
    one.picture("settings")
    assert one.complaints == []


def test_a_viewer_sees_and_cannot_act(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["eve"])
    one.page.get_by_text("Your token may only look.").first.wait_for()
    for path, actions in (
        ("", ("Set weight", "Roll back")),
        (f"release/{release['id']}", ("Pause", "Promote", "Abort")),
    ):
        one.open(path)
        for action in actions:
            assert one.page.get_by_role("button", name=action, exact=True).first.is_disabled()
    status = one.page.evaluate(
        "fetch('/v1/routes/rag/rollback', {method: 'POST', body: '{\"reason\": \"x\"}'})"
        ".then(answer => answer.status)"
    )
    assert status == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_accessible(
    console: Any, live: Any, release: Any, scheme: str, width: int
) -> None:
    one = console(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
    one.sign_in(live.tokens["ann"])
    for path in (*PAGES, f"release/{release['id']}", f"replay/{release['id']}"):
        one.open(path)
        one.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = one.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
        )
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"]][:3])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], (path, scheme, width)
        wide = one.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path!r} is {wide} px wider than {width}"
        one.picture(f"{path.split('/')[0] or 'overview'}-{scheme}-{width}")
    assert one.complaints == []


def test_the_keyboard_alone_is_enough(console: Any, live: Any, release: Any) -> None:
    one = console()
    page = one.page
    page.goto(live.url)
    page.get_by_label("Token").wait_for()
    page.keyboard.type(live.tokens["ann"])
    page.keyboard.press("Enter")
    page.get_by_role("region", name="route rag", exact=True).wait_for()
    page.get_by_role("button", name="Roll back").first.focus()
    for _ in range(3):  # read and drawn again meanwhile
        with page.expect_response("**/v1/drift"):
            pass
    assert page.evaluate("document.activeElement.textContent") == "Roll back"
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_a_lost_connection_is_said_and_comes_back(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    lost = one.page.get_by_text("No answer from the agent for")
    pid = live.stack.process("agent").pid
    os.kill(pid, signal.SIGSTOP)
    try:
        lost.wait_for()
        assert "stale" in (one.page.locator("body").get_attribute("class") or "")
        one.picture("lost")
    finally:
        os.kill(pid, signal.SIGCONT)
    lost.wait_for(state="hidden")


def test_a_token_whose_time_is_over_ends_the_session(console: Any, live: Any) -> None:
    token = live.add_token("tim", "operator")
    live.wait_for_token(token)
    one = console()
    one.sign_in(token)
    live.expire("tim")
    one.page.get_by_role("heading", name="Log in").wait_for()


def test_abort_retry_and_roll_back(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    one.open(f"release/{release['id']}")
    one.act("Abort", "a drill")
    one.page.get_by_text("The release of 1.1.0 was ended without blame").wait_for()
    one.act("Retry", "the drill is over")
    again = live.wait("/v1/releases", lambda found: len(found) == 2)[0]["id"]
    live.wait(f"/v1/releases/{again}", lambda found: found["pause"])
    one.open(f"release/{again}")
    one.act("Promote", "seen before")
    live.wait(f"/v1/releases/{again}", lambda found: found["weight"] == 20)
    one.open("")
    one.page.get_by_text("20.0 % to the canary").wait_for()
    one.act("Roll back", "another drill")
    page = one.page
    page.get_by_role("region", name="route rag", exact=True).get_by_text(
        "1.1.0 was rolled back"
    ).wait_for()
    alerts = page.get_by_role("region", name="alerts")
    alerts.get_by_text("ReleaseRolledBack").wait_for()
    alerts.get_by_text("by what this agent sees itself").wait_for()
    one.picture("alerts")
    route = live.call("GET", "/v1/routes")["routes"][0]
    assert (route["weight"], route["stable"]) == (0, "1.0.0")


def test_history_is_filtered(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["eve"])
    one.open("history")
    one.page.get_by_text("2 releases, newest first").wait_for()
    one.page.get_by_label("Phase").select_option("rolled_back")
    one.page.get_by_text("1 release, newest first").wait_for()
    one.page.get_by_label("Phase").select_option("")
    one.page.get_by_label("Route").select_option("rag")
    one.page.get_by_text("2 releases, newest first").wait_for()


def test_two_releases_are_compared(console: Any, live: Any, release: Any) -> None:
    one = console()
    one.sign_in(live.tokens["eve"])
    ids = ",".join(found["id"] for found in live.call("GET", "/v1/releases"))
    one.open(f"history?compare={ids}")
    one.page.get_by_role("heading", name="Side by side").wait_for()
    one.picture("history")
    one.page.get_by_role("link", name="replay 1.1.0 of").first.click()
    one.page.get_by_role("heading", name="Replay of 1.1.0 on rag").wait_for()
    assert one.complaints == []


def test_a_release_is_replayed_also_by_another_policy(
    console: Any, live: Any, release: Any
) -> None:
    one = console()
    page = one.page
    one.sign_in(live.tokens["eve"])
    one.open(f"release/{release['id']}")
    page.get_by_role("link", name="Replay: judge it again").click()
    page.get_by_role("heading", name="What would have happened").wait_for()
    page.get_by_role("img", name="Evidence against it, all checks together").wait_for()
    page.get_by_label("Judge by").select_option("given")
    policy = page.get_by_label("Policy, in YAML")
    policy.fill("steps: [setWeight: 20]\nalhpa: 0.1")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("It was not replayed: policy").wait_for()
    one.complaints.clear()  # the browser itself tells of the 400
    policy.fill("steps: [setWeight: 50]\nalpha: 0.1")
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("rolled back at: 12.5").first.wait_for()
    one.picture("replay")
    assert one.complaints == []


def test_signing_out_ends_it(console: Any, live: Any) -> None:
    one = console()
    one.sign_in(live.tokens["eve"])
    one.page.get_by_role("button", name="Log out").click()
    one.page.get_by_role("heading", name="Log in").wait_for()
    one.page.reload()
    one.page.get_by_role("heading", name="Log in").wait_for()
