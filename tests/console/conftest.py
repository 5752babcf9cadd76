"""A real stack with traffic and a release, and Debian's Chromium. Run by `make test-console`."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from cli.demo.story import ROUTE
from cli.demo.traffic import SCORE_NAME, Traffic
from mlops.local.stack import ANY_PORTS, Stack
from mlops.service.tokens import TokenEntry, new_token
from mlops.serving.corpus import held_out_queries, load_corpus
from mlops.training.linear_adapter import prepare_demo_models

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

RATE_PER_S = 40.0
POLICY: dict[str, Any] = {
    "steps": [
        {"setMirror": 50},
        {"pause": {}},
        {"setWeight": 20},
        {"pause": {}},
        {"setWeight": 50},
        {"pause": {}},
    ],
    "bake": {"duration": "10m"},
    "lease": "30s",
    "grace": "5s",
    "dwell": "5s",
    "checks": {
        "errors": {"margin": 0.02},
        "latency": {"quantiles": [0.5, 0.95], "margin": "100%"},
        "score": {"field": SCORE_NAME, "margin": 0.5},
    },
}
"""Nothing advances by itself: each test acts. Margins so wide that two busy cores break none."""
PRIVATE = "rag-private"
"""A route that keeps no query; nobody asks it anything but its own test."""
PRIVATE_HOST = "private.example"
MODELS = Path("var/models")
"""Trained once; the demo takes the same."""
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
OUT = Path(os.environ.get("CONSOLE_OUT", "var/console"))


@dataclass(slots=True)
class Live:
    """The stack, and tokens of every kind."""

    stack: Stack
    token_file: Path
    entries: list[TokenEntry] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.stack.addresses["agent"]

    def add_token(self, name: str, role: Any, **more: Any) -> str:
        self.tokens[name], entry = new_token(name, role, **more)
        self.entries = [one for one in self.entries if one.name != name] + [entry]
        self._write()
        return self.tokens[name]

    def expire(self, name: str) -> None:
        """As the end of its last day does."""
        self.entries = [
            msgspec.structs.replace(one, last_day=date(2020, 1, 1)) if one.name == name else one
            for one in self.entries
        ]
        self._write()

    def _write(self) -> None:
        fresh = self.token_file.with_suffix(".new")
        fresh.write_bytes(msgspec.yaml.encode(self.entries))
        fresh.replace(self.token_file)

    def wait_for_token(self, token: str) -> None:
        """The agent looks at a changed file within a second."""
        body = json.dumps({"token": token}).encode()
        request = urllib.request.Request(
            f"{self.url}/console/login",
            data=body,
            headers={"Content-Type": "application/json", "Origin": self.url},
        )
        ended = threading.Event()
        for _ in range(20):  # fewer than what closes the door to an address
            try:
                with urllib.request.urlopen(request, timeout=20):
                    return
            except urllib.error.HTTPError:  # 401: not read yet
                ended.wait(0.3)
        raise AssertionError("the token was not taken within 6 s")

    def start_agent(self) -> None:
        stack = self.stack
        config = {
            "listen": f"127.0.0.1:{stack._port('agent', 0)}",
            "memory": f"sqlite:///{stack.directory / 'agent.sqlite'}",
            "gateways": [
                {"url": stack.addresses["admin"], "token": {"env": "GATEWAY_OPERATOR_TOKEN"}}
            ],
            "tokens": {
                "operator": {"env": "AGENT_OPERATOR_TOKEN"},
                "viewer": {"env": "AGENT_VIEWER_TOKEN"},
                "file": str(self.token_file),
            },
        }
        path = stack.directory / "agent.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        stack._start("agent", "agent", ["--config", str(path)])

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {
            "Authorization": f"Bearer {self.stack.secrets['AGENT_OPERATOR_TOKEN']}",
            "Content-Type": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=data, headers=headers, method=method
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def ask(self, query: str, **headers: str) -> None:
        """One query through the gateway."""
        request = urllib.request.Request(
            f"{self.stack.addresses['gateway']}/query",
            data=json.dumps({"query_text": query, "top_k": 10}).encode(),
            headers={"Content-Type": "application/json"} | headers,
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def wait(self, path: str, holds: Callable[[Any], bool], timeout_s: float = 60) -> Any:
        """Ask until it holds."""
        ended = threading.Event()
        timer = threading.Timer(timeout_s, ended.set)
        timer.start()
        try:
            while not holds(found := self.call("GET", path)):
                assert not ended.wait(0.2), f"{path}: still {found}"
            return found
        finally:
            timer.cancel()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory = tmp_path_factory.mktemp("stack")
    environ = dict(os.environ)
    stack = Stack(directory=directory, ports=ANY_PORTS, environ=environ)
    found = Live(stack, directory / "tokens.yaml")
    found.add_token("ann", "operator")
    found.add_token("eve", "viewer")
    try:
        models = prepare_demo_models(MODELS)
        stack.start_clickhouse()
        stable = stack.start_model("model-a", models["1.0.0"], 0)
        stack.start_model("model-b", models["1.1.0"], 0)
        stack.start_gateway(
            [
                {
                    "name": PRIVATE,
                    "match": {"host": PRIVATE_HOST},
                    "stable": {"version": "1.0.0", "endpoints": [stable]},
                    "record": {"redact": {"query_text": "drop", "retrieved_ids": "drop"}},
                },
                {
                    "name": ROUTE,
                    "model": "rag_embedding_model",
                    "match": {"prefix": "/"},
                    "stable": {"version": "1.0.0", "endpoints": [stable]},
                    "sticky": {"header": "x-user-id"},
                },
            ]
        )
        stack.start_recorder()
        found.start_agent()
        with sending(found, directory):
            yield found
    finally:
        stack.stop()


class sending:
    """Real queries in a thread of their own, until the block ends."""

    def __init__(self, live: Live, directory: Path) -> None:
        self._traffic = Traffic(
            gateway_url=live.stack.addresses["gateway"],
            agent_url=live.url,
            agent_token=live.stack.secrets["AGENT_OPERATOR_TOKEN"],
            queries=held_out_queries(load_corpus(MODELS)),
            rate_per_s=RATE_PER_S,
            seed=1,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._traffic.run())
        )

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._traffic.stop)
        self._thread.join(timeout=60)
        self._loop.close()


@pytest.fixture(scope="session")
def release(live: Live) -> Any:
    """Started once: the mirror step, until somebody promotes."""
    body = {
        "route": ROUTE,
        "version": "1.1.0",
        "endpoints": [live.stack.addresses["model-b"]],
        "reason": "finds the right document more often",
        "policy": POLICY,
    }
    found = live.call("POST", "/v1/releases", body)
    path = f"/v1/releases/{found['id']}"
    return live.wait(path, lambda one: one["pause"] and one["canary_requests"] > 20)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only this target has it

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield found
        found.close()


class Console:
    """One page of one person, with everything its browser complained about."""

    def __init__(self, live: Live, context: BrowserContext) -> None:
        self.live = live
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )

    def sign_in(self, token: str) -> None:
        self.page.goto(self.live.url)
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.get_by_role("heading", name="Routes", exact=True).wait_for()

    def open(self, path: str) -> None:
        """From nothing, so that no page before is taken for it."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.live.url}/#/{path}")
        self.page.get_by_role("heading", level=1).wait_for()

    def act(self, action: str, reason: str, **fields: str) -> None:
        """Press, give a reason, confirm; the dialog closes once the agent has taken it."""
        page = self.page
        page.get_by_role("button", name=action, exact=True).first.click()
        dialog = page.get_by_role("dialog")
        for label, value in fields.items():
            dialog.get_by_label(label.replace("_", " ")).fill(value)
        dialog.get_by_label("Reason").fill(reason)
        dialog.locator("button[type=submit]").click()
        said = dialog.locator(".bad")
        page.locator("dialog:not([open]), dialog[open] .bad").first.wait_for(state="attached")
        assert not said.count(), said.first.text_content()

    def picture(self, name: str) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=OUT / f"{name}.png", full_page=True)


@pytest.fixture
def console(live: Live, browser: Browser) -> Iterator[Callable[..., Console]]:
    """Make one; keyword arguments are those of a browser's context."""
    made: list[Console] = []

    def one(**more: Any) -> Console:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"} | more
        made.append(Console(live, browser.new_context(**options)))
        return made[-1]

    yield one
    for each in made:
        each.context.close()
