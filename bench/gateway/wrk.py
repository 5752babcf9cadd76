"""Closed-loop load: wrk, as many requests as the proxy takes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bench.gateway.processes import LOAD_CORE, Running

CONNECTIONS = 64
USERS = 10_000

SCRIPT = """
local sent = 0
request = function()
  sent = sent + 1
  return wrk.format("POST", "{path}",
    {{["content-type"] = "application/json", ["x-user-id"] = "user-" .. sent % {users}}}, '{body}')
end
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One proxy under load for some seconds."""

    requests: int
    errors: int
    seconds: float
    cpu_s: float
    kernel_s: float
    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU of the process tree per request, user and system."""
        return self.cpu_s * 1e6 / max(self.requests, 1)

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds

    @property
    def busy(self) -> float:
        """Share of its core that the proxy used; well below 1, the load was the limit."""
        return self.cpu_s / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.per_s:8,.0f}/s  {self.cpu_us:8.2f} us  busy {self.busy:4.0%}  "
            f"p50 {self.p50_ms:6.2f} ms  p99 {self.p99_ms:7.2f} ms  errors {self.errors}"
        )


def drive(proxy: Running, seconds: int, connections: int = CONNECTIONS) -> Round:
    """Load on one proxy, which is charged the CPU of its whole process tree."""
    server = proxy.server
    script = server.directory / "load.lua"
    script.write_text(
        SCRIPT.format(path=server.path, users=USERS, body=server.body.decode()), encoding="utf-8"
    )
    before_s, (_, kernel_before_s) = proxy.cpu_s(), proxy.user_and_system_s()
    began_s = monotonic()
    out = _run(script, proxy.port, seconds, connections)
    ended_s = monotonic()
    after_s, (_, kernel_after_s) = proxy.cpu_s(), proxy.user_and_system_s()
    return read_round(
        out,
        seconds=ended_s - began_s,
        cpu_s=after_s - before_s,
        kernel_s=kernel_after_s - kernel_before_s,
    )


def read_round(out: str, *, seconds: float, cpu_s: float, kernel_s: float) -> Round:
    """What wrk wrote, and what the proxy used meanwhile."""
    bad = re.findall(r"Socket errors: (.*)|Non-2xx or 3xx responses: (\d+)", out)
    latency = out.partition("Latency Distribution")[2]
    return Round(
        requests=int(re.findall(r"(\d+) requests in", out)[0]),
        errors=sum(int(number) for pair in bad for number in re.findall(r"\d+", " ".join(pair))),
        seconds=seconds,
        cpu_s=cpu_s,
        kernel_s=kernel_s,
        p50_ms=_milliseconds(latency, "50%"),
        p99_ms=_milliseconds(latency, "99%"),
    )


def _run(script: Path, port: int, seconds: int, connections: int) -> str:
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "--timeout", "20s", "-s", str(script), f"http://127.0.0.1:{port}/"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout


def _milliseconds(text: str, percentile: str) -> float:
    number, unit = re.findall(percentile + r"\s+([\d.]+)(us|ms|s|m)", text)[0]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]
