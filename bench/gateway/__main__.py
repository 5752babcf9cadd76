"""One command: installs the peers, measures, prints a table and writes `bench/out/gateway.json`.

Load and upstream share one core, the proxy that is measured has the other. Rounds alternate, so
that a change of the machine's speed meets all; ratios are the medians of those within each round.
`QUICK=1` measures for two minutes in place of twelve; `ONLY=events,idle` some of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic

from bench.gateway import connections, interpreter, latency, peers, saturation, streaming
from bench.gateway.interpreter import Interpreter
from bench.gateway.plan import FULL, QUICK, Bench
from bench.gateway.servers import Fleet, free_port
from bench.report import Measured, write
from gateway import compiled

Measure = Callable[[Bench], list[Measured]]

MEASURES: Mapping[str, Measure] = {
    "same_work": saturation.same_work,
    "split_only": saturation.split_only,
    "others": saturation.others,
    "events": streaming.events,
    "bodies": streaming.bodies,
    "idle": connections.idle,
    "busy": connections.busy,
    "endurance": connections.endurance,
    "workers": latency.workers,
}
LATENCY = "latency"
"""Measured after `same_work`, which says what half load is."""

USUAL_PER_S = 20_000
"""Taken for our saturation where `same_work` was not measured."""


def main() -> int:
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    unknown = [name for name in only if name not in (*MEASURES, LATENCY)]
    if unknown:
        print(f"ONLY: expected some of {', '.join((*MEASURES, LATENCY))}; got {unknown}")
        return 2
    programs = peers.install(say)
    python = interpreter.choose()
    path = "compiled" if compiled.active() else "plain Python"
    say(f"the request path is {path}, run by {python.program} {python.version}")
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as name:
        fleet = Fleet(Path(name), programs, free_port(), python)
        bench = Bench(fleet, QUICK if os.environ.get("QUICK") else FULL, say)
        rows = measure(bench, only or [*MEASURES, LATENCY])
    write("gateway", rows, versions(programs, python))
    return 0


def measure(bench: Bench, names: list[str]) -> list[Measured]:
    rows: list[Measured] = []
    per_s = float(USUAL_PER_S)
    for name, one in MEASURES.items():
        if name in names:
            rows += _timed(bench, name, one)
        if name == "same_work":
            per_s = next((row.value for row in rows if row.unit == "1/s"), per_s)
            if LATENCY in names:
                rows += _timed(bench, LATENCY, partial(latency.latency, saturation_per_s=per_s))
    return rows


def _timed(bench: Bench, name: str, one: Measure) -> list[Measured]:
    began_s = monotonic()
    bench.say(f"{name} ...")
    try:
        return one(bench)
    except Exception as exc:
        # The other measures are still of use; this one is told as not holding.
        bench.say(f"{name} could not be measured: {exc}")
        goal = "to be measured"
        return [Measured(name=f"{name} (failed)", value=0, unit="", goal=goal, holds=False)]
    finally:
        bench.fleet.clean()
        bench.say(f"{name} took {monotonic() - began_s:.0f} s")


def say(text: str) -> None:
    print(text, flush=True)


def versions(programs: Mapping[str, Path], python: Interpreter) -> dict[str, str]:
    libraries = {name: version(name) for name in ("uvloop", "httptools", "msgspec", "aiohttp")}
    path = "compiled" if compiled.active() else "plain Python"
    ran = {"request path": path, "python of the gateway": f"{python.program} {python.version}"}
    return {**peers.versions(programs), **libraries, **ran}


if __name__ == "__main__":
    sys.exit(main())
