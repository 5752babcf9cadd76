"""Start, find and end the processes of a local stack.

A process is ready when its standard output holds a line `ready [URL ...]`. What was started is
written down with each process's start time, so that a later command ends those and nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

READY_TIMEOUT_S = 120.0
"""Longest start of one process. MLflow takes six seconds, at a load of 37 on two cores a minute."""

STOP_TIMEOUT_S = 15.0
"""Past that a process is killed: the gateway drains for at most ten."""

POLL_S = 0.02


class StartFailed(RuntimeError):
    """A process ended or stayed silent instead of saying `ready`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. `arguments` follow `python -m`."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A process that said it is ready."""

    name: str
    pid: int
    start_ticks: int
    """Of /proc/PID/stat: tells this process from a later one with the same id."""
    urls: tuple[str, ...]


def start(command: Command, directory: Path) -> Started:
    """Run `command` in the background and wait until it says it is ready.

    Its output goes to `directory/logs/NAME.log`, its standard output to `NAME.out`.

    Raises:
        StartFailed: it ended or did not answer in time; the message holds the end of its log.
    """
    return spawn(command, directory).ready()


@dataclass(frozen=True, slots=True)
class Spawned:
    """A process that is starting."""

    name: str
    pid: int
    out_path: Path
    log_path: Path

    def ready(self) -> Started:
        """Wait until it says it is ready. Raises StartFailed."""
        return self.started(_wait_ready(self.pid, self.name, self.out_path, self.log_path))

    def started(self, urls: tuple[str, ...] = ()) -> Started:
        """The process as it is found again."""
        ticks = start_ticks(self.pid) or 0
        return Started(name=self.name, pid=self.pid, start_ticks=ticks, urls=urls)


def spawn(command: Command, directory: Path) -> Spawned:
    """`start` without the wait, so that several can start at once."""
    logs = directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    out_path, log_path = logs / f"{command.name}.out", logs / f"{command.name}.log"
    out_path.write_bytes(b"")
    return Spawned(command.name, _spawn(command, out_path, log_path), out_path, log_path)


def _spawn(command: Command, out_path: Path, log_path: Path) -> int:
    """A session of its own, so that what we start outlives us and no terminal interrupts it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    arguments = [sys.executable, "-W", "ignore::SyntaxWarning", "-m", *command.arguments]
    return os.posix_spawn(
        sys.executable,
        arguments,
        command.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out_path), flags, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(log_path), flags, 0o600),
        ],
        setsid=True,
    )


def _wait_ready(pid: int, name: str, out_path: Path, log_path: Path) -> tuple[str, ...]:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if (urls := ready_urls(out_path.read_text(encoding="utf-8", errors="replace"))) is not None:
            return urls
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            raise StartFailed(
                f"{name} ended with code {os.waitstatus_to_exitcode(code)} before it was ready:\n"
                f"{tail(log_path)}"
            )
        time.sleep(POLL_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise StartFailed(f"{name} was not ready within {READY_TIMEOUT_S:.0f} s:\n{tail(log_path)}")


def ready_urls(said: str) -> tuple[str, ...] | None:
    """The addresses on the line `ready [URL ...]`; None while there is none, or half of it."""
    whole_lines = said[: said.rfind("\n") + 1].splitlines()
    for words in map(str.split, whole_lines):
        if words[:1] == ["ready"]:
            return tuple(word for word in words[1:] if "://" in word)
    return None


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message, and where the others are."""
    if not path.exists():
        return ""
    said = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([*said[-lines:], f"(all of it: {path})"])


def start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if it has ended (or is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def is_running(process: Started) -> bool:
    """Whether that very process runs still, and not another one with its number."""
    return start_ticks(process.pid) == process.start_ticks


def signal_to(process: Started, number: signal.Signals) -> None:
    """Send a signal to that process, unless it has ended."""
    if is_running(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def kill(process: Started) -> None:
    """End a process as a crash would, and wait until it is gone."""
    signal_to(process, signal.SIGKILL)
    _wait_ended(process, STOP_TIMEOUT_S)


def kill_with_children(process: Started) -> None:
    """The same, with the groups that its children lead: a server inside a process of ours."""
    groups = [pid for pid, parent, group in _processes() if parent == process.pid and group == pid]
    kill(process)
    for group in groups:
        for pid in members_of_group(group):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def members_of_group(group: int) -> list[int]:
    """Who is in a process group; an ended process that waits to be collected is not."""
    return [pid for pid, _, its_group in _processes() if its_group == group]


def _processes() -> Iterator[tuple[int, int, int]]:
    """Number, parent and group of every process that runs."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            yield int(path.parent.name), int(fields[1]), int(fields[2])


def stop(processes: Sequence[Started], reap: Callable[[], None] = lambda: None) -> list[str]:
    """End the processes one after another, last started first. Returns the names that were killed.

    Each gets SIGTERM and `STOP_TIMEOUT_S` to finish what it has in hand.
    """
    killed = []
    for process in reversed(processes):
        if not is_running(process):
            reap()
            continue  # its number may be somebody else's by now
        signal_to(process, signal.SIGTERM)
        if not _wait_ended(process, STOP_TIMEOUT_S):
            kill_with_children(process)
            killed.append(process.name)
        reap()
    return killed


def _wait_ended(process: Started, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not is_running(process):
            return True
        time.sleep(POLL_S)
    return False
