"""What a look at one part found. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MAX_CLOCK_SKEW_S: Final = 2.0
"""Clocks further apart than this move rows into other seconds than their tallies."""

LOW_DISK_BYTES: Final = 1024**3
"""Less than this is filled by minutes of an outage of ClickHouse."""


class State(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part, how it is, and what to do."""

    part: str
    state: State
    what: str
    mend: str = ""
    """What to do about it; empty where nothing is wrong."""


def clock(part: str, skew_s: float) -> Finding:
    """From how far a server's clock is ahead of ours (negative: behind)."""
    what = f"clock {skew_s:+.1f} s from this machine's"
    if abs(skew_s) <= MAX_CLOCK_SKEW_S:
        return Finding(part=part, state=State.OK, what=what)
    return Finding(
        part=part,
        state=State.FAILED,
        what=f"{what}, at most {MAX_CLOCK_SKEW_S:g} s apart",
        mend="set both by NTP: rows are counted in the second of the gateway's clock",
    )


def schema(missing: list[str]) -> Finding:
    """From the migrations that have not been applied."""
    if not missing:
        return Finding(part="schema", state=State.OK, what="up to date")
    return Finding(
        part="schema",
        state=State.FAILED,
        what=f"{len(missing)} steps are missing: {', '.join(missing)}",
        mend="rag-mlops migrate",
    )


def disk(path: str, free_bytes: int) -> Finding:
    """From the space left where `path` lies."""
    what = f"{free_bytes / 1024**3:.1f} GiB free at {path}"
    if free_bytes >= LOW_DISK_BYTES:
        return Finding(part="disk", state=State.OK, what=what)
    return Finding(
        part="disk",
        state=State.WARNING,
        what=what,
        mend="make room: a full disk drops records (requests go on), and stops the recorder",
    )
