"""The commands that documents show, and terminals that run them; standard library only."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

READY_TIMEOUT_S = 120.0
"""The engine loads 600 MB from a cold disk; everything else is ready within seconds."""
END_TIMEOUT_S = 60.0

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SERVES = re.compile(
    r"(\w+=\S+ )*(\S*bin/)?rag-mlops (?P<part>gateway|recorder|agent|clickhouse|model-server)\b"
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """One each, continued lines joined, comments and what was answered left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def answer(self) -> str:
        """What the page says is printed, where it shows that too."""
        lines = self.text.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("$ "))


def blocks(path: Path, name: str) -> Iterator[Block]:
    """Every fenced block of the page."""
    text = path.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command went."""

    code: int
    said: str
    took_s: float


@dataclass(slots=True)
class _Server:
    command: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    is_ready: threading.Event = field(default_factory=threading.Event)
    listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self.listen, daemon=True)

    def listen(self) -> None:
        """Read what it prints, to the end."""
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(line)
                if line.startswith("ready"):
                    self.is_ready.set()
        self.is_ready.set()  # or it has ended


class Terminals:
    """One for commands that end, and one for each that serves. All are closed with the block."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = dict(environment)
        self._servers: list[_Server] = []

    def __enter__(self) -> Terminals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def type(self, command: str, *, answers: str = "", timeout_s: float = 300.0) -> Ended:
        """Run it; one that serves is left running once it is ready. `answers` go to its questions.

        Raises:
            TimeoutError: it has not ended, or is not ready.
        """
        if _SERVES.match(command):
            return self._serve(command)
        started_s = time.monotonic()
        process = self._start(command, subprocess.PIPE)
        try:
            said, _ = process.communicate(answers, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.communicate()
            raise TimeoutError(f"{command}: has not ended within {timeout_s:g} s") from None
        return Ended(process.returncode, said, time.monotonic() - started_s)

    def _serve(self, command: str) -> Ended:
        started_s = time.monotonic()
        server = _Server(command, self._start(command, subprocess.DEVNULL))
        self._servers.append(server)
        server.listener.start()
        if not server.is_ready.wait(READY_TIMEOUT_S):
            raise TimeoutError(f"{command}: not ready within {READY_TIMEOUT_S:g} s")
        code = server.process.poll() or 0
        return Ended(code, "".join(server.said), time.monotonic() - started_s)

    def _start(self, command: str, stdin: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/bash", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end_such_as(self, command: str) -> None:
        """End what serves the same part, so that this one may."""
        part = _SERVES.match(command)
        for server in list(self._servers):
            found = _SERVES.match(server.command)
            if part and found and part["part"] == found["part"]:
                self._end(server)

    def close(self) -> None:
        """End what serves, last started first."""
        for server in reversed(self._servers):
            self._end(server)

    def _end(self, server: _Server) -> None:
        _signal(server.process, signal.SIGTERM)
        try:
            server.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _signal(server.process, signal.SIGKILL)
            server.process.wait()
        server.listener.join(END_TIMEOUT_S)
        self._servers = [each for each in self._servers if each is not server]


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
