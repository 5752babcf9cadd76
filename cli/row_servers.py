"""Stable's servers in a log of rows: which of them stands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agent.row_columns import CLIENT_GONE, RowColumns, duration_bins
from cli.noise import MAX_SERVERS, Noise, comparable_servers, told
from mlops.contracts.evidence import LAST_BIN

BLOCKS: Final = 48
"""Of time, all as long."""
_STABLE: Final = 0


def tell_servers(rows: RowColumns, tell: Callable[[str], None]) -> None:
    """Say which server of stable stands out, where the rows name their servers."""
    noise = _noise(rows, rows.endpoint) if rows.endpoint is not None else None
    servers = comparable_servers(noise)
    found = servers.standing_out() if servers is not None else ()
    if servers is not None and found:
        tell(f"of {len(servers.names)} servers of stable {told(servers, found)}")


def _noise(rows: RowColumns, endpoint: NDArray[np.object_]) -> Noise | None:
    usable = (rows.arm == _STABLE) & (rows.status != CLIENT_GONE) & ~np.isnan(rows.latency_ms)
    usable &= endpoint != ""
    if not usable.any():
        return None
    server, names = pd.factorize(endpoint[usable])
    busiest = np.argsort(-np.bincount(server), kind="stable")[:MAX_SERVERS]
    rank = np.full(len(names), MAX_SERVERS)
    rank[busiest] = np.arange(len(busiest))
    ts, status = rows.ts[usable], rows.status[usable]
    length_s = max(1.0, float(ts[-1] - ts[0])) * (1 + 1e-9)
    block = ((ts - ts[0]) / length_s * BLOCKS).astype(np.int64)
    shape = (BLOCKS, len(busiest), LAST_BIN + 1)
    kept = rank[server] < MAX_SERVERS
    cell = block * len(busiest) + rank[server]
    bins = np.zeros(shape, np.int64)
    at = cell * (LAST_BIN + 1) + duration_bins(rows.latency_ms[usable])
    bins += np.bincount(at[kept], minlength=bins.size).reshape(shape)
    failed = kept & ((status >= 500) | (status == 429))
    errors = np.bincount(cell[failed], minlength=shape[0] * shape[1]).reshape(shape[:2])
    nothing = np.zeros(shape[:2], np.int64)
    return Noise(
        names=[str(names[at]) for at in busiest],
        requests=bins.sum(axis=2),
        errors=errors,
        scored=nothing,
        score_totals=nothing.astype(np.float64),
        latency_bins=bins,
        first_byte_bins=np.zeros_like(bins),
    )
