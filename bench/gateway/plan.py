"""How long to measure: `QUICK=1` for a look, nothing for the figures in the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from bench.gateway.processes import LOAD_CORE, PROXY_CORE, DidNotStart, Running, running
from bench.gateway.servers import Fleet, Server

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    rounds: int
    seconds: int
    """Of one round of one proxy."""
    few_rounds: int
    """Where the figure is steady, or the peer so far off that a few are enough."""
    requests: int
    """After which memory must not have grown."""
    megabytes: int
    """Moved in bodies of 1 MB, in each direction."""
    idle: int
    """Connections held open for their memory."""


FULL = Plan(rounds=7, seconds=2, few_rounds=3, requests=1_000_000, megabytes=400, idle=10_000)
QUICK = Plan(rounds=3, seconds=1, few_rounds=1, requests=100_000, megabytes=40, idle=2_000)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measure is given."""

    fleet: Fleet
    plan: Plan
    say: Callable[[str], None]

    @contextmanager
    def upstream(self, server: Server) -> Iterator[Running]:
        with running(server, LOAD_CORE) as it:
            yield it

    @contextmanager
    def proxies(self, servers: Iterable[Server]) -> Iterator[dict[str, Running]]:
        """Those that start, by name; of the others it is said why they are missing.

        Raises:
            DidNotStart: it is our own gateway that does not start.
        """
        with ExitStack() as stack:
            started = {}
            for server in servers:
                try:
                    started[server.name] = stack.enter_context(running(server, PROXY_CORE))
                except DidNotStart as exc:
                    if server.admin_port:
                        raise
                    self.say(f"missing: {exc}")
            yield started


def alternate(
    rounds: int, proxies: Mapping[str, Running], measure: Callable[[Running], T]
) -> dict[str, list[T]]:
    """Each proxy in turn, round by round, so that a change of the machine's speed meets all."""
    found: dict[str, list[T]] = {name: [] for name in proxies}
    for _ in range(rounds):
        for name, proxy in proxies.items():
            found[name].append(measure(proxy))
    return found


def medians(found: Mapping[str, Sequence[T]], value: Callable[[T], float]) -> dict[str, float]:
    return {name: median(map(value, rounds)) for name, rounds in found.items()}


def ratio(ours: Sequence[T], theirs: Sequence[T], value: Callable[[T], float]) -> float:
    """Median of the ratios within each round."""
    return median(value(a) / value(b) for a, b in zip(ours, theirs, strict=True))
