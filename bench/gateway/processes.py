"""Processes pinned to one core each, and what the kernel says they cost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bench.gateway.servers import Server

LOAD_CORE = 0
PROXY_CORE = 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

END_S = 10
"""Until a server that does not end on SIGTERM is killed."""


class DidNotStart(Exception):
    """A server ended at once or never answered."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    server: Server
    pid: int

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def name(self) -> str:
        return self.server.name

    def cpu_s(self) -> float:
        """CPU time of the whole process tree so far, as the scheduler counts it: to the ns."""
        on_cpu_ns = sum(
            int(_read(statistics).split()[0])
            for pid in tree(self.pid)
            for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        return on_cpu_ns / 1e9

    def user_and_system_s(self) -> tuple[float, float]:
        """The same, apart; in ticks of 10 ms."""
        user = system = 0
        for pid in tree(self.pid):
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if len(fields) > 12:
                user, system = user + int(fields[11]), system + int(fields[12])
        return user / TICKS_PER_S, system / TICKS_PER_S

    def rss_kib(self) -> int:
        """Resident memory of the whole tree; pages that processes share are counted once each."""
        return sum(_status_kib(pid, "VmRSS") for pid in tree(self.pid))

    def largest_rss_kib(self) -> int:
        """Resident memory of the largest worker: of the children, where there are any."""
        return max(_status_kib(pid, "VmRSS") for pid in tree(self.pid)[1:] or [self.pid])

    def peak_kib(self, *, begin: bool = False) -> int:
        """The most memory resident at once in the tree since the last `begin`."""
        if begin:
            for pid in tree(self.pid):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
        return sum(_status_kib(pid, "VmHWM") for pid in tree(self.pid))


@contextmanager
def running(server: Server, core: int) -> Iterator[Running]:
    """`server` pinned to `core` until the block ends.

    Raises:
        DidNotStart: it ended, or did not answer in time; says what it wrote last.
    """
    log = server.directory / f"{server.name.replace(' ', '_').replace('/', '_')}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *server.command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **server.environ},
            start_new_session=True,
        )
    try:
        _wait_for(server, process, log)
        yield Running(server, process.pid)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and whatever it left behind in its group."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_s = monotonic() + server.ready_s
    while monotonic() < ends_s:
        if process.poll() is not None:
            raise DidNotStart(f"{server.name} ended with {process.returncode}: {_tail(log)}")
        if answers(server):
            return
        sleep(0.1)
    raise DidNotStart(f"{server.name} gave no answer within {server.ready_s:g} s: {_tail(log)}")


def answers(server: Server) -> bool:
    """Whether the request of the benchmark is answered with 200."""
    headers = {"content-type": "application/json", "x-user-id": "user-1"}
    url = f"http://127.0.0.1:{server.port}{server.path}"
    try:
        with urlopen(Request(url, server.body or None, headers), timeout=10) as answer:
            return bool(answer.status == 200)
    except HTTPError as exc:
        exc.close()
        return False
    except OSError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it wrote nothing"


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [
            each for child in _read(children).split() if child != "0" for each in tree(int(child))
        ]
    return found


def _read(path: str | Path) -> str:
    """What the kernel says; of a process or thread that has just ended, nothing."""
    try:
        return Path(path).read_text(encoding="ascii") or "0"
    except (FileNotFoundError, ProcessLookupError):
        return "0"


def _status_kib(pid: int, field: str) -> int:
    found = re.findall(field + r":\s+(\d+)", _read(f"/proc/{pid}/status"))
    return int(found[0]) if found else 0
