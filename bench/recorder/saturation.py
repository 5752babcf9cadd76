"""The proxy at saturation, with recording and without: what its clients see of it."""

from __future__ import annotations

from pathlib import Path
from shutil import which

from bench.gateway.interpreter import choose
from bench.gateway.plan import Bench, Plan, medians, ratio
from bench.gateway.saturation import saturate
from bench.gateway.servers import Fleet, free_port
from bench.report import Measured

PLAN = Plan(rounds=5, seconds=2, few_rounds=1, requests=0, megabytes=0, idle=0)
MOST = 1.3


def saturation(directory: Path) -> list[Measured]:
    """Of the gateway alone, in front of nginx, driven by wrk; `make` installs both."""
    nginx = which("nginx") or which("nginx", path="/usr/sbin:/usr/local/sbin")
    goal = f"<= {MOST}"
    if nginx is None or which("wrk") is None:
        name = "p99 at saturation, recorded over not (nginx or wrk is missing)"
        return [Measured(name=name, value=0, unit="", goal=goal, holds=False)]
    fleet = Fleet(directory, {"nginx": Path(nginx)}, free_port(), choose())
    bench = Bench(fleet, PLAN, lambda _: None)
    servers = [fleet.gateway("recorded"), fleet.gateway("not recorded", records=False)]
    with bench.upstream(fleet.small_answers()), bench.proxies(servers) as proxies:
        found = saturate(bench, proxies, PLAN.rounds)
    p99 = medians(found, lambda each: each.p99_ms)
    over = ratio(found["recorded"], found["not recorded"], lambda each: each.p99_ms)
    cost = ratio(found["recorded"], found["not recorded"], lambda each: each.cpu_us)
    return [
        Measured(
            name="p99 at saturation, recorded over not", value=over, unit="", goal=goal,
            holds=over <= MOST, peers={f"{name}, ms": value for name, value in p99.items()},
        ),
        Measured(name="CPU per request, recorded over not", value=cost, unit=""),
    ]  # fmt: skip
