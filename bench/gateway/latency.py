"""Delay at rates that a proxy can take with ease, in an open loop; and two workers against one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from bench.gateway.plan import Bench, alternate, ratio
from bench.gateway.processes import Running
from bench.gateway.saturation import ENVOY, missing, none
from bench.gateway.timing import client
from bench.report import Measured

FIXED_PER_S = 2_000
WORKERS_PER_S = 8_000
ROUND_S = 3

Found = dict[str, list[dict[str, Any]]]


def latency(bench: Bench, saturation_per_s: float) -> list[Measured]:
    """Percentiles at half of our own saturation and at 2,000 requests a second."""
    fleet = bench.fleet
    servers = [fleet.gateway(), fleet.nginx(logs=True)]
    servers += [fleet.envoy(logs=True)] if fleet.has("envoy") else []
    rows = []
    with bench.upstream(fleet.small_answers()) as upstream, bench.proxies(servers) as proxies:
        for words, per_s in (("half load", saturation_per_s / 2), ("2,000/s", FIXED_PER_S)):
            found = at_rate(bench, {"no proxy": upstream, **proxies}, per_s)
            rows += _percentiles(words, found)
            if words == "half load":
                rows += _added(found)
            errors = sum(each["errors"] for each in found["gateway"])
            rows.append(none(f"at {words}: requests failed or not answered", errors))
    return rows


def workers(bench: Bench) -> list[Measured]:
    """The same load on one worker and on two: what a second process costs."""
    fleet = bench.fleet
    name = "two workers against one, CPU per request"
    servers = [fleet.gateway("one worker"), fleet.gateway("two workers", workers=2)]
    with bench.upstream(fleet.small_answers()), bench.proxies(servers) as proxies:
        found = at_rate(bench, proxies, WORKERS_PER_S)
    value = ratio(found["two workers"], found["one worker"], lambda each: each["cpu_us"])
    one, two = (median(each["cpu_us"] for each in rounds) for rounds in found.values())
    return [
        Measured(
            name=name,
            value=value,
            unit="",
            goal="<= 1.1",
            holds=value <= 1.1,
            peers={"one worker, us": one, "two workers, us": two},
        )
    ]


def at_rate(bench: Bench, proxies: Mapping[str, Running], per_s: float) -> Found:
    def one(proxy: Running) -> dict[str, Any]:
        before_s = proxy.cpu_s()
        found = client("rate", proxy.port, proxy.server.path, per_s, ROUND_S)
        found["cpu_us"] = (proxy.cpu_s() - before_s) * 1e6 / max(found["count"], 1)
        bench.say(
            f"  {proxy.name:24}{per_s:8,.0f}/s  p50 {found['p50_us']:7.0f} us  "
            f"p99 {found['p99_us']:7.0f} us  CPU {found['cpu_us']:6.2f} us"
        )
        return found

    for proxy in proxies.values():
        client("rate", proxy.port, proxy.server.path, per_s, 0.5)
    return alternate(bench.plan.few_rounds, proxies, one)


def _percentiles(words: str, found: Found) -> list[Measured]:
    rows = []
    for key, name in (("p50_us", "p50"), ("p99_us", "p99"), ("cpu_us", "CPU per request")):
        figures = {peer: median(each[key] for each in rounds) for peer, rounds in found.items()}
        value = figures.pop("gateway")
        rows.append(Measured(name=f"at {words}: {name}", value=value, unit="us", peers=figures))
    return rows


def _added(found: Found) -> list[Measured]:
    """What a proxy adds to the 99th percentile without one, within a round."""

    def of(peer: str) -> float:
        pairs = zip(found[peer], found["no proxy"], strict=True)
        return median(each["p99_us"] - direct["p99_us"] for each, direct in pairs)

    goal = "<= Envoy's"
    if ENVOY not in found:
        return [missing("added p99 at half load", goal)]
    peers = {peer: of(peer) for peer in found if peer not in ("gateway", "no proxy")}
    value = of("gateway")
    return [
        Measured(
            name="added p99 at half load",
            value=value,
            unit="us",
            goal=goal,
            holds=value <= peers[ENVOY],
            peers=peers,
        )
    ]
