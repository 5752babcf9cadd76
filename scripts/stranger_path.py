"""From a clone to the first users on a canary, with what docs/quickstart.md says and nothing else.

`make stranger-path` prints what each command took. Two small servers stand for those that a
stranger has already; ports 8000 to 8002, 8011, 8012 and 8123 must be free. Nothing is taken from
pip's cache.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scripts.documents import Ended, Terminals, blocks

ROOT = Path(__file__).resolve().parents[1]

GOAL_S = 600.0
USERS = 200
"""Each asks once a round; a twentieth of them is on the canary."""
ROUNDS = 100
GATEWAY = "http://127.0.0.1:8000"


def existing_server(port: int, version: str) -> ThreadingHTTPServer:
    """What a stranger has: a server of its own making, which knows nothing of us."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"version": version}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """In a thread, until the block ends."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> int:
    work = Path(tempfile.mkdtemp(prefix="stranger-"))
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    environment["PIP_NO_CACHE_DIR"] = "1"
    times: list[tuple[str, float]] = []
    started_s = time.monotonic()
    try:
        with ExitStack() as stack:
            for port, version in ((8011, "1.0.0"), (8012, "1.1.0")):
                stack.enter_context(serving(existing_server(port, version)))
            terminals = stack.enter_context(Terminals(work, environment))
            first_canary(terminals, times, started_s)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report(times)


def first_canary(terminals: Terminals, times: list[tuple[str, float]], started_s: float) -> None:
    """Every block of the page in order; the users come once the release has been started."""
    for block in blocks(ROOT / "docs/quickstart.md", "docs/quickstart.md"):
        for command in block.commands:
            if "--canary" in command:
                return  # the same without files
            typed = command.replace("REPOSITORY", f"file://{ROOT}")
            if "release status" in command:
                typed += " --no-watch"  # it would wait for the end
            ended = done(terminals, typed)
            times.append((command, ended.took_s))
            if command.startswith("release start", len("rag-mlops ")):
                until_served(started_s, times)


def done(terminals: Terminals, command: str) -> Ended:
    """Typed; `cd` and `export` change the terminal itself."""
    word, _, rest = command.partition(" ")
    if word == "cd":
        terminals.directory /= rest
        return Ended(0, "", 0.0)
    if word == "export":
        name, _, value = rest.partition("=")
        known = terminals.environment | {"PWD": str(terminals.directory)}
        for each, text in known.items():
            value = value.replace(f"${each}", text)
        terminals.environment[name] = value.strip('"')
        return Ended(0, "", 0.0)
    ended = terminals.type(command, timeout_s=GOAL_S)
    if ended.code:
        raise SystemExit(f"{command}: exit code {ended.code}\n{ended.said}")
    return ended


def until_served(started_s: float, times: list[tuple[str, float]]) -> None:
    """Users ask until the new version has answered one."""
    asked_s = time.monotonic()
    for number in range(USERS * ROUNDS):
        request = urllib.request.Request(GATEWAY, headers={"x-user-id": f"user-{number % USERS}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            if json.load(answer)["version"] == "1.1.0":
                times.append(
                    ("(users ask, until the canary answers one)", time.monotonic() - asked_s)
                )
                times.append(
                    ("FROM THE CLONE TO THE CANARY'S FIRST ANSWER", time.monotonic() - started_s)
                )
                return
    raise SystemExit(f"{USERS * ROUNDS} requests, and none came to the canary")


def report(times: list[tuple[str, float]]) -> int:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for what, took_s in times:
        print(f"{took_s:7.1f} s  {what}")
    total_s = next(took_s for what, took_s in times if what.startswith("FROM THE CLONE"))
    print(f"goal {GOAL_S:.0f} s: {'holds' if total_s <= GOAL_S else 'missed'}")
    return 0 if total_s <= GOAL_S else 1


if __name__ == "__main__":
    sys.exit(main())
