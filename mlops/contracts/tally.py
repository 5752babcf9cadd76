"""What each worker says once a second of what it answered: the watermark of the log.

A tally for second S is spooled after every record of that worker whose `ended_at` lies in S or
before. A block closes when the tally of every live worker has passed it; completeness is rows
stored divided by `answered`.
"""

from __future__ import annotations

import msgspec


class TallyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one second of one worker, for one route, arm and generation."""

    route: str
    arm: str
    generation: int
    answered: int
    """Exchanges that ended in this second, recorded or dropped, of every kind."""
    dropped: dict[str, int] = {}
    """Of those, records that were not spooled, by reason (`spool_full`, `too_large`, ...)."""
    in_flight: dict[str, int] = {}
    """Exchanges still open at the end of the second, by age: `1s`, `10s`, `60s`, `older`."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """One second of one worker."""

    worker: str
    second: int
    """Unix time in whole seconds. Every record that ended in it, or before, is already spooled."""
    entries: tuple[TallyEntry, ...] = ()
    """Empty for an idle second: the watermark still moves."""
    final: bool = False
    """The worker is gone, nothing of it will follow. The recorder says it for a killed one."""
