"""Memory: of many connections, and after many requests."""

from __future__ import annotations

from functools import partial
from time import sleep

from bench.gateway import wrk
from bench.gateway.plan import Bench, alternate, medians
from bench.gateway.processes import Running
from bench.gateway.saturation import MIB, none, spool_dropped
from bench.gateway.servers import Fleet, Server
from bench.gateway.timing import held_open
from bench.gateway.wrk import Round
from bench.report import Measured

MANY = 1_000
IDLE_S = 2
GROWTH_MIB = 1.0
"""Less than this over a million requests is no growth: a leak of one object each is 50 MiB."""
CHUNK_S = 4


def _servers(fleet: Fleet) -> list[Server]:
    servers = [fleet.gateway(), fleet.nginx(logs=True)]
    return servers + ([fleet.envoy(logs=True)] if fleet.has("envoy") else [])


def idle(bench: Bench) -> list[Measured]:
    """What an open connection costs while nothing happens on it, never used and after a request."""
    fleet, count = bench.fleet, bench.plan.idle
    rows = []
    with bench.upstream(fleet.small_answers()):
        for words, is_used in (("after a request", True), ("never used", False)):
            # A process of its own for each: what was freed is used again, and would count as free.
            with bench.proxies(_servers(fleet)) as proxies:
                figures = {}
                for name, proxy in proxies.items():
                    wrk.drive(proxy, 1)
                    path = proxy.server.path if is_used else ""
                    figures[name] = _kib_each(proxy, count, path)
                    bench.say(f"  {name:24}{figures[name]:6.2f} KiB each, {words}")
            value = figures.pop("gateway")
            rows.append(
                Measured(
                    name=f"{count:,} open idle connections, {words}",
                    value=value,
                    unit="KiB each",
                    goal="<= 8",
                    holds=value <= 8,
                    peers=figures,
                )
            )
        with bench.proxies(_servers(fleet)) as proxies:
            figures = {name: _cpu_idle(proxy) for name, proxy in proxies.items()}
    name = f"CPU while {MANY:,} connections are idle"
    value = figures.pop("gateway")
    return [*rows, Measured(name=name, value=value, unit="% of a core", peers=figures)]


def _kib_each(proxy: Running, count: int, path: str) -> float:
    before_kib = proxy.rss_kib()
    with held_open(proxy.port, count, path):
        return (proxy.rss_kib() - before_kib) / count


def _cpu_idle(proxy: Running) -> float:
    with held_open(proxy.port, MANY, proxy.server.path):
        before_s = proxy.cpu_s()
        sleep(IDLE_S)
        return (proxy.cpu_s() - before_s) / IDLE_S * 100


def busy(bench: Bench) -> list[Measured]:
    """A thousand connections that all ask at once."""
    fleet = bench.fleet
    with bench.upstream(fleet.small_answers()), bench.proxies(_servers(fleet)) as proxies:
        found = alternate(bench.plan.few_rounds, proxies, partial(_busy_round, bench))
        memory = {name: proxy.rss_kib() / MIB for name, proxy in proxies.items()}
    rows = []
    for name, unit, figures in (
        ("CPU per request", "us", medians(found, lambda each: each.cpu_us)),
        ("p99", "ms", medians(found, lambda each: each.p99_ms)),
        ("resident memory", "MiB", memory),
    ):
        value = figures.pop("gateway")
        what = f"{MANY:,} busy connections: {name}"
        rows.append(Measured(name=what, value=value, unit=unit, peers=figures))
    errors = sum(each.errors for each in found["gateway"])
    return [*rows, none(f"{MANY:,} busy connections: errors", errors)]


def _busy_round(bench: Bench, proxy: Running) -> Round:
    """A second that is not counted opens the upstream connections: ours do not idle for long."""
    wrk.drive(proxy, 1, MANY)
    found = wrk.drive(proxy, bench.plan.seconds, MANY)
    bench.say(f"  {proxy.name:24}{found}")
    return found


def endurance(bench: Bench) -> list[Measured]:
    """Memory after the first tenth of many requests, and after all of them."""
    fleet, wanted = bench.fleet, bench.plan.requests
    with bench.upstream(fleet.small_answers()), bench.proxies([fleet.gateway()]) as proxies:
        gateway = proxies["gateway"]
        early_kib = done = 0
        while done < wanted:
            done += wrk.drive(gateway, CHUNK_S if early_kib else 1).requests
            bench.say(f"  {done:10,} requests  {gateway.rss_kib() / MIB:.1f} MiB")
            if not early_kib and done >= wanted / 10:
                early_kib = gateway.rss_kib()
        growth = (gateway.rss_kib() - early_kib) / MIB
        dropped = spool_dropped(gateway)
    name = f"memory grows from {wanted // 10:,} to {wanted:,} requests by"
    return [
        Measured(
            name=name,
            value=growth,
            unit="MiB",
            goal=f"no growth: <= {GROWTH_MIB:g}",
            holds=growth <= GROWTH_MIB,
        ),
        none("records dropped meanwhile", dropped),
    ]
