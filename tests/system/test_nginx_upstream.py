"""Against a real nginx: the same bytes with the gateway as without it, no error under load."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from mlops.local.stack import ANY_PORTS, Stack

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

NGINX = """
{user}daemon off;
pid {root}/nginx.pid;
error_log {root}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  gzip on; gzip_types application/json; gzip_min_length 1;
  server {{
    listen unix:{root}/nginx.sock;
    listen 127.0.0.1:{port};
    root {root}/www;
    location /moved {{ return 302 /file.json; }}
    location /empty {{ return 204; }}
    location /gone {{ return 410 "gone\\n"; }}
  }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """A server of static files on a free port."""
    root = tmp_path / "nginx"
    (root / "www").mkdir(parents=True)
    (root / "www" / "file.json").write_text('{"answer": "' + "forty-two " * 500 + '"}')
    (root / "www" / "large.bin").write_bytes(os.urandom(3_000_000))
    port = _free_port()
    config = root / "nginx.conf"
    # Started by root, its workers would give up the right to read a test's own folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(root=root, port=port, user=user))
    process = subprocess.Popen([_path_of("nginx"), "-p", str(root), "-c", str(config)])
    try:
        _wait_listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _path_of(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed; `make test-system` installs it")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_listening(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("nginx does not listen")


@pytest.fixture
def gateway(tmp_path: Path, nginx: str) -> Iterator[str]:
    """The gateway in front of that nginx, recording to its spool."""
    stack = Stack(directory=tmp_path / "stack", ports=ANY_PORTS, environ=os.environ)
    stack.directory.mkdir()
    try:
        yield stack.start_gateway(
            [
                {
                    "name": "files",
                    "match": {"prefix": "/"},
                    "stable": {"version": "1", "endpoints": [nginx]},
                }
            ]
        )
    finally:
        assert stack.stop() == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/file.json", {}, 200),
        ("GET", "/file.json", {"accept-encoding": "gzip"}, 200),
        ("HEAD", "/file.json", {}, 200),
        ("GET", "/large.bin", {}, 200),
        ("GET", "/large.bin", {"range": "bytes=100-199"}, 206),
        ("GET", "/moved", {}, 302),
        ("GET", "/empty", {}, 204),
        ("GET", "/gone", {}, 410),
        ("GET", "/not-there", {}, 404),
        ("POST", "/file.json", {}, 405),
        ("OPTIONS", "/file.json", {}, 405),
    ],
)
async def test_the_same_answer_with_and_without_the_gateway(
    nginx: str, gateway: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Status, body and the headers that describe it; twice, so that a kept connection is used."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for _ in range(2):
            direct, through = [
                await _ask(session, method, f"{base}{path}", headers) for base in (nginx, gateway)
            ]
            assert direct[0] == status
            assert through == direct


async def _ask(
    session: aiohttp.ClientSession, method: str, url: str, headers: dict[str, str]
) -> tuple[int, bytes, dict[str, str]]:
    described_by = ("content-type", "content-encoding", "content-range", "etag", "location")
    async with session.request(method, url, headers=headers, allow_redirects=False) as answer:
        described = {name: answer.headers[name] for name in described_by if name in answer.headers}
        described = {
            name: re.sub(r"http://127\.0\.0\.1:\d+", "", value) for name, value in described.items()
        }
        return answer.status, await answer.read(), described


async def test_two_seconds_of_load_bring_no_error(gateway: str) -> None:
    """wrk over 32 connections: no socket error, no status but 2xx."""
    process = await asyncio.create_subprocess_exec(
        _path_of("wrk"), "-t1", "-c32", "-d2s", f"{gateway}/file.json", stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0
    assert "Socket errors" not in text
    assert "Non-2xx" not in text
    requests = re.search(r"(\d+) requests in", text)
    assert requests is not None
    assert int(requests[1]) > 100
