"""The margins that `doctor` suggests: each route's stable against itself, out of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from agent.judge.eprocess import Ints
from agent.judge.margins import (
    MIN_REQUESTS,
    Suggestion,
    latency_margin,
    rate_margin,
    score_margin,
)
from mlops.contracts.evidence import KEY_GROUPS, LAST_BIN
from mlops.doctor.findings import Finding, State
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.noise import GroupCounts
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


async def suggested(settings: ClickHouseSettings, now_s: int) -> list[Finding]:
    """One finding for each route; none where ClickHouse does not answer: `examine` says that."""
    try:
        log = await FeatureLog.connect(settings)
    except Unavailable:
        return []
    try:
        until = now_s - DELAY_S
        requests = await log.read_stable_requests(since=until - DAY_S + 1, until=until)
        return [await _of_route(log, route, count, until) for route, count in requests.items()]
    except (Unavailable, Refused):
        return []
    finally:
        await log.close()


async def _of_route(log: FeatureLog, route: str, requests: int, until: int) -> Finding:
    part = f"margins of {route}"
    span_s = max(600, min(DAY_S, DAY_S * MAX_ROWS // max(1, requests)))
    blocks = min(MAX_BLOCKS, requests * span_s // DAY_S // (KEY_GROUPS * PER_GROUP))
    counts: Sequence[GroupCounts] = ()
    if blocks >= 2:
        since = until - span_s + 1
        counts = await log.read_noise(route, since=since, until=until, every_s=-(-span_s // blocks))
    lines = _suggestions(counts, blocks) if counts else []
    if not lines:
        least = 2 * KEY_GROUPS * PER_GROUP
        what = f"{requests:,} requests of stable in the last day; at least {least:,} tell its noise"
        return Finding(part=part, state=State.OK, what=what)
    what = f"equal groups of users of the last {span_s / 3600:.3g} h allow " + ", ".join(lines)
    return Finding(part=part, state=State.OK, what=what)


def _suggestions(counts: Sequence[GroupCounts], blocks: int) -> list[str]:
    shape = (blocks, KEY_GROUPS)
    requests, errors, scored = (np.zeros(shape, np.int64) for _ in range(3))
    scores = np.zeros(shape)
    latencies, first_bytes = (np.zeros((*shape, LAST_BIN + 1), np.int64) for _ in range(2))
    for one in counts:
        place = (one.block, one.group)
        requests[place], errors[place], scored[place] = one.requests, one.errors, one.scored
        scores[place] = one.score_total
        _fill(latencies[place], one.latency_bins)
        _fill(first_bytes[place], one.first_byte_bins)
    found: dict[str, Suggestion | None] = {
        "errors": rate_margin(errors, requests),
        "latency": latency_margin(latencies),
        "ttft": latency_margin(first_bytes),
        "score": score_margin(scores, scored),
    }
    return [_said(check, one) for check, one in found.items() if one is not None]


def _fill(bins: Ints, counted: dict[int, int]) -> None:
    for index, count in counted.items():
        bins[index] = count


def _said(check: str, one: Suggestion) -> str:
    if check in ("latency", "ttft"):
        margin, spread = f"{one.margin * 100:g}%", f"{one.spread:.1%}"
    else:
        margin, spread = f"{one.margin:g}", f"{one.spread:.2g}"
    return f"{check}: {{margin: {margin}}} (they differ by {spread})"
