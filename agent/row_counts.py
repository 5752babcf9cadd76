"""Rows of any log to counts per second, as the feature store would give them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.contracts.evidence import (
    BIN_RATIO,
    KEY_GROUPS,
    LAST_BIN,
    LATENCY_FIRST_EDGE_US,
    SCORE_BINS,
    AnsweredCounts,
    Evidence,
    SecondCounts,
)
from mlops.contracts.plan import FULL_SHARE_BP, Arm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ARMS = (str(Arm.STABLE), str(Arm.CANARY), str(Arm.HOLDBACK))
CLIENT_GONE = 499
UNKNOWN_SHARE_BP = 0
"""Where the log names no weight: the sample ratio is then not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowColumns:
    """A log as columns of one length, in the order of time. NaN is missing."""

    ts: Floats
    """Unix seconds at which the request ended."""
    arm: Ints
    """Index in `ARMS`."""
    status: Ints
    latency_ms: Floats
    ttft_ms: Floats | None = None
    score: Floats | None = None
    """0..1."""
    weight: Floats | None = None
    """Percent asked for the arm that is not stable."""
    key_group: Ints
    """Group of the session, or of the row where there is none."""

    def __len__(self) -> int:
        return len(self.ts)


def evidence_of(rows: RowColumns) -> tuple[Evidence, dict[int, int]]:
    """Everything there is, and by generation the share asked for.

    A generation is a stretch of seconds with one weight. Rows in the second of a change are counted
    to the weight that most of them name.
    """
    second = np.floor(rows.ts).astype(np.int64)
    generations, shares = _generations(second, rows.weight)
    groups, inverse = np.unique(second * len(ARMS) + rows.arm, return_inverse=True)
    histograms = _histograms(rows, inverse, len(groups))
    counts = _counts(rows, inverse, len(groups))
    seconds, first = groups // len(ARMS), int(second[0])
    found = []
    for index, (at, group) in enumerate(zip(seconds.tolist(), groups.tolist(), strict=True)):
        numbers: dict[str, Any] = {name: int(column[index]) for name, column in counts.items()}
        numbers |= {name: bins[index] for name, bins in histograms.items()}
        arm = ARMS[group % len(ARMS)]
        found.append(SecondCounts(second=at, generation=generations[at], arm=arm, **numbers))
    evidence = Evidence(
        route="rows",
        since=first,
        closed_through=int(second[-1]),
        seconds=tuple(found),
        answered=tuple(_as_answered(counts) for counts in found),
    )
    return evidence, shares


def _as_answered(counts: SecondCounts) -> AnsweredCounts:
    """A log of one's own has no tallies: it is taken to be all there was."""
    return AnsweredCounts(
        second=counts.second,
        generation=counts.generation,
        arm=counts.arm,
        answered=counts.rows,
        dropped=0,
    )


def _generations(second: Ints, weight: Floats | None) -> tuple[Mapping[int, int], dict[int, int]]:
    """By second its generation, and by generation its share."""
    every, inverse = np.unique(second, return_inverse=True)
    if weight is None:
        return dict.fromkeys(every.tolist(), 1), {1: UNKNOWN_SHARE_BP}
    share_bp = np.round(np.nan_to_num(weight, nan=-1.0) * FULL_SHARE_BP / 100).astype(np.int64)
    pairs, counts = np.unique(inverse * (2 * FULL_SHARE_BP) + share_bp + 100, return_counts=True)
    at, asked = pairs // (2 * FULL_SHARE_BP), pairs % (2 * FULL_SHARE_BP) - 100
    known = np.where(asked >= 0, counts, 0)
    order = np.lexsort((known, at))
    last = np.append(at[order][1:] != at[order][:-1], True)
    chosen = asked[order][last]
    generation, current = 0, None
    by_second, shares = {}, {}
    for moment, share in zip(every.tolist(), chosen.tolist(), strict=True):
        asked_for = current if share < 0 and current is not None else max(0, share)
        if asked_for != current:
            generation, current = generation + 1, asked_for
            shares[generation] = asked_for
        by_second[moment] = generation
    return by_second, shares


def _counts(rows: RowColumns, inverse: Ints, groups: int) -> dict[str, Ints]:
    gone = rows.status == CLIENT_GONE
    failed = (rows.status >= 500) | (rows.status == 429)
    client = (rows.status >= 400) & ~failed & ~gone
    masks = {
        "rows": np.ones(len(rows), bool),
        "requests": ~gone,
        "errors": failed,
        "client_errors": client,
        "cancelled": gone,
    }
    return {
        name: np.bincount(inverse[mask], minlength=groups).astype(np.int64)
        for name, mask in masks.items()
    }


def _histograms(rows: RowColumns, inverse: Ints, groups: int) -> dict[str, list[dict[int, int]]]:
    gone = rows.status == CLIENT_GONE
    failed = (rows.status >= 500) | (rows.status == 429)
    latency = _duration_bins(rows.latency_ms)
    timed = ~np.isnan(rows.latency_ms)
    found = {
        "latency_bins": _by_group(inverse, latency, timed & ~gone, groups),
        "cancelled_bins": _by_group(inverse, latency, timed & gone, groups),
        "request_groups": _by_group(inverse, rows.key_group, ~gone, groups),
        "error_groups": _by_group(inverse, rows.key_group, failed, groups),
    }
    if rows.ttft_ms is not None:
        told = ~np.isnan(rows.ttft_ms) & ~gone
        found["first_byte_bins"] = _by_group(inverse, _duration_bins(rows.ttft_ms), told, groups)
    if rows.score is not None:
        scored = ~np.isnan(rows.score) & ~gone
        bins = np.minimum(SCORE_BINS - 1, np.nan_to_num(rows.score) * SCORE_BINS).astype(np.int64)
        found["score_bins"] = _by_group(inverse, bins, scored, groups)
    return found


def _duration_bins(duration_ms: Floats) -> Ints:
    """`latency_bin` of a whole column."""
    edges = np.maximum(np.nan_to_num(duration_ms) * 1000 / LATENCY_FIRST_EDGE_US, 1.0)
    index = np.floor(np.log(edges) / np.log(BIN_RATIO)).astype(np.int64)
    return np.asarray(np.minimum(LAST_BIN, index))


def _by_group(
    inverse: Ints, bins: Ints, mask: NDArray[np.bool_], groups: int
) -> list[dict[int, int]]:
    width = max(LAST_BIN + 1, KEY_GROUPS)
    keys, counts = np.unique(inverse[mask] * width + bins[mask], return_counts=True)
    bounds = np.searchsorted(keys // width, np.arange(groups + 1)).tolist()
    at, count = (keys % width).tolist(), counts.tolist()
    return [
        dict(zip(at[start:end], count[start:end], strict=True)) for start, end in pairwise(bounds)
    ]
