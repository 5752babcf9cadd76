"""Rows of any log as columns, and what the judge counts of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.contracts.evidence import BIN_RATIO, LAST_BIN, LATENCY_FIRST_EDGE_US, SCORE_BINS
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
    endpoint: NDArray[np.object_] | None = None
    """Server that was asked; empty where it is not known."""

    def __len__(self) -> int:
        return len(self.ts)


def generations_of(second: Ints, weight: Floats | None) -> tuple[Mapping[int, int], dict[int, int]]:
    """By second its generation, and by generation its share.

    A generation is a stretch of seconds with one weight. Rows in the second of a change are counted
    to the weight that most of them name.
    """
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


def duration_bins(duration_ms: Floats) -> Ints:
    """`latency_bin` of a whole column."""
    edges = np.maximum(np.nan_to_num(duration_ms) * 1000 / LATENCY_FIRST_EDGE_US, 1.0)
    index = np.floor(np.log(edges) / np.log(BIN_RATIO)).astype(np.int64)
    return np.asarray(np.minimum(LAST_BIN, index))


def score_bins(score: Floats) -> Ints:
    """`score_bin` of a whole column."""
    at = (np.nan_to_num(score) * SCORE_BINS).astype(np.int64)
    return np.asarray(np.minimum(SCORE_BINS - 1, at))
