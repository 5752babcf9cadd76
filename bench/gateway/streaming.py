"""Event streams and long bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from bench.gateway.plan import Bench, alternate
from bench.gateway.processes import Running
from bench.gateway.saturation import MIB, missing
from bench.gateway.servers import Fleet, Server, free_port
from bench.gateway.timing import client
from bench.report import Measured

STREAMS = 64
EVERY_US = 10_000
"""Between two events of a stream: a model that writes a hundred tokens a second."""

MEGABYTE = 1_000_000

Found = dict[str, list[dict[str, Any]]]


def _servers(fleet: Fleet) -> list[Server]:
    servers = [fleet.gateway(), fleet.nginx(logs=False, buffers=False)]
    return servers + ([fleet.envoy(logs=False)] if fleet.has("envoy") else [])


def events(bench: Bench) -> list[Measured]:
    """64 streams of a hundred events a second each: CPU of an event, and how late it is."""
    fleet = bench.fleet.in_front_of(free_port())
    servers = [*_servers(fleet), fleet.gateway("gateway, no spool", records=False), fleet.aiohttp()]
    count = 100 * 2 * bench.plan.seconds

    def one(proxy: Running) -> dict[str, Any]:
        before_s = proxy.cpu_s()
        found = client("events", proxy.port, STREAMS, count, EVERY_US)
        found["cpu_us"] = (proxy.cpu_s() - before_s) * 1e6 / found["events"]
        found["delay_p50_us"], found["delay_p99_us"] = (
            found["each"][key] for key in ("p50_us", "p99_us")
        )
        found["first_p50_us"], found["first_p99_us"] = (
            found["first"][key] for key in ("p50_us", "p99_us")
        )
        bench.say(
            f"  {proxy.name:24}{found['events']:8,} events  CPU {found['cpu_us']:6.2f} us  "
            f"delay p50 {found['delay_p50_us']:6.0f} us  p99 {found['delay_p99_us']:6.0f} us  "
            f"first {found['first_p50_us']:6.0f} us"
        )
        if found["events"] != STREAMS * count:
            bench.say(f"  {proxy.name}: {STREAMS * count - found['events']} events are missing")
        return found

    with bench.upstream(fleet.streams()) as upstream, bench.proxies(servers) as proxies:
        everyone = {"no proxy": upstream, **proxies}
        found = alternate(bench.plan.few_rounds, everyone, one)
    lost = sum(STREAMS * count - each["events"] for each in found["gateway"])
    rows = [_row(found, "event streams: CPU per event", "cpu_us", "us", compares=True)]
    rows += [
        _row(found, f"event streams: {name}, {at}", f"{key}_{at}_us", "us")
        for key, name in (("first", "delay of the first event"), ("delay", "delay of an event"))
        for at in ("p50", "p99")
    ]
    rows.append(
        Measured(
            name="event streams: events that did not come",
            value=lost,
            unit="",
            goal="must be 0",
            holds=lost == 0,
        )
    )
    return rows


def _row(found: Found, name: str, key: str, unit: str, *, compares: bool = False) -> Measured:
    figures = {peer: median(each[key] for each in rounds) for peer, rounds in found.items()}
    value = figures.pop("gateway")
    if not compares:
        return Measured(name=name, value=value, unit=unit, peers=figures)
    figures.pop("no proxy", None)  # the upstream's own CPU
    goal = "<= Envoy's"
    if "envoy" not in figures:
        return missing(name, goal)
    holds = value <= figures["envoy"]
    return Measured(name=name, value=value, unit=unit, goal=goal, holds=holds, peers=figures)


def bodies(bench: Bench) -> list[Measured]:
    """Bodies of 1 MB over 8 connections, and of 100 MB over one, in both directions."""
    fleet = bench.fleet.in_front_of(free_port())
    servers = [*_servers(fleet), fleet.aiohttp()]
    rows = []
    with bench.upstream(fleet.streams()), bench.proxies(servers) as proxies:
        for verb in ("download", "upload"):
            for words, size, times, connections in (
                ("1 MB", MEGABYTE, max(1, bench.plan.megabytes // 8), 8),
                ("100 MB", 100 * MEGABYTE, max(1, bench.plan.few_rounds), 1),
            ):
                move = _mover(bench, verb, words, (size, times, connections))
                found = alternate(bench.plan.few_rounds, proxies, move)
                what = f"{words} {verb}"
                rows.append(_row(found, f"{what}: speed", "mb_per_s", "MB/s"))
                rows.append(_row(found, f"{what}: CPU per MB", "cpu_us_per_mb", "us"))
                rows.append(_row(found, f"{what}: memory grows by", "growth_mib", "MiB"))
    return rows


def _mover(
    bench: Bench, verb: str, words: str, sizes: tuple[int, int, int]
) -> Callable[[Running], Mapping[str, Any]]:
    def move(proxy: Running) -> dict[str, Any]:
        before_kib, before_s = proxy.rss_kib(), proxy.cpu_s()
        proxy.peak_kib(begin=True)
        found = client(verb, proxy.port, *sizes)
        megabytes = found["bytes"] / MEGABYTE
        found["mb_per_s"] = megabytes / found["seconds"]
        found["cpu_us_per_mb"] = (proxy.cpu_s() - before_s) * 1e6 / megabytes
        found["growth_mib"] = max(0, proxy.peak_kib() - before_kib) / MIB
        bench.say(
            f"  {proxy.name:24}{words} {verb}  {found['mb_per_s']:7,.0f} MB/s  "
            f"CPU {found['cpu_us_per_mb']:6.0f} us/MB  +{found['growth_mib']:.1f} MiB"
        )
        return found

    return move
