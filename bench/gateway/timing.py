"""Percentiles of durations, and calls of the client process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.gateway.processes import LOAD_CORE

CLIENT_S = 180
"""Longest run of one client."""


def summary(durations_ns: Sequence[int]) -> dict[str, float]:
    """Count, median, 99th and 99.9th percentile and worst, in microseconds."""
    ordered = sorted(durations_ns)
    if not ordered:
        return {"count": 0, "p50_us": 0.0, "p99_us": 0.0, "p999_us": 0.0, "worst_us": 0.0}
    last = len(ordered) - 1

    def at(share: float) -> float:
        return ordered[min(last, int(share * len(ordered)))] / 1e3

    return {
        "count": len(ordered),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "p999_us": at(0.999),
        "worst_us": ordered[-1] / 1e3,
    }


def client_command(verb: str, port: int, *arguments: object) -> list[str]:
    command = ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.gateway.client"]
    return [*command, verb, str(port), *map(str, arguments)]


def client(verb: str, port: int, *arguments: object) -> dict[str, Any]:
    """Run one client to its end; what it found.

    Raises:
        RuntimeError: it failed; says why.
    """
    command = client_command(verb, port, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{verb} on port {port}: {(done.stderr.strip() or 'failed')[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def held_open(port: int, connections: int, path: str) -> Iterator[None]:
    """Keep connections open during the block; a request was answered on each if there is a path."""
    command = client_command("idle", port, connections, path)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "open":
            _, said = process.communicate(timeout=CLIENT_S)
            raise RuntimeError(f"{connections} connections to port {port}: {said.strip()[-300:]}")
        yield
    finally:
        out, _ = process.communicate(timeout=CLIENT_S)
    still_open = json.loads(out.splitlines()[-1])["open"]
    if still_open != connections:
        raise RuntimeError(f"{connections - still_open} of {connections} connections were closed")
