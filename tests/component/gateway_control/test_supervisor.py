"""The supervisor's own order of things; no worker is started."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import handover, supervisor
from gateway.config import parse
from gateway.settings import GatewaySettings
from gateway.supervisor import Supervisor


def settings(state: Path, prefix: str = "/", *, managed: bool = False) -> GatewaySettings:
    return parse(
        f"""
state: {state}
listen: 127.0.0.1:0
routes:
  - name: rag
    match: {{prefix: {prefix}}}
    stable: {{version: A, endpoints: ["http://127.0.0.1:1"]}}
    managed: {str(managed).lower()}
""",
        {},
    )


class Files:
    """The gateway's file as it is at each time it is read."""

    def __init__(self, *contents: GatewaySettings) -> None:
        self._contents = iter(contents)
        self.is_applied = threading.Event()
        """A later content is in force; the first read takes until then, if it comes."""
        self._is_first = True

    def read(self) -> GatewaySettings:
        content, is_first = next(self._contents), self._is_first
        self._is_first = False
        if is_first:
            self.is_applied.wait(0.3)
        return content


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(settings(tmp_path, "/older"), settings(tmp_path, "/newer"))


@pytest.fixture
def made(tmp_path: Path, files: Files) -> Iterator[Supervisor]:
    supervised = Supervisor(settings(tmp_path), files.read, {}, asyncio.Event())
    yield supervised
    supervised._lock.close()


async def test_of_two_reloads_at_once_the_file_read_last_stays(
    made: Supervisor, files: Files
) -> None:
    made._take_up(made._book, made._settings.routes[0])
    made._build()
    first = asyncio.ensure_future(made.reload())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(made.reload())
    second.add_done_callback(lambda _: files.is_applied.set())
    await asyncio.gather(first, second)
    assert made._settings.routes[0].match.prefix == "/newer"


async def test_an_upgrade_that_fails_unforeseen_does_not_end_upgrades(
    made: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "UPGRADE_AGAIN_S", 0.0)
    asked = 0

    async def fail(connection: socket.socket) -> None:
        nonlocal asked
        asked += 1
        connection.close()
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(made, "_hand_over", fail)
    waiting = asyncio.ensure_future(made._await_successor())
    await asyncio.sleep(0)
    for _ in range(2):
        connection = await asyncio.to_thread(handover._connect, tmp_path)
        connection.settimeout(5)
        assert await asyncio.to_thread(connection.recv, 1) == b""
        connection.close()
    assert asked == 2
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_alarms_that_have_ended_are_forgotten_at_the_next_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "MANAGED_WAIT_S", 0.0)
    managed = settings(tmp_path, managed=True)
    made = Supervisor(managed, lambda: managed, {}, asyncio.Event())
    made._take_up(made._book, managed.routes[0])
    made._build()
    for _ in range(3):
        await made.reload()
        assert len(made._tasks) == 1
        await asyncio.gather(*made._tasks)
    assert sum("no plan came" in message for message in caplog.messages) == 3
    made._lock.close()
