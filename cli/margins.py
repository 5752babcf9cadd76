"""What `doctor` says of each route's stable against itself, out of the log.

The margins that its noise allows, between groups of users and between its servers; and which of
those servers stands out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.judge.eprocess import Ints
from agent.judge.margins import MIN_REQUESTS
from cli.noise import MAX_SERVERS, Noise, comparable_servers, margin_lines, servers_finding
from mlops.contracts.evidence import KEY_GROUPS, LAST_BIN
from mlops.doctor.findings import Finding, State
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.noise import Among, GroupCounts
from mlops.feature_store.settings import ClickHouseSettings

DAY_S: Final = 86_400
MAX_ROWS: Final = 2_000_000
"""Rows of a route that are read: about a second of ClickHouse's time. Of a busier route a shorter
time is looked at."""
DELAY_S: Final = 60
"""What is younger may still be on its way."""
MAX_BLOCKS: Final = 48
PER_GROUP: Final = 2 * MIN_REQUESTS
"""Requests that a group should have in a block, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Seconds of the log, `until` included."""

    until: int
    length_s: int


async def suggested(settings: ClickHouseSettings, now_s: int) -> list[Finding]:
    """Findings for each route; none where ClickHouse does not answer: `examine` says that."""
    try:
        log = await FeatureLog.connect(settings)
    except Unavailable:
        return []
    try:
        until = now_s - DELAY_S
        requests = await log.read_stable_requests(since=until - DAY_S + 1, until=until)
        found = [await _of_route(log, route, count, until) for route, count in requests.items()]
        return [finding for findings in found for finding in findings]
    except (Unavailable, Refused):
        return []
    finally:
        await log.close()


async def _of_route(log: FeatureLog, route: str, requests: int, until: int) -> list[Finding]:
    length_s = max(600, min(DAY_S, DAY_S * MAX_ROWS // max(1, requests)))
    span = Span(until=until, length_s=length_s)
    blocks = min(MAX_BLOCKS, requests * length_s // DAY_S // (KEY_GROUPS * PER_GROUP))
    keys = await _read(log, route, Among.KEYS, span, blocks) if blocks >= 2 else None
    servers = await _read(log, route, Among.ENDPOINTS, span, MAX_BLOCKS)
    alike = comparable_servers(servers)
    lines = margin_lines(keys, alike)
    what = f"the last {length_s / 3600:.3g} h of stable allow " + ", ".join(lines)
    if not lines:
        least = 2 * KEY_GROUPS * PER_GROUP
        what = f"{requests:,} requests of stable in the last day; at least {least:,} tell its noise"
    findings = [Finding(part=f"margins of {route}", state=State.OK, what=what)]
    return findings if alike is None else [*findings, servers_finding(route, alike)]


async def _read(log: FeatureLog, route: str, among: Among, span: Span, blocks: int) -> Noise | None:
    every_s = -(-span.length_s // blocks)
    since = span.until - every_s * blocks + 1
    counts = await log.read_noise(route, among, since=since, until=span.until, every_s=every_s)
    return _dense(counts, blocks) if counts else None


def _dense(counts: Sequence[GroupCounts], blocks: int) -> Noise:
    totals: dict[str, int] = {}
    for one in counts:
        totals[one.group] = totals.get(one.group, 0) + one.requests
    busiest = sorted(totals, key=lambda name: -totals[name])[:MAX_SERVERS]
    index = {name: at for at, name in enumerate(busiest)}
    shape = (blocks, len(index))
    requests, errors, scored = (np.zeros(shape, np.int64) for _ in range(3))
    scores = np.zeros(shape)
    latencies, first_bytes = (np.zeros((*shape, LAST_BIN + 1), np.int64) for _ in range(2))
    for one in counts:
        if one.group not in index:
            continue
        place = (one.block, index[one.group])
        requests[place], errors[place], scored[place] = one.requests, one.errors, one.scored
        scores[place] = one.score_total
        _fill(latencies[place], one.latency_bins)
        _fill(first_bytes[place], one.first_byte_bins)
    return Noise(
        names=busiest,
        requests=requests,
        errors=errors,
        scored=scored,
        score_totals=scores,
        latency_bins=latencies,
        first_byte_bins=first_bytes,
    )


def _fill(bins: Ints, counted: dict[int, int]) -> None:
    for index, count in counted.items():
        bins[index] = count
