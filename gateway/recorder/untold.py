"""What a worker answered and did not live to say: it is told in its name. Pure.

A tally of second S counts every exchange that ended in S or before and was spooled before it. So
what was read from a spool after the last tally read is untold; when the worker is gone nobody else
will tell. Where its clock was set back it ended before that tally: it is told in the second after
it, as the worker would have done. A tally of a second that has one would take that one's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    """After every tally so far, unless it is stranded."""
    key: Key
    answered: int
    damaged: int = 0
    """Of those, records that are lost. Whose they were is not known: their neighbour's, we say."""
    stranded: bool = False
    """The tally that told of this second is lost: a later one tells nothing of it."""


@dataclass(slots=True)
class _Count:
    answered: int = 0
    damaged: int = 0
    stranded: bool = False


Counts = dict[tuple[int, Key], _Count]


def untold_after(
    untold: Sequence[Untold], entries: Iterable[Entry], last_second: int, told: int
) -> tuple[Untold, ...]:
    """What is untold once `entries`, which follow, are stored.

    `last_second` was seen before, and `told` is the second of the last tally before.
    """
    counts = {
        (each.second, each.key): _Count(each.answered, each.damaged, each.stranded)
        for each in untold
    }
    key = untold[-1].key if untold else None
    for entry in entries:
        if entry.ended_at_us:
            key = entry.key
        last_second = max(last_second, entry.second)
        tally = entry.tally
        second = entry.ended_at_us // 1_000_000 if tally is None else tally.second
        at = (max(second or last_second, told + 1), key or entry.key)
        exchanges = 0 if tally is not None else 1
        if exchanges or entry.missing:
            count = counts.setdefault(at, _Count())
            count.answered += exchanges + entry.missing
            count.damaged += entry.missing
        if tally is not None:
            told = max(told, tally.second)
            counts = _without_told(counts, told)
    if len(counts) > MAX_UNTOLD:
        counts = _summed(counts)
    return tuple(
        Untold(*at, count.answered, count.damaged, count.stranded)
        for at, count in sorted(counts.items())
    )


def told_after(told: int, entries: Iterable[Entry]) -> int:
    """The second of the last tally once `entries`, which follow, are stored."""
    return max([told, *(entry.tally.second for entry in entries if entry.tally is not None)])


def with_lost(
    untold: Sequence[Untold], lost: int, last_second: int, key: Key
) -> tuple[Untold, ...]:
    """And so many records that are gone at the worker's end, where no number after them tells."""
    return (*untold, Untold(last_second, key, lost, lost)) if lost else tuple(untold)


def _without_told(counts: Counts, told: int) -> Counts:
    """Leave out what a tally of second `told` tells: that second, and as a rule all before it.

    But where records are missing and a second before it is still untold, its tally was among them.
    """
    has_gap = any(count.damaged for count in counts.values())
    kept: Counts = {}
    for at, count in counts.items():
        count.stranded = at[0] < told and (has_gap or count.stranded)
        if at[0] > told or count.stranded:
            kept[at] = count
    return kept


def _summed(counts: Counts) -> Counts:
    latest: dict[Key, int] = {}
    for second, key in counts:
        latest[key] = max(second, latest.get(key, 0))
    summed: Counts = {}
    for (_, key), count in counts.items():
        total = summed.setdefault((latest[key], key), _Count())
        total.answered += count.answered
        total.damaged += count.damaged
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
