"""`make soak MINUTES=60`: steady load; do memory, descriptors, threads, tasks or latency grow?

The load is half of what generator, stack and servers together were found to be capable of in the
first `CAPACITY_S` seconds, unless `RATE=` says how many requests a second. Before the steady load
and after it, the stack rests: descriptors and tasks that no request holds must be as many as then.

A figure grows if the slope of a line through it, over the last four fifths of the run, comes to
more than `GROWTH` of its median; the line's standard error beside it says whether that
may be chance. What was not seen flat is not called flat.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from time import monotonic

import numpy as np
import uvloop
from scipy.stats import linregress

from bench.endurance.traffic import Traffic
from bench.endurance.world import JUDGED, PARTS, TASKS, Use, World, world
from bench.report import Measured, none_of, write

CAPACITY_S = 20.0
SAMPLE_S = 5.0
REST_S = 20.0
"""After which nobody keeps an idle connection any more, neither the generator nor the gateway."""
REST_RATE = 1.0
"""Requests a second at rest."""
REST_MORE = 4.0
"""Descriptors or tasks that the request of that moment may hold: a connection at either side."""
GROWTH = 0.05
WARM_UP = 0.2
"""Share of the run before which nothing is judged: caches fill."""
LATENCY_WINDOWS = 60


def main() -> int:
    minutes = float(os.environ.get("MINUTES", "60"))
    rate = float(os.environ.get("RATE", "0"))
    rows = uvloop.run(_soak(60 * minutes, rate))
    write("soak", rows, {})
    return 0


async def _soak(seconds: float, rate: float) -> list[Measured]:
    samples: list[tuple[float, dict[str, Use]]] = []
    tasks: list[tuple[float, dict[str, float]]] = []
    async with world(rate or inf, seed=1) as under:
        capacity = 0.0 if rate else await _capacity(under.traffic)
        rate = rate or capacity / 2
        rested = await _at_rest(under)
        under.traffic.set_rate(rate)
        began_s = monotonic()
        while (now_s := monotonic() - began_s) < seconds:
            samples.append((now_s, under.use()))
            tasks.append((now_s, await under.tasks()))
            print(f"{now_s:6.0f} s  {under.traffic.asked} asked", file=sys.stderr)
            await asyncio.sleep(SAMPLE_S)
        rests = await _at_rest(under)
        traffic = under.traffic
        await traffic.finish()
        lacking, doubles, dropped = await under.stored()
    beside = {"all that the machine can do": capacity} if capacity else {}
    rows = [
        Measured(name="requests", value=traffic.asked, unit=""),
        Measured(name="requests a second", value=rate, unit="1/s", peers=beside),
        _failed(traffic),
        none_of("answered without a row", len(lacking)),
        none_of("rows twice", doubles),
        none_of("dropped", dropped),
        Measured(name="rate fell behind by at most", value=traffic.late_s, unit="s"),
    ]
    for part in PARTS:
        for name, unit, pick in (
            ("resident memory", "MiB", lambda use: use.rss_mib),
            ("descriptors", "", lambda use: use.descriptors),
            ("threads", "", lambda use: use.threads),
        ):
            series = [(at_s, float(pick(used[part]))) for at_s, used in samples]
            rows.append(growth(f"{part}: {name}", unit, series, is_judged=part in JUDGED))
    rows += [
        growth(f"{part}: tasks", "", [(at_s, found[part]) for at_s, found in tasks])
        for part in TASKS
    ]
    rows += [as_many(name, rested[name], rests[name]) for name in rested]
    rows.append(growth("latency of short requests, p99", "ms", _p99(traffic.latencies_s, began_s)))
    return rows


async def _at_rest(under: World) -> dict[str, float]:
    """Descriptors and tasks of our parts, when next to nothing has been asked for a while."""
    under.traffic.set_rate(REST_RATE)
    await asyncio.sleep(REST_S)
    used, tasks = under.use(), await under.tasks()
    found = {f"{part}: descriptors at rest": float(used[part].descriptors) for part in JUDGED}
    return found | {f"{part}: tasks at rest": count for part, count in tasks.items()}


def as_many(name: str, before: float, after: float) -> Measured:
    goal = f"<= {1 + GROWTH:g} times those before, and {REST_MORE:g}"
    holds = after <= (1 + GROWTH) * before + REST_MORE
    return Measured(
        name=name, value=after, unit="", goal=goal, holds=holds, peers={"before": before}
    )


def _failed(traffic: Traffic) -> Measured:
    causes = Counter(failure.cause for failure in traffic.failures)
    return none_of("failed", causes.total() + traffic.errors.total(), {**causes, **traffic.errors})


async def _capacity(traffic: Traffic) -> float:
    """Requests a second with as many at a time as there may be; the first of them are not timed."""
    await asyncio.sleep(CAPACITY_S / 4)
    before, began_s = traffic.asked, monotonic()
    await asyncio.sleep(CAPACITY_S)
    return (traffic.asked - before) / (monotonic() - began_s)


def growth(
    name: str, unit: str, series: list[tuple[float, float]], *, is_judged: bool = True
) -> Measured:
    """The figure's median, with how much it grew over the run; see above when that is too much."""
    ends_s = max(at_s for at_s, _ in series)
    late = np.array([each for each in series if each[0] >= WARM_UP * ends_s])
    median = float(np.median(late[:, 1]))
    if len(late) < 3 or np.ptp(late[:, 1]) == 0:
        grew, error = 0.0, 0.0
    else:
        line = linregress(late[:, 0], late[:, 1])
        scale = float(late[-1, 0] - late[0, 0]) / max(median, 1e-9)
        grew, error = float(line.slope) * scale, float(line.stderr) * scale
    return Measured(
        name=f"{name}: growth",
        value=100 * grew,
        unit="%",
        goal=f"<= {100 * GROWTH:g}" if is_judged else "",
        holds=not is_judged or grew <= GROWTH,
        peers={f"median, {unit or 'count'}": median, "standard error, %": 100 * error},
    )


def _p99(latencies_s: Sequence[float], began_s: float) -> list[tuple[float, float]]:
    values = np.array(latencies_s).reshape(-1, 2)
    edges = np.linspace(began_s, values[-1, 0], LATENCY_WINDOWS + 1)
    found = []
    for low, high in pairwise(edges):
        window = values[(values[:, 0] >= low) & (values[:, 0] < high), 1]
        if len(window):
            found.append((float(low - began_s), float(np.quantile(window, 0.99)) * 1000))
    return found


if __name__ == "__main__":
    sys.exit(main())
