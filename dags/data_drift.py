"""Have an hour's queries moved from those of the hours before? The agent's detectors, on one hour.

The agent watches all the time and remembers; this reads the log of one hour and of its reference
only, so the same hour says the same whenever it is asked, also in a back-fill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.drift import ROUTING, DriftMemory, RouteDrift
from agent.judge.drift import MIN_REFERENCE
from mlops.contracts.evidence import EmbeddingSums
from mlops.contracts.plan import Arm
from mlops.feature_store.embedding_sums import EmbeddingSample
from mlops.feature_store.log import FeatureLog
from mlops.monitoring.figures import HOUR_S
from mlops.monitoring.findings import Finding, Severity

SPAN_S: Final = 120
"""A week is 5,040 of them, and an hour 30."""
SAMPLE_ROWS: Final = 2_000
SAMPLE_READS: Final = 96
"""Of a few rows each: so the sample is of all hours and no read is long."""
MAX_SPANS: Final = 9_000


async def route_drift(
    log: FeatureLog, route: str, *, since: int, hour: int, versions: Mapping[int, str]
) -> tuple[list[Finding], list[str]]:
    """What of the hour's queries has moved, and what cannot be told.

    Args:
        log: connected.
        route: whose queries.
        since: first second of the reference; it ends where the hour begins.
        hour: first second of the hour.
        versions: what was stable in each generation of both. Only generations of the hour's last
            version are read: embeddings of two versions are not compared.
    """
    generation, version = first_generation(versions), versions[max(versions)]
    span_s = max(SPAN_S, -(-(hour - since) // MAX_SPANS))
    reference = await log.read_embedding_sums(route, since=since, until=hour - 1, every_s=span_s)
    reference = tuple(one for one in reference if one.generation >= generation)
    queries = sum(one.count for one in reference if one.arm == Arm.STABLE)
    if queries < MIN_REFERENCE:
        return [], [
            f"{route}: {queries} queries of version {version} before the hour; "
            f"expected {MIN_REFERENCE} to compare with"
        ]
    samples = await _samples(log, route, version, reference, span_s)
    now = await log.read_embedding_sums(route, since=hour, until=hour + HOUR_S - 1, every_s=span_s)
    memory = DriftMemory(
        route=route,
        version=version,
        generation=generation,
        since_s=since,
        until_s=hour - 1,
    )
    return alarms(route, RouteDrift(memory, reference, samples, every_s=span_s), now), []


def first_generation(versions: Mapping[int, str]) -> int:
    """The first of the latest generations that have one version."""
    ordered = sorted(versions, reverse=True)
    first = ordered[0]
    for generation in ordered:
        if versions[generation] != versions[ordered[0]]:
            break
        first = generation
    return first


def alarms(route: str, drift: RouteDrift, now: Sequence[EmbeddingSums]) -> list[Finding]:
    """Each feature whose alarm went off in the hour, once."""
    spans: dict[int, list[EmbeddingSums]] = {}
    for one in now:
        spans.setdefault(one.second, []).append(one)
    found: dict[str, str] = {}
    for second in sorted(spans):
        for alarm in drift.absorb(spans[second]):
            found.setdefault(alarm.feature, alarm.why)
    return [
        Finding(
            look="drift",
            name=name,
            route=route,
            severity=Severity.CRITICAL if name == ROUTING else Severity.WARNING,
            sentence=f"{route}: {why}",
            retrain=name != ROUTING,
        )
        for name, why in found.items()
    ]


async def _samples(
    log: FeatureLog, route: str, version: str, reference: Sequence[EmbeddingSums], span_s: int
) -> dict[int, NDArray[np.floating]]:
    """Embeddings by their length, from stretches spread evenly over the reference."""
    found: dict[int, NDArray[np.floating]] = {}
    for dims in sorted({one.dims for one in reference if one.dims}):
        seconds = sorted({one.second for one in reference if one.dims == dims and one.count})
        chosen = seconds[:: -(-len(seconds) // SAMPLE_READS)]
        sample = EmbeddingSample(route, version, dims, -(-SAMPLE_ROWS // len(chosen)))
        rows: list[list[float]] = []
        for second in chosen:
            until = second + span_s - 1
            rows += await log.read_embedding_sample(sample, since=second, until=until)
        if rows:
            found[dims] = np.array(rows, np.float32)
    return found
