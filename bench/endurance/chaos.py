"""`make chaos`: faults one after another, and in pairs, under constant mixed traffic; seeded.

`MINUTES=20 RATE=500 SEED=1 make chaos`. Components are killed, stopped and restarted, the gateway's
file read again, versions slowed; meanwhile bad and harmless releases go through. At the end every
answer is looked for in the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from time import monotonic
from typing import Any

from bench.endurance.world import PARTS, World, world
from bench.report import Measured, write

PAUSE_S = 6.0
"""Between two faults; two at once every third time."""
STOPPED_S = 4.0
RELEASE_S = 60.0
"""Shortest time left in which a release is begun."""
UNDER_WAY = 64
"""Exchanges of one worker at a time, at most: streams, and clients that are slow."""
POLICY: dict[str, Any] = {
    "steps": [{"setWeight": 20}, {"setWeight": 50}],
    "bake": {"duration": "10s"},
    "lease": "10s",
    "grace": "2s",
    "dwell": "5s",
    "checks": {"errors": {"margin": 0.05}},
}
BAD_SHARE = 0.5
"""Of the bad version's answers that are 500."""

Fault = Callable[[World], Awaitable[None]]


async def _killed(world: World, part: str, start: Callable[[], str]) -> None:
    await asyncio.to_thread(world.stack.kill, part)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(start)


async def kill_recorder(world: World) -> None:
    await _killed(world, "recorder", world.stack.start_recorder)


async def kill_agent(world: World) -> None:
    await _killed(world, "agent", world.stack.start_agent)


async def kill_clickhouse(world: World) -> None:
    await _killed(world, "clickhouse", world.stack.start_clickhouse)


async def kill_worker(world: World) -> None:
    """What it had under way is lost to its clients; they are counted as broken."""
    os.kill(world.pids("worker")[0], signal.SIGKILL)


async def reload_gateway(world: World) -> None:
    os.kill(world.pids("gateway")[0], signal.SIGHUP)


async def slow_version(world: World) -> None:
    world.stable.delay_s = 0.2
    await asyncio.sleep(STOPPED_S)
    world.stable.delay_s = 0.002


def stopped(part: str) -> Fault:
    async def act(world: World) -> None:
        pids = world.pids(part)[:1]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue  # it was replaced, because it hung

    act.__name__ = f"stop_{part}"
    return act


FAULTS: tuple[Fault, ...] = (
    kill_recorder,
    kill_agent,
    kill_clickhouse,
    kill_worker,
    reload_gateway,
    slow_version,
    stopped("recorder"),
    stopped("agent"),
    stopped("clickhouse"),
    stopped("gateway"),
)


def main() -> int:
    minutes = float(os.environ.get("MINUTES", "20"))
    rate = float(os.environ.get("RATE", "500"))
    seed = int(os.environ.get("SEED", "1"))
    rows = asyncio.run(_chaos(60 * minutes, rate, seed))
    write("chaos", rows, {})
    return 0


async def _chaos(seconds: float, rate: float, seed: int) -> list[Measured]:
    random = Random(seed)
    done: Counter[str] = Counter()
    async with world(rate, seed) as under:
        before = under.use()
        ends_s = monotonic() + seconds
        releases = asyncio.get_running_loop().create_task(_releases(under, ends_s))
        while monotonic() < ends_s:
            count = 2 if random.random() < 1 / 3 else 1
            chosen = random.sample(FAULTS, count)
            names = [fault.__name__ for fault in chosen]
            print(f"{ends_s - monotonic():6.0f} s left: {' and '.join(names)}", file=sys.stderr)
            await asyncio.gather(*(_try(fault, under) for fault in chosen))
            done.update(names)
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE_S)
        wrong = await releases
        after = under.use()
        traffic = under.traffic
        await traffic.finish()
        stored, doubles, dropped = await under.stored()
    broken = sum(traffic.failed.values())
    refused = sum(count for status, count in traffic.errors.items() if status != 500)
    rows = [
        Measured(name="requests", value=traffic.asked, unit=""),
        Measured(name="answered", value=len(traffic.answered), unit=""),
        Measured(name="cancelled by their clients", value=traffic.cancelled, unit=""),
        Measured(name="answered 500 by the bad version", value=traffic.errors[500], unit=""),
        _none("answered with an error by the gateway", refused),
        Measured(
            name="without a whole answer",
            value=broken,
            unit="",
            goal=f"at most {UNDER_WAY} for each killed worker: what it had under way",
            holds=broken <= UNDER_WAY * done["kill_worker"],
            peers=dict(traffic.failed),
        ),
        _none("answered without a row", len(traffic.answered) - stored),
        _none("rows twice", doubles),
        _none("dropped", dropped),
        _none("wrong decisions", wrong),
        Measured(name="longest time a client waited", value=traffic.longest_s, unit="s"),
        Measured(name="faults", value=sum(done.values()), unit="", peers=dict(done)),
    ]
    for part in PARTS:
        grew = after[part].rss_mib - before[part].rss_mib
        name = f"{part}: resident memory at the end"
        peers = {"at the start": before[part].rss_mib, "more": grew}
        rows.append(Measured(name=name, value=after[part].rss_mib, unit="MiB", peers=peers))
    return rows


async def _try(fault: Fault, under: World) -> None:
    try:
        await fault(under)
    except (OSError, StopIteration, RuntimeError) as error:
        # Of two faults at once, the one may have taken away what the other needs.
        print(f"  {fault.__name__}: {error!r}", file=sys.stderr)


async def _releases(under: World, ends_s: float) -> int:
    """A bad one and a harmless one in turn; how many ended as they should not."""
    wrong = 0
    is_bad = True
    while monotonic() + RELEASE_S < ends_s:
        under.canary.fail_share = BAD_SHARE if is_bad else 0.0
        release_id = await _started(under, "bad" if is_bad else "harmless")
        phase = await _ended(under, release_id, min(ends_s, monotonic() + 3 * RELEASE_S))
        print(f"  {'bad' if is_bad else 'harmless'} release: {phase}", file=sys.stderr)
        wrong += (phase == "settled") if is_bad else (phase == "rolled_back")
        if phase == "settled":  # the next one begins from there
            under.stable, under.canary = under.canary, under.stable
        under.canary.fail_share = 0.0
        is_bad = not is_bad
    return wrong


async def _started(under: World, name: str) -> str:
    body = {
        "route": "rag",
        "version": f"2-{name}-{monotonic():.0f}",
        "endpoints": [under.canary.url],
        "reason": "chaos",
        "policy": POLICY,
    }
    while True:
        try:
            answer = await under.call("POST", "/v1/releases", body)
            return str(answer["id"])
        except (OSError, KeyError, StopIteration, ValueError):
            await asyncio.sleep(1.0)  # the agent is away just now


async def _ended(under: World, release_id: str, ends_s: float) -> str:
    phase = ""
    while monotonic() < ends_s and phase not in ("settled", "rolled_back", "aborted"):
        await asyncio.sleep(1.0)
        try:
            phase = str((await under.call("GET", f"/v1/releases/{release_id}"))["phase"])
        except (OSError, KeyError, StopIteration, ValueError):
            continue
    return phase


def _none(name: str, count: int) -> Measured:
    return Measured(name=name, value=count, unit="", goal="must be 0", holds=count == 0)


if __name__ == "__main__":
    sys.exit(main())
