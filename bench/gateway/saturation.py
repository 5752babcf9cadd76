"""Small requests at saturation: CPU of one, and how many there are in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.request import urlopen

from bench.gateway import wrk
from bench.gateway.plan import Bench, alternate, medians, ratio
from bench.gateway.processes import Running
from bench.gateway.wrk import Round
from bench.report import Measured

NGINX = "nginx + log of bodies"
ENVOY = "envoy + access log"
ENVOY_BODIES = "envoy + log of bodies"
MIB = 1024.0
LITELLM_CONNECTIONS = 8
"""It answers about a hundred in a second; more connections would only wait."""


def same_work(bench: Bench) -> list[Measured]:
    """JSON over 64 connections, sticky by user, split 90/10, everything recorded."""
    fleet, plan = bench.fleet, bench.plan
    servers = [fleet.gateway(), fleet.nginx(logs=True)]
    if fleet.has("envoy"):
        servers += [fleet.envoy(logs=True), fleet.envoy(bodies=True)]
    with bench.upstream(fleet.small_answers()), bench.proxies(servers) as proxies:
        found = saturate(bench, proxies, plan.rounds)
        gateway = proxies["gateway"]
        memory = {name: proxy.largest_rss_kib() / MIB for name, proxy in proxies.items()}
        dropped = spool_dropped(gateway)
    rows = _cost("same work", found)
    rows += _against(found, NGINX, "same work", "must <= 1.3", 1.3)
    rows += _against(found, NGINX, "same work", "<= 1.0", 1.0)
    rows += _against(found, ENVOY, "same work", "must <= 0.5", 0.5)
    rows += _against(found, ENVOY, "same work", "<= 0.4", 0.4)
    rows += _against(found, ENVOY_BODIES, "same work", "must <= 0.5", 0.5)
    ours = memory.pop("gateway")
    goal = "<= 45"
    name = "resident memory of a worker at 64 connections"
    rows.append(
        Measured(name=name, value=ours, unit="MiB", goal=goal, holds=ours <= 45, peers=memory)
    )
    errors = sum(each.errors for each in found["gateway"])
    return [
        *rows,
        none("requests answered with an error", errors),
        none("records dropped", dropped),
    ]


def split_only(bench: Bench) -> list[Measured]:
    """The same requests, recorded by nobody."""
    fleet = bench.fleet
    servers = [fleet.gateway("gateway", records=False), fleet.nginx(logs=False)]
    servers += [fleet.haproxy()] if fleet.has("haproxy") else []
    servers += [fleet.envoy(logs=False)] if fleet.has("envoy") else []
    with bench.upstream(fleet.small_answers()), bench.proxies(servers) as proxies:
        found = saturate(bench, proxies, bench.plan.rounds)
    rows = _cost("split only", found)
    for peer, most in (("nginx", 1.2), ("haproxy", 1.2), ("envoy", 0.4)):
        rows += _against(found, peer, "split only", f"<= {most:g}", most)
    return rows


def others(bench: Bench) -> list[Measured]:
    """Same work beside proxies that are further off; each records as little as it can."""
    fleet = bench.fleet
    servers = [fleet.gateway(), fleet.aiohttp()]
    servers += [fleet.traefik()] if fleet.has("traefik") else []
    servers += [fleet.caddy()] if fleet.has("caddy") else []
    servers += [fleet.vllm_router()] if fleet.has("vllm-router") else []
    with bench.upstream(fleet.small_answers()):
        with bench.proxies(servers) as proxies:
            found = saturate(bench, proxies, bench.plan.few_rounds)
        if fleet.has("litellm"):
            with bench.proxies([fleet.litellm()]) as proxies:
                for name, proxy in proxies.items():
                    wrk.drive(proxy, 2, LITELLM_CONNECTIONS)
                    last = wrk.drive(proxy, 2 * bench.plan.seconds, LITELLM_CONNECTIONS)
                    bench.say(f"  {name:24}{last}")
                    found[name] = [last] * len(found["gateway"])
    rows = _cost("same work beside the rest", found)
    rows += _against(found, "aiohttp proxy", "same work", "<= 0.2", 0.2)
    return rows + _against(found, "litellm", "same work", "<= 0.005", 0.005)


def saturate(
    bench: Bench, proxies: Mapping[str, Running], rounds: int, connections: int = wrk.CONNECTIONS
) -> dict[str, list[Round]]:
    """Rounds of every proxy; a second of each before them warms up and is not counted."""

    def one(proxy: Running) -> Round:
        found = wrk.drive(proxy, bench.plan.seconds, connections)
        bench.say(f"  {proxy.name:24}{found}")
        return found

    for proxy in proxies.values():
        wrk.drive(proxy, 1, connections)
    return alternate(rounds, proxies, one)


def _cost(what: str, found: Mapping[str, Sequence[Round]]) -> list[Measured]:
    figures = (
        ("CPU per request", "us", lambda each: each.cpu_us),
        ("of it in the kernel", "us", lambda each: each.kernel_s * 1e6 / max(each.requests, 1)),
        ("requests at saturation", "1/s", lambda each: each.per_s),
        ("share of its core used", "", lambda each: each.busy),
        ("p50 at saturation", "ms", lambda each: each.p50_ms),
        ("p99 at saturation", "ms", lambda each: each.p99_ms),
    )
    rows = []
    for name, unit, value in figures:
        peers = medians(found, value)
        rows.append(
            Measured(name=f"{what}: {name}", value=peers.pop("gateway"), unit=unit, peers=peers)
        )
    return rows


def _against(
    found: Mapping[str, Sequence[Round]], peer: str, what: str, goal: str, most: float
) -> list[Measured]:
    if peer not in found:
        return [missing(f"{what} against {peer}", goal)]
    value = ratio(found["gateway"], found[peer], lambda each: each.cpu_us)
    name = f"{what} against {peer}, CPU per request"
    return [Measured(name=name, value=value, unit="", goal=goal, holds=value <= most)]


def missing(name: str, goal: str) -> Measured:
    """The figure of a peer that is not here: not known, so it does not hold."""
    return Measured(name=f"{name} (missing)", value=0.0, unit="", goal=goal, holds=False)


def none(name: str, count: int) -> Measured:
    return Measured(name=name, value=count, unit="", goal="must be 0", holds=count == 0)


def spool_dropped(gateway: Running) -> int:
    """How many records the spool did not take; then what was measured is not the same work."""
    port = gateway.server.admin_port
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("gateway_spool_dropped_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)
