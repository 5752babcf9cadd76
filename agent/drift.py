"""Have the queries of one route changed? What is remembered of it, and how blocks are folded. Pure.

The reference is a stretch of time after a version became stable: its queries are what later ones
are compared with. A promotion, or a person who acknowledges, begins a new one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.judge.drift import (
    MIN_REFERENCE,
    RUN_LENGTH,
    Blocks,
    EmbeddingDrift,
    FeatureDrift,
    HourMix,
    RoutingMix,
)
from agent.judge.eprocess import Floats
from mlops.contracts.drift import DriftFeature
from mlops.contracts.evidence import EmbeddingSums
from mlops.contracts.plan import Arm

EMBEDDING: Final = "embedding"
TEXT_LENGTH: Final = "text_length"
PROMPT_TOKENS: Final = "prompt_tokens"
SCRIPT: Final = "script"
HOURS: Final = "hours"
ROUTING: Final = "routing"
"""Both arms do not get the same queries: a fault, and not drift."""

DAY_S: Final = 86_400
QUIET_S: Final = 30 * DAY_S
"""Time between two false alarms of one feature of one route, on average at least."""
REFERENCE_BLOCKS: Final = 96
"""Stretches that the reference is cut into, to see how they vary: quarters of an hour of a day."""
COUNTED: Final = 200
"""Queries of one stretch of time that count. The evidence of more is scaled down to these: millions
of queries show changes that are too small to matter."""
SCRIPTS: Final = ("latin", "cyrillic", "arabic_hebrew", "south_asian", "east_asian", "other")
_PARTS: Final = 10
"""Lengths are told apart by the tenths of the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """When queries are compared, and with what."""

    reference_s: int = DAY_S
    """Length of a reference: a day has every hour in it."""
    every_s: float = 30.0
    """Between two looks at a route."""


class DriftMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives the process, for one route."""

    route: str
    version: str
    """Stable, whose queries' embeddings are compared."""
    generation: int
    """First of the plans under which that version was stable."""
    since_s: int
    """Unix second at which the reference begins."""
    until_s: int | None = None
    """Its last second; None while it is not long enough."""
    found: dict[str, int] = {}
    """Features whose alarm went off, and when. Told once; acknowledging forgets them."""


class Categories:
    """How the values of one feature are told apart."""

    def __init__(self, field: str, reference: Iterable[EmbeddingSums]) -> None:
        """`field` is a histogram of `EmbeddingSums`; bins become tenths of the reference."""
        self._field = field
        total: Counter[int | str] = Counter()
        for one in reference:
            total.update(getattr(one, field))
        self._edges = [] if field == "scripts" else _tenths(total)
        self.count = len(SCRIPTS) if field == "scripts" else len(self._edges) + 1

    def counts(self, sums: Iterable[EmbeddingSums]) -> NDArray[np.int64]:
        """Queries by category."""
        counts = np.zeros(self.count, np.int64)
        for one in sums:
            for value, count in getattr(one, self._field).items():
                counts[self._place(value)] += count
        return counts

    def _place(self, value: int | str) -> int:
        if isinstance(value, str):
            return SCRIPTS.index(value) if value in SCRIPTS else len(SCRIPTS) - 1
        return bisect_left(self._edges, value)


