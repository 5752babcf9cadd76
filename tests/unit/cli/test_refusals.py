"""A service that is away is told in a sentence, with what to do next; never as a traceback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module

import click
import pytest
from click.testing import CliRunner, Result

from cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_ANSWER
from cli.main import main
from cli.refusals import AWAY, REFUSED, PlainErrors, problem_of


class Answers(BaseHTTPRequestHandler):
    """Knows no token, and one release for every other question."""

    def do_GET(self) -> None:
        refused = "Authorization" not in self.headers
        body = (
            b'{"error": "expected a known token", "code": "unauthorized"}'
            if refused
            else b'[{"id": "rel-2", "route": "rag"}, {"id": "rel-1", "route": "rag"},'
            b' {"id": "rel-3", "route": "rel-chat"}]'
        )
        self.send_response(401 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def agent_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else gets it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def run(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(main, list(words), env=environ)


@pytest.mark.parametrize("name", sorted(AWAY | REFUSED))
def test_every_exception_that_is_named_exists(name: str) -> None:
    module, _, kind = name.partition(":")
    error = getattr(import_module(module), kind)
    made = Exception.__new__(error)
    found = problem_of(made)
    assert found is not None
    assert found.exit_code == (EXIT_NO_ANSWER if name in AWAY else EXIT_FAILED)


def test_our_own_bugs_keep_their_traceback() -> None:
    assert problem_of(KeyError("ours")) is None


@pytest.mark.parametrize("words", [("migrate",), ("migrate", "--check")])
def test_clickhouse_away(words: tuple[str, ...], closed_port: int) -> None:
    environ = {"MLOPS_CLICKHOUSE_HOST": "127.0.0.1", "MLOPS_CLICKHOUSE_PORT": str(closed_port)}
    said = run(*words, **environ)
    assert said.exit_code == EXIT_NO_ANSWER
    assert f"ClickHouse at 127.0.0.1:{closed_port}" in said.stderr
    assert "rag-mlops doctor" in said.stderr


def test_an_agent_that_is_away_says_how_to_go_back_without_it(closed_port: int) -> None:
    said = run("release", "list", MLOPS_AGENT_URL=f"http://127.0.0.1:{closed_port}")
    assert said.exit_code == EXIT_NO_ANSWER
    assert f"connection refused by 127.0.0.1:{closed_port}" in said.stderr
    assert "rag-mlops rollback" in said.stderr


def test_an_address_that_is_none_says_what_one_is() -> None:
    said = run("release", "list", MLOPS_AGENT_URL="127.0.0.1:8002")
    assert said.exit_code == EXIT_NO_ANSWER
    assert "expected http://HOST:PORT" in said.stderr


def test_without_a_token_its_variable_is_named(agent_url: str) -> None:
    said = run("release", "list", MLOPS_AGENT_URL=agent_url, AGENT_OPERATOR_TOKEN="")
    assert said.exit_code == EXIT_FAILED
    assert "AGENT_OPERATOR_TOKEN" in said.stderr


def test_a_route_stands_for_its_newest_release(agent_url: str) -> None:
    environ = {"MLOPS_AGENT_URL": agent_url, "AGENT_OPERATOR_TOKEN": "one"}
    assert (
        "/v1/releases/rel-2/pause" in run("release", "pause", "rag", "--dry-run", **environ).output
    )
    assert (
        "/v1/releases/rel-1/pause"
        in run("release", "pause", "rel-1", "--dry-run", **environ).output
    )
    assert "rel-3/pause" in run("release", "pause", "rel-chat", "--dry-run", **environ).output
    said = run("release", "pause", "nope", "--dry-run", **environ)
    assert (said.exit_code, "routes that had a release: rag" in said.stderr) == (1, True)


def test_ctrl_c_is_not_taken_for_a_rollback() -> None:
    @click.group(cls=PlainErrors)
    def group() -> None:
        """As ours."""

    @group.command()
    def waiting() -> None:
        raise KeyboardInterrupt

    assert CliRunner().invoke(group, ["waiting"]).exit_code == EXIT_INTERRUPTED
