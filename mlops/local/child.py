"""Run somebody else's server as a part of the local stack: `ready` once it answers, a clean end.

The server gets a process group of its own, which is ended whole: what it forks (MLflow's workers)
would otherwise outlive it. If we are killed, the kernel ends the server for us (Linux), and
`processes.kill` what it has forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

from mlops.local.processes import members_of_group

READY_TIMEOUT_S: Final = 115.0
"""Longest start: a little less than whoever started us waits, so that the reason is told."""

STOP_TIMEOUT_S: Final = 5.0
"""What a server gets to finish after SIGTERM; then its group is killed."""

POLL_S: Final = 0.05
PROBE_TIMEOUT_S: Final = 2.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A server to run."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    url: str
    """Where it will listen; said on the `ready` line."""
    health_path: str
    """Answers 2xx once it serves."""
    is_complete: Callable[[], bool] = lambda: True
    """Asked after that: whether what it was to prepare is there."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment, on loopback."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of this machine."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def run(child: Child) -> int:
    """Serve until SIGTERM or SIGINT, or until the server ends; the exit code."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    process = subprocess.Popen(  # noqa: S603  the caller's own command
        child.arguments,
        env=dict(child.environment),
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  no threads here, and only a system call
    )
    try:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not stopping and process.poll() is None and not _answers(child):
            if time.monotonic() > deadline_s:
                sys.stderr.write(f"{child.url} did not answer within {READY_TIMEOUT_S:g} s\n")
                return 1
            time.sleep(POLL_S)
        if process.poll() is None and not stopping:
            sys.stdout.write(f"ready {child.url}\n")
            sys.stdout.flush()
        while not stopping and process.poll() is None:
            time.sleep(POLL_S)
        return 0 if stopping else process.returncode or 1
    finally:
        _end_group(process)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(child: Child) -> bool:
    try:
        with urllib.request.urlopen(  # noqa: S310  loopback, an address of our own making
            child.url + child.health_path, timeout=PROBE_TIMEOUT_S
        ):
            return child.is_complete()
    except (OSError, HTTPException):  # refused, reset, late, or the start of an answer
        return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to everybody in the server's group, and SIGKILL to who is left."""
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    number = signal.SIGTERM
    while members := members_of_group(process.pid):
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if time.monotonic() > deadline_s:
            number = signal.SIGKILL
        process.poll()  # collects it, once it has ended
        time.sleep(POLL_S)