def _tenths(total: Mapping[int | str, int]) -> list[int]:
    """Bins up to and with which a tenth, two tenths ... of all lie; equal ones once."""
    bins = sorted(one for one in total if isinstance(one, int))
    if not bins:
        return []
    below = list(accumulate(total[one] for one in bins))
    wanted = (below[-1] * part / _PARTS for part in range(1, _PARTS))
    edges = sorted({bins[bisect_left(below, each)] for each in wanted})
    return [each for each in edges if each != bins[-1]]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One feature whose evidence reached its limit."""

    feature: str
    why: str


class RouteDrift:
    """The detectors of one route, fed with sums in order of time."""

    FEATURES: Final = {
        TEXT_LENGTH: "text_chars_bins",
        PROMPT_TOKENS: "prompt_token_bins",
        SCRIPT: "scripts",
    }

    def __init__(
        self,
        memory: DriftMemory,
        blocks: Sequence[EmbeddingSums],
        embeddings: Mapping[int, NDArray[np.floating]],
        *,
        every_s: float,
    ) -> None:
        """`blocks` are the reference's sums, in spans of equal length; `embeddings` a sample of its
        queries' vectors, (rows, dimensions), by their length. What is too little is left out.
        `every_s` is how much time one `absorb` brings."""
        assert memory.until_s is not None, "a reference that is whole"
        self._memory = memory
        queries = sum(one.count for one in blocks)
        seconds = max(1, memory.until_s - memory.since_s + 1)
        rate = min(queries / seconds, COUNTED / every_s)
        run_length = max(RUN_LENGTH, round(rate * QUIET_S))
        self._embeddings = {
            dims: EmbeddingDrift(rows, run_length, self._block_means(blocks, dims))
            for dims, rows in embeddings.items()
            if len(rows) >= MIN_REFERENCE
        }
        self._categories: dict[str, Categories] = {}
        self._features: dict[str, FeatureDrift] = {}
        for name, field in self.FEATURES.items():
            categories = Categories(field, blocks)
            reference = _by_span(blocks, categories)
            if categories.count > 1 and len(reference) > 1 and reference.sum() >= MIN_REFERENCE:
                self._categories[name] = categories
                self._features[name] = FeatureDrift(reference, run_length)
        self._routing = RoutingMix(self._routing_categories.count)
        self._routed = 0
        """Newest generation that had queries of a canary."""
        self.hours: HourMix | None = None
        """Of the last whole day; set from outside, once a day."""
        self.queries = 0
        """Since the reference, or since the process began to read."""

    def absorb(self, sums: Sequence[EmbeddingSums]) -> tuple[Alarm, ...]:
        """One stretch of time, of every generation and arm. Each alarm that went off in it."""
        self.queries += sum(one.count for one in sums)
        alarms = [*self._absorb_embeddings(sums), *self._absorb_features(sums)]
        self._absorb_routing(sums)
        if self._routing.is_violated:
            alarms.append(Alarm(ROUTING, "canary and stable do not get the same queries"))
        if self.hours is not None and self.hours.is_shifted:
            alarms.append(Alarm(HOURS, "yesterday's queries came at other hours than before"))
        return tuple(alarms)

    def _absorb_embeddings(self, sums: Sequence[EmbeddingSums]) -> Iterable[Alarm]:
        """Of stable alone: its version is known, so nothing of another space is added."""
        for dims, drift in self._embeddings.items():
            ours = [one for one in sums if self._is_ours(one, dims)]
            count = sum(one.count for one in ours)
            if not count:
                continue
            counted = min(count, COUNTED)
            total = np.sum([one.sum for one in ours], axis=0) * (counted / count)
            if drift.absorb(counted, np.asarray(total, float)):
                yield Alarm(EMBEDDING, f"the mean embedding moved by {drift.distance:.3g}")

    def _is_ours(self, one: EmbeddingSums, dims: int) -> bool:
        is_stable = one.arm == Arm.STABLE and one.generation >= self._memory.generation
        return is_stable and one.dims == dims

    def _block_means(self, blocks: Sequence[EmbeddingSums], dims: int) -> Blocks | None:
        ours = [one for one in blocks if one.count and self._is_ours(one, dims)]
        if not ours:
            return None
        counts = np.array([min(one.count, COUNTED) for one in ours], np.float64)
        return Blocks(counts, np.array([np.asarray(one.sum) / one.count for one in ours]))

    def _absorb_features(self, sums: Sequence[EmbeddingSums]) -> Iterable[Alarm]:
        for name, drift in self._features.items():
            if drift.absorb(_scaled(self._categories[name].counts(sums))):
                psi = drift.measures()["psi"]
                yield Alarm(name, f"{name.replace('_', ' ')} moved (PSI {psi:.2g})")

    @property
    def _routing_categories(self) -> Categories:
        return self._categories.get(TEXT_LENGTH) or Categories("scripts", ())

    def _absorb_routing(self, sums: Sequence[EmbeddingSums]) -> None:
        """A release's users are drawn anew, so each release is asked anew; but not each step.

        Every block is a table of its own, so evidence stays valid over any change of weight. A
        release is over where a newer plan has queries and none of them is a canary's.
        """
        categories = self._routing_categories
        for generation in sorted({one.generation for one in sums}):
            of_it = [one for one in sums if one.generation == generation]
            canary = categories.counts(one for one in of_it if one.arm == Arm.CANARY)
            stable = categories.counts(one for one in of_it if one.arm == Arm.STABLE)
            if canary.any():
                self._routed = max(self._routed, generation)
                self._routing.absorb(canary, stable)
            elif stable.any() and generation > self._routed:
                self._routing = RoutingMix(categories.count)

    def features(self) -> dict[str, DriftFeature]:
        """Where each detector stands, for the API and the metrics."""
        shown = {
            EMBEDDING if len(self._embeddings) == 1 else f"{EMBEDDING}_{dims}": DriftFeature(
                evidence=_share(drift.log_value, drift.log_limit),
                measures={"distance": drift.distance},
            )
            for dims, drift in self._embeddings.items()
        }
        for name, feature in self._features.items():
            shown[name] = DriftFeature(
                evidence=_share(feature.log_value, feature.log_limit),
                measures=dict(feature.measures()) if self.queries else {},
            )
        if self.hours is not None:
            evidence = min(1.0, self.hours.psi / self.hours.limit) if self.hours.limit else 0.0
            shown[HOURS] = DriftFeature(evidence=evidence, measures={"psi": self.hours.psi})
        return shown


def _scaled(counts: NDArray[np.int64]) -> Floats:
    total = int(counts.sum())
    return np.asarray(counts * (COUNTED / total) if total > COUNTED else counts, np.float64)


def _by_span(blocks: Sequence[EmbeddingSums], categories: Categories) -> Floats:
    spans: dict[int, list[EmbeddingSums]] = {}
    for one in blocks:
        spans.setdefault(one.second, []).append(one)
    counts = [_scaled(categories.counts(spans[second])) for second in sorted(spans)]
    used = [each for each in counts if each.any()]
    return np.array(used) if used else np.zeros((0, categories.count))


def _share(log_value: float, log_limit: float) -> float:
    return min(1.0, max(0.0, log_value / log_limit))


def begun(route: str, version: str, generation: int, now_s: int) -> DriftMemory:
    """A reference that begins now."""
    return DriftMemory(route=route, version=version, generation=generation, since_s=now_s)


def with_alarms(memory: DriftMemory, alarms: Sequence[Alarm], at_s: int) -> DriftMemory:
    """The same with the features that were not known to have drifted."""
    new = {one.feature: at_s for one in alarms if one.feature not in memory.found}
    return msgspec.structs.replace(memory, found=memory.found | new) if new else memory
