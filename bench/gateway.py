"""CPU time of one proxied request: our gateway beside nginx, in the same run.

Both split by a user header and log the body of every request. Load and upstream share one core,
the proxy has the other; rounds alternate, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench import load
from bench.report import Measured, write

ROUNDS = 9
SECONDS = 2

MUST_RATIO = 1.6
GOAL_CPU_US = 35.0
MUST_RSS_MIB = 60.0


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as name:
        directory = Path(name)
        upstream_port, nginx_port, gateway_port = (load.free_port() for _ in range(3))
        upstream = load.upstream(directory, upstream_port)
        nginx = load.nginx_split(directory, nginx_port, upstream_port)
        gateway = load.gateway(directory, gateway_port, upstream_port)
        with (
            load.running(upstream, load.LOAD_CORE, upstream_port),
            load.running(nginx, load.PROXY_CORE, nginx_port) as nginx_pid,
            load.running(gateway, load.PROXY_CORE, gateway_port) as gateway_pid,
        ):
            rounds = measure(directory, (nginx_port, nginx_pid), (gateway_port, gateway_pid))
            rss = load.rss_mib(gateway_pid), load.rss_mib(nginx_pid)
    write("gateway", figures(*rounds, *rss), versions())
    return 0


def measure(
    directory: Path, nginx: tuple[int, int], gateway: tuple[int, int]
) -> tuple[list[load.Round], list[load.Round]]:
    """Alternate; the first second of each warms up and is not counted."""
    of_nginx, of_gateway = [], []
    for port, pid in (nginx, gateway):
        load.load(directory, port, pid, 1)
    for _ in range(ROUNDS):
        of_nginx.append(load.load(directory, *nginx, SECONDS))
        of_gateway.append(load.load(directory, *gateway, SECONDS))
        print(f"nginx   {of_nginx[-1]}\ngateway {of_gateway[-1]}", flush=True)
    return of_nginx, of_gateway


def figures(
    nginx: list[load.Round], gateway: list[load.Round], gateway_mib: float, nginx_mib: float
) -> list[Measured]:
    theirs = median(each.cpu_us for each in nginx)
    ours = median(each.cpu_us for each in gateway)
    ratio = median(b.cpu_us / a.cpu_us for a, b in zip(nginx, gateway, strict=True))
    errors = sum(each.errors for each in gateway)
    p50, p99 = (median(getattr(e, key) for e in gateway) for key in ("p50_ms", "p99_ms"))
    their_p50, their_p99 = (median(getattr(e, key) for e in nginx) for key in ("p50_ms", "p99_ms"))
    return [
        Measured(
            name="CPU per proxied request, split and spool on",
            value=ours,
            unit="us",
            goal=f"<= {GOAL_CPU_US:g}",
            holds=ours <= GOAL_CPU_US,
            peers={"nginx split_clients + JSON log": theirs},
        ),
        Measured(
            name="ratio to nginx",
            value=ratio,
            unit="",
            goal=f"must <= {MUST_RATIO}",
            holds=ratio <= MUST_RATIO,
        ),
        Measured(
            name="resident memory of a worker",
            value=gateway_mib,
            unit="MiB",
            goal=f"must <= {MUST_RSS_MIB:g}",
            holds=gateway_mib <= MUST_RSS_MIB,
            peers={"nginx": nginx_mib},
        ),
        Measured(name="p50 at saturation", value=p50, unit="ms", peers={"nginx": their_p50}),
        Measured(name="p99 at saturation", value=p99, unit="ms", peers={"nginx": their_p99}),
        Measured(
            name="requests answered with an error",
            value=errors,
            unit="",
            goal="must be 0",
            holds=errors == 0,
        ),
    ]


def versions() -> dict[str, str]:
    nginx = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    names = ("uvloop", "httptools", "msgspec")
    return {"nginx": nginx.rpartition("/")[2].strip()} | {name: version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
