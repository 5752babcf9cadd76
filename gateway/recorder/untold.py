"""What a worker answered and did not live to say: it is told in its name. Pure.

A tally of second S counts every exchange that ended in S or before. So what was read from a spool
and ended after the last tally read is untold; when the worker is gone nobody else will tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.recorder.entries import Entry, Key
from mlops.contracts.tally import Tally, TallyEntry

DAMAGED = "damaged"
"""Why a record was dropped that the spool has lost: its sequence number is all that is known."""

MAX_UNTOLD = 256
"""Kept in a cursor. Tallies come every second, so a few are usual; past this, seconds are summed
into the latest one of their route, arm and generation."""


class Untold(msgspec.Struct, frozen=True):
    """Exchanges of one second that no tally has counted yet."""

    second: int
    key: Key
    answered: int
    damaged: int = 0
    """Of those, records that are lost. Whose they were is not known: their neighbour's, we say."""


def untold_after(
    untold: Sequence[Untold], entries: Iterable[Entry], last_second: int
) -> tuple[Untold, ...]:
    """What is untold once `entries`, which follow, are stored. `last_second` was seen before."""
    counts = {(each.second, each.key): [each.answered, each.damaged] for each in untold}
    key = untold[-1].key if untold else None
    for entry in entries:
        if entry.ended_at_us:
            key = entry.key
        last_second = max(last_second, entry.second)
        tally = entry.tally
        second = entry.ended_at_us // 1_000_000 if tally is None else tally.second
        at = (second or last_second, key or entry.key)
        exchanges = 0 if tally is not None else 1
        if exchanges or entry.missing:
            count = counts.setdefault(at, [0, 0])
            count[0] += exchanges + entry.missing
            count[1] += entry.missing
        if tally is not None:
            counts = {at: count for at, count in counts.items() if at[0] > tally.second}
    if len(counts) > MAX_UNTOLD:
        counts = _summed(counts)
    return tuple(Untold(*at, *count) for at, count in sorted(counts.items()))


def _summed(counts: dict[tuple[int, Key], list[int]]) -> dict[tuple[int, Key], list[int]]:
    latest: dict[Key, int] = {}
    for second, key in counts:
        latest[key] = max(second, latest.get(key, 0))
    summed: dict[tuple[int, Key], list[int]] = {}
    for (_, key), count in counts.items():
        total = summed.setdefault((latest[key], key), [0, 0])
        total[0] += count[0]
        total[1] += count[1]
    return summed


def last_words(worker: str, untold: Sequence[Untold], last_second: int) -> list[Tally]:
    """The tallies of a worker that was killed: one for each second untold, then the final one."""
    by_second: dict[int, list[TallyEntry]] = {}
    for each in untold:
        route, arm, generation = each.key
        by_second.setdefault(each.second, []).append(
            TallyEntry(
                route=route,
                arm=arm,
                generation=generation,
                answered=each.answered,
                dropped={DAMAGED: each.damaged} if each.damaged else {},
            )
        )
    tallies = [
        Tally(worker=worker, second=second, entries=tuple(entries))
        for second, entries in sorted(by_second.items())
    ]
    return [*tallies, Tally(worker=worker, second=last_second, final=True)]
