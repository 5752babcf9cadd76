"""Every panel's query gives something, and Grafana's own components draw it, dark and light.

The page is `grafana/preview`; pictures are left in var/dashboards.
"""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING, Any

import pytest

from tests.dashboards.conftest import Told
from tests.system.grafana_queries import dashboards
from tests.system.watched_stack import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [
    pytest.mark.dashboards,
    pytest.mark.timeout(1_800),
    pytest.mark.filterwarnings("ignore"),
]

BUNDLE = ROOT / ".venv" / "preview"
OUT = ROOT / "var" / "dashboards"
ORIGIN = "http://preview.invalid"
"""Never resolved: every file is answered from the bundle."""
ICONS = "/public/build/img/icons/"
WIDTH_PX = 1600
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/page.css">
<body style="margin:0"><div id="root"></div><script src="/page.js"></script>"""
DRAWN = {"timeseries": "canvas", "stat": "[title], span, div", "table": "[role=row]"}
"""What a panel of each kind has once it is drawn."""


def test_every_query_gives_something(told: Told) -> None:
    asked = {(uid, number) for uid, number in told.frames if number}
    assert asked == {(one["uid"], panel["id"]) for one in dashboards() for panel in one["panels"]}
    assert told.empty == []


@pytest.mark.parametrize("mode", ["dark", "light"])
@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda one: one["uid"])
def test_every_panel_is_drawn(
    told: Told, browser: Browser, dashboard: dict[str, Any], mode: str
) -> None:
    complaints: list[str] = []
    page = open_page(browser, complaints)
    try:
        draw(page, told, dashboard, mode)
        for panel in dashboard["panels"]:
            place = page.locator(f"[data-panel={panel['title']!r}]")
            place.locator(DRAWN[panel["type"]]).first.wait_for(state="attached")
            text = place.inner_text()
            assert "No data" not in text, panel["title"]
            if panel["type"] == "timeseries":
                for name in legend(told, dashboard["uid"], panel["id"]):
                    assert name.strip() in text, (panel["title"], name)
        assert page.locator(".failed").all_inner_texts() == []
        page.evaluate("document.fonts.ready")
        OUT.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=OUT / f"{dashboard['uid']}-{mode}.png", full_page=True)
    finally:
        page.close()
    assert complaints == []


def open_page(browser: Browser, complaints: list[str]) -> Page:
    """The preview's page, with what the browser complains about."""
    page = browser.new_page(viewport={"width": WIDTH_PX, "height": 900}, locale="en-GB")
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.route("**/*", answer)
    page.goto(ORIGIN)
    return page


def answer(route: Route) -> None:
    """Files of the bundle, icons of Grafana's; its fonts are in the bundle."""
    path = route.request.url.removeprefix(ORIGIN)
    if path == "/":
        route.fulfill(body=PAGE, content_type="text/html")
        return
    file = BUNDLE / (f"icons/{path.removeprefix(ICONS)}" if path.startswith(ICONS) else path[1:])
    if file.is_file():
        route.fulfill(path=file, content_type=mimetypes.guess_type(file.name)[0])
    else:
        route.fulfill(status=204)  # a font that nothing on the page needs


def draw(page: Page, told: Told, dashboard: dict[str, Any], mode: str) -> None:
    uid = dashboard["uid"]
    start_s, end_s = told.span_s(uid)
    drawing = {
        "dashboard": dashboard,
        "frames": {panel["id"]: told.frames[uid, panel["id"]] for panel in dashboard["panels"]},
        "events": told.events(uid),
        "mode": mode,
        "from_ms": start_s * 1000,
        "to_ms": end_s * 1000,
        "width": WIDTH_PX,
    }
    page.evaluate("drawing => window.draw(drawing)", drawing)


def legend(told: Told, uid: str, number: int) -> list[str]:
    """Names of the panel's series that their query gives."""
    fields = [field for frame in told.frames[uid, number] for field in frame["fields"]]
    return [one["config"]["displayNameFromDS"] for one in fields if "config" in one]
