"""The console's door and reads, over HTTP as a browser uses them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from agent.console.door import STATIC
from mlops.contracts.evidence import Pair, PairSide
from mlops.feature_store.queries import LoggedQuery
from mlops.service.tokens import new_token
from tests.component.agent.test_agent import WAITS, begin

READER, READER_ENTRY = new_token("reader", "viewer")
BUDGET_BYTES = 150_000


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_bytes(msgspec.yaml.encode([READER_ENTRY]))
    return path


class Browser:
    """Keeps cookies, and names its page where it changes something."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._session.get(f"{self.url}{path}") as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(
        self, method: str, path: str, body: object, origin: str | None = None
    ) -> tuple[int, Any]:
        headers = {"Origin": self.url if origin is None else origin}
        async with self._session.request(
            method, f"{self.url}{path}", json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def login(self, token: str) -> int:
        return (await self.send("POST", "/console/login", {"token": token}))[0]


async def test_every_file_is_served_small_typed_and_strict(
    start: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    total = 0
    for file in STATIC.iterdir():
        path = "/" if file.name == "index.html" else f"/console/{file.name}"
        async with agent.session.get(f"{agent.url}{path}") as answer:
            assert answer.status == 200
            policy = answer.headers["Content-Security-Policy"]
            tag = answer.headers["ETag"]
            total += len(await answer.read())
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        async with agent.session.get(
            f"{agent.url}{path}", headers={"If-None-Match": tag}
        ) as answer:
            assert answer.status == 304
    assert total <= BUDGET_BYTES


def test_nothing_is_fetched_from_elsewhere_and_no_markup_is_made_of_text() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not hosts, file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|style=", text)


async def test_a_browser_logs_in_looks_acts_and_logs_out(
    start: Any, wait: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)
    async with Browser(agent.url) as browser:
        assert (await browser.get("/console/me"))[1]["role"] == "nobody"
        assert (await browser.get("/v1/routes"))[0] == 401
        assert await browser.login("wrong") == 401
        assert await browser.login("operator") == 200
        assert (await browser.get("/console/me"))[1]["role"] == "operator"

        async def seen() -> bool:
            status, live = await browser.get("/v1/routes")
            assert (status, live["leads"]) == (200, True)
            (route,) = live["routes"]
            return (route["route"], route["canary"], route["weight"]) == ("rag", "2", 20.0)

        await wait(seen)
        path = f"/v1/releases/{release_id}/pause"
        status, refused = await browser.send("POST", path, {}, origin="http://evil.example")
        assert status == 403
        assert "evil.example" in refused["error"]
        assert (await browser.send("POST", path, {}, origin=""))[0] == 403
        assert (await browser.send("POST", path, {"reason": "look"}))[0] == 202
        assert (await browser.send("POST", "/console/logout", {}))[0] == 200
        assert (await browser.get("/v1/routes"))[0] == 401


async def test_the_cookie_is_for_this_server_and_no_script(
    start: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    headers = {"Origin": agent.url}
    async with agent.session.post(
        f"{agent.url}/console/login", json={"token": "viewer"}, headers=headers
    ) as answer:
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "viewer" not in cookie


async def test_logging_in_again_ends_the_session_before(start: Any, gateway: Any, log: Any) -> None:
    agent = await start()
    async with Browser(agent.url) as browser:
        assert await browser.login("operator") == 200
        before = {one.key: one.value for one in browser._session.cookie_jar}
        assert await browser.login("viewer") == 200
        assert (await browser.get("/console/me"))[1]["role"] == "viewer"
    async with agent.session.get(f"{agent.url}/v1/routes", cookies=before) as answer:
        assert answer.status == 401


async def test_tokens_are_not_guessed_where_it_is_told_who_looks(
    start: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    guesses = [await agent.call("GET", "/console/me", token=f"{guess}") for guess in range(40)]
    assert [status for status, _ in guesses] == [200] * 30 + [429] * 10
    assert guesses[0][1]["role"] == "nobody"
    assert (await agent.call("GET", "/console/me", token="operator"))[0] == 429


async def test_what_the_agent_tells_is_kept_by_no_cache(start: Any, gateway: Any, log: Any) -> None:
    agent = await start()
    for path in ("/v1/releases", "/v1/routes/rag/queries", "/v1/nothing"):
        headers = {"Authorization": "Bearer viewer"}
        async with agent.session.get(f"{agent.url}{path}", headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store", path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_viewer_may_look_and_not_act_and_ends_with_the_token(
    start: Any, wait: Any, gateway: Any, log: Any, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.service.tokens.LOOK_S", 0.0)
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)
    async with Browser(agent.url) as browser:
        assert await browser.login(READER) == 200
        assert (await browser.get(f"/v1/releases/{release_id}"))[0] == 200
        weights = {"stable": 90, "canary": 10}
        assert (await browser.send("PUT", "/v1/routes/rag/weights", weights))[0] == 403
        token_file.write_text("[]")
        assert (await browser.get("/v1/routes"))[0] == 401


async def test_weights_and_rollback_reach_every_gateway_in_the_persons_name(
    start: Any, wait: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    await begin(agent, wait, gateway, WAITS)
    status, done = await agent.call(
        "PUT", "/v1/routes/rag/weights", {"stable": 90, "canary": 10, "reason": "slowly"}
    )
    assert (status, done["not_confirmed"]) == (200, {})
    assert gateway.asked == [("PUT", "weights", "ann (operator)")]
    status, done = await agent.call("POST", "/v1/routes/rag/rollback", {"reason": "no"})
    assert (status, len(done["confirmed"])) == (200, 1)
    assert (await agent.call("POST", "/v1/routes/none/rollback", {}))[0] == 404


async def test_evidence_traffic_queries_and_settings_are_read(
    start: Any, wait: Any, gateway: Any, log: Any
) -> None:
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)

    async def noted() -> Any:
        return (await agent.call("GET", f"/v1/releases/{release_id}/evidence"))[1]

    points = await wait(noted)
    assert points[0]["verdict"] in ("undecided", "healthy")
    status, traffic = await agent.call("GET", "/v1/routes/rag/traffic?minutes=1")
    assert status == 200
    assert traffic["arms"]["stable"]["requests"] > 0
    status, whole = await agent.call("GET", f"/v1/releases/{release_id}/traffic")
    assert (status, set(whole["arms"])) == (200, set(traffic["arms"]))
    release = (await agent.call("GET", f"/v1/releases/{release_id}"))[1]
    assert whole["since"] == int(datetime.fromisoformat(release["started_at"]).timestamp())
    log.queries = [LoggedQuery(**dict.fromkeys(LoggedQuery.__struct_fields__))]  # type: ignore[arg-type]
    status, found = await agent.call("GET", "/v1/routes/rag/queries?order=slowest&arm=canary")
    assert (status, len(found)) == (200, 1)
    for bad in ("order=x", "arm=x", "minutes=0", "minutes=99999", "limit=x"):
        status, refused = await agent.call("GET", f"/v1/routes/rag/queries?{bad}")
        assert status == 400, bad
        assert bad.partition("=")[0] in refused["error"]
    status, settings = await agent.call("GET", "/v1/settings")
    assert status == 200
    assert settings["policy"]["alpha"] == 0.05
    assert set(settings["strategies"]) == {"canary", "shadow", "blue_green"}


async def test_without_clickhouse_it_says_so(start: Any, wait: Any, gateway: Any, log: Any) -> None:
    agent = await start()
    log.away = True
    for path in ("traffic", "queries"):
        status, problem = await agent.call("GET", f"/v1/routes/rag/{path}")
        assert (status, problem["error"]) == (503, "away")


async def test_a_release_tells_its_policy_and_the_e_value_that_ends_it(
    start: Any, gateway: Any, log: Any, wait: Any
) -> None:
    agent = await start()
    release_id = await begin(agent, wait, gateway, WAITS)
    status, found = await agent.call("GET", f"/v1/releases/{release_id}/policy", token="viewer")
    assert status == 200
    assert "steps[1]" in [line["name"] for line in found["lines"]]
    alpha = next(line for line in found["lines"] if line["name"] == "alpha")
    assert found["rolled_back_at"] == pytest.approx(1 / (0.8 * float(alpha["value"])))


async def test_mirrored_answers_come_newest_first_with_what_was_asked(
    start: Any, gateway: Any, log: Any
) -> None:
    side = PairSide(
        version="1", arm="stable", outcome="ok", status=200, latency_us=5, relevance_score=None,
        answer_chars=None, retrieved_ids=[], retrieved_scores=[],
    )  # fmt: skip
    log.pairs = [
        Pair(request_id=f"r{n}", generation=1, ended_at_us=n, served=side, mirror=side)
        for n in range(3)
    ]
    agent = await start()
    _, found = await agent.call("GET", "/v1/routes/rag/pairs")
    assert [one["pair"]["request_id"] for one in found] == ["r2", "r1", "r0"]
    assert found[0]["query_text"] == "what was asked"
    status, problem = await agent.call("GET", "/v1/routes/rag/pairs?minutes=61")
    assert (status, "1 to 60" in problem["error"]) == (400, True)


async def test_a_viewer_logs_out_for_good(start: Any, gateway: Any, log: Any) -> None:
    agent = await start()
    async with Browser(agent.url) as browser:
        assert await browser.login(READER) == 200
        kept = {one.key: one.value for one in browser._session.cookie_jar}
        status, _ = await browser.send("POST", "/console/logout", {}, origin="http://evil.example")
        assert status == 403
        assert (await browser.get("/v1/routes"))[0] == 200
        assert (await browser.send("POST", "/console/logout", {}))[0] == 200
    async with agent.session.get(f"{agent.url}/v1/routes", cookies=kept) as answer:
        assert answer.status == 401
