"""What a reader may rely on: nothing old shown as fresh, a kept place, odd addresses and texts.

After `test_console.py`, whose release has ended: what it mirrored is still in the log.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = [pytest.mark.console, pytest.mark.timeout(240)]

MAX_PHONE_PX = 15_000
"""Of a list that can be scrolled with a thumb."""


def test_what_cannot_be_read_again_is_not_shown_as_fresh(
    console: Any, live: Any, release: Any
) -> None:
    """The agent answers, but not this."""
    one = console()
    one.sign_in(live.tokens["ann"])
    away = {"error": "the memory is away", "code": "unavailable"}
    one.page.route("**/v1/releases", lambda route: route.fulfill(status=503, json=away))
    one.page.get_by_text("(the memory is away). What you see is that old.").wait_for()
    one.page.unroute_all(behavior="ignoreErrors")
    one.page.get_by_text("What you see is that old.").wait_for(state="hidden")


def test_being_read_again_leaves_a_reader_alone(console: Any, live: Any, release: Any) -> None:
    one = console()
    page = one.page
    one.sign_in(live.tokens["ann"])
    title = "document.querySelector('section[data-key] h2')"
    page.evaluate(f"{title}.isKept = true; getSelection().selectAllChildren({title})")
    for _ in range(3):
        with page.expect_response("**/v1/drift"):
            pass
    assert page.evaluate(f"{title}.isKept")
    assert "rag" in page.evaluate("getSelection().toString()")


@pytest.mark.parametrize(
    "path", ["release/%E0%A4%A", "constructor", "__proto__/x", "queries?order=%00"]
)
def test_a_broken_address_says_so_or_leads_home(console: Any, live: Any, path: str) -> None:
    one = console()
    one.sign_in(live.tokens["ann"])
    one.open(path)
    one.page.get_by_role("heading", level=1, name=re.compile("Routes|No answer")).wait_for()
    assert [said for said in one.complaints if "TypeError" in said or "URIError" in said] == []


def test_mirrored_answers_fit_a_phone_and_a_hostile_query_is_text(
    console: Any, live: Any, release: Any
) -> None:
    """Forty of them, each with forty documents and a long query with markup in it."""

    def many(route: Any) -> None:
        answer = route.fetch()
        one = answer.json()[0]
        long = one | {"query_text": "<img src=x onerror=alert(1)>" * 500}
        route.fulfill(response=answer, json=[long] * 40)

    one = console(viewport={"width": 360, "height": 800})
    one.sign_in(live.tokens["ann"])
    one.page.route("**/v1/routes/rag/pairs?*", many)
    one.open("queries?order=pairs&minutes=60")
    one.page.locator("details.pair").nth(39).wait_for()
    height = one.page.evaluate("document.documentElement.scrollHeight")
    assert height < MAX_PHONE_PX
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert one.page.locator("main img").count() == 0
    one.picture("pairs-phone")
    one.page.unroute_all(behavior="ignoreErrors")
    assert one.complaints == []
