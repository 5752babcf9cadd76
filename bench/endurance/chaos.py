"""`make chaos`: faults one after another, and in pairs, under constant mixed traffic; seeded.

`MINUTES=20 RATE=500 SEED=1 make chaos`. The faults are those of `faults`; with `ONLY=` those that
it names, with commas between. Meanwhile bad and harmless releases go through. At the end every
answer is looked for in the log.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from random import Random
from time import monotonic
from typing import Any

import uvloop

from bench.endurance.faults import FAULTS, Fault
from bench.endurance.traffic import Failure
from bench.endurance.world import JUDGED, PARTS, Use, World, world
from bench.report import Measured, none_of, write

PAUSE_S = 6.0
"""Between two faults; two at once every third time."""
ASK_S = 1.0
"""Between two questions about a release."""
RELEASE_S = 60.0
"""Shortest time left in which a release is begun."""
SEEN_S = 1.0
"""After a worker was killed: until then a client may write to a connection that it had."""
WARM_UP = 0.2
"""Share of the run before which memory is not judged: caches fill."""
GROWTH, GROWTH_MIB = 1.25, 16.0
"""What a process may have grown by since, times and on top: it may just have been started again."""
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


def main() -> int:
    minutes = float(os.environ.get("MINUTES", "20"))
    rate = float(os.environ.get("RATE", "500"))
    seed = int(os.environ.get("SEED", "1"))
    rows = uvloop.run(_chaos(60 * minutes, rate, seed))
    write(
        "chaos_of_some" if os.environ.get("ONLY") else "chaos",  # only all faults make the report
        rows,
        {"rate, per second": f"{rate:g}", "minutes": f"{minutes:g}", "seed": str(seed)},
    )
    return 0


async def _chaos(seconds: float, rate: float, seed: int) -> list[Measured]:
    only = os.environ.get("ONLY", "").split(",")
    faults = [fault for fault in FAULTS if only == [""] or fault.__name__ in only]
    done: Counter[str] = Counter()
    async with world(rate, seed, may_break=True) as under:
        ends_s = monotonic() + seconds
        warm_s = monotonic() + WARM_UP * seconds
        releases = asyncio.get_running_loop().create_task(_releases(under, ends_s))
        before = under.use()
        random = Random(seed)
        while monotonic() < ends_s:
            if monotonic() < warm_s:
                before = under.use()
            chosen = random.sample(faults, min(len(faults), 2 if random.random() < 1 / 3 else 1))
            names = " and ".join(fault.__name__ for fault in chosen)
            print(f"{ends_s - monotonic():6.0f} s left: {names}", file=sys.stderr)
            happened = await asyncio.gather(*(_try(fault, under) for fault in chosen))
            done.update(name for name in happened if name)
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE_S)
        wrong = await releases
        after = under.use()
        await under.traffic.finish()
        log = await under.stored()
    return [*_answers(under, done, log, wrong), *_memory(before, after)]


def _answers(
    under: World, done: Counter[str], log: tuple[set[str], int, int], wrong: int
) -> list[Measured]:
    """What became of the requests."""
    traffic, (lacking, doubles, dropped) = under.traffic, log
    lost, broken = [], []
    for failure in traffic.failures:
        (lost if with_a_worker(failure, under.killed_s) else broken).append(failure)
    refused = sum(count for status, count in traffic.errors.items() if status != 500)
    untold = max(0, len(lacking - under.damaged) - dropped)
    return [
        Measured(name="requests", value=traffic.asked, unit=""),
        Measured(name="answered", value=len(traffic.answered), unit=""),
        Measured(name="rows of them", value=len(traffic.answered - lacking), unit=""),
        Measured(name="cancelled by their clients", value=traffic.cancelled, unit=""),
        Measured(name="answered 500 by the bad version", value=traffic.errors[500], unit=""),
        none_of("answered with an error by the gateway", refused, dict(traffic.errors)),
        Measured(
            name="failed while nobody listened upstream",
            value=sum(traffic.excused.values()),
            unit="",
            peers=dict(traffic.excused),
        ),
        Measured(
            name="under way in a worker when it was killed",
            value=len(lost),
            unit="",
            peers=Counter(failure.cause for failure in lost),
        ),
        none_of("failed otherwise", len(broken), Counter(failure.cause for failure in broken)),
        none_of("answered without a row, neither told as dropped nor damaged by us", untold),
        Measured(name="answered without a row", value=len(lacking), unit=""),
        Measured(name="records damaged on purpose", value=len(under.damaged), unit=""),
        Measured(
            name="told as dropped",
            value=dropped,
            unit="",
            goal="only with a full disk, or for a damaged record",
            holds=dropped <= len(under.damaged) or done["fill_disk"] > 0,
        ),
        none_of("rows twice", doubles),
        none_of("wrong decisions", wrong),
        Measured(name="longest time a client waited", value=traffic.longest_s, unit="s"),
        Measured(name="rate fell behind by at most", value=traffic.late_s, unit="s"),
        Measured(name="faults", value=sum(done.values()), unit="", peers=dict(done)),
    ]


def _memory(before: dict[str, Use], after: dict[str, Use]) -> list[Measured]:
    rows = []
    for part in PARTS:
        was, now = before[part].rss_mib, after[part].rss_mib
        is_judged = part in JUDGED
        goal = f"<= {GROWTH:g} times what it was warm, and {GROWTH_MIB:g}" if is_judged else ""
        rows.append(
            Measured(
                name=f"{part}: resident memory at the end",
                value=now,
                unit="MiB",
                goal=goal,
                holds=not is_judged or now <= GROWTH * was + GROWTH_MIB,
                peers={"warm": was},
            )
        )
    return rows


def with_a_worker(failure: Failure, killed_s: Sequence[float]) -> bool:
    """Whether the request was under way when a worker was killed."""
    return any(failure.began_s - SEEN_S <= at_s <= failure.ended_s for at_s in killed_s)


async def _try(fault: Fault, under: World) -> str:
    """Its name, if it happened."""
    try:
        await fault(under)
    except (OSError, StopIteration, RuntimeError) as error:
        # Of two faults at once, the one may have taken away what the other needs.
        print(f"  {fault.__name__}: {error!r}", file=sys.stderr)
        return ""
    return fault.__name__


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
            await asyncio.sleep(ASK_S)  # the agent is away just now


async def _ended(under: World, release_id: str, ends_s: float) -> str:
    phase = ""
    while monotonic() < ends_s and phase not in ("settled", "rolled_back", "aborted"):
        await asyncio.sleep(ASK_S)
        try:
            phase = str((await under.call("GET", f"/v1/releases/{release_id}"))["phase"])
        except (OSError, KeyError, StopIteration, ValueError):
            continue
    return phase


if __name__ == "__main__":
    sys.exit(main())
