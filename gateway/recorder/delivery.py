"""Put one range of records into the feature store, however long that takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Protocol

import msgspec
from msgspec.structs import replace

from gateway.recorder.entries import UNKNOWN, Entry, letter_of
from gateway.recorder.metrics import RecorderMetrics
from mlops.contracts.record import Row
from mlops.contracts.tally import Tally
from mlops.feature_store.entries import MAX_EXCERPT_CHARS, DeadLetter
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
"""An engine that is back is found within so long; until then one attempt costs it nothing."""
SLOW_S = 0.75
"""An insert that takes longer is told: evidence will be late."""
SLOW_AGAIN_S = 60.0
"""And no sooner again, however many take that long."""


class Sink(Protocol):
    """What is needed of `mlops.feature_store.log.FeatureLog`. May raise Unavailable, Refused."""

    async def insert_rows(
        self, rows: Sequence[Row], *, token: str, is_repeat: bool = False
    ) -> None:
        """Each row and its counts once, whatever is repeated under the token."""

    async def insert_tallies(self, tallies: Sequence[Tally], *, token: str) -> None:
        """A worker's tally of a second replaces itself."""

    async def insert_dead_letters(self, letters: Sequence[DeadLetter], *, token: str) -> None:
        """One for each record."""


class TooManyRows(Exception):
    """The feature store refused several rows at once: one of them is bad, find out which."""


class Stopped(Exception):
    """The recorder is ending while the feature store is away. Nothing is lost: it is in a range."""


class Slowness:
    """Which inserts are worth a line in the log."""

    def __init__(self) -> None:
        self._not_before_s = -inf

    def is_news(self, took_s: float, now_s: float) -> bool:
        """Whether an insert that `took_s` is told at `now_s`, on a monotonic clock."""
        if took_s <= SLOW_S or now_s < self._not_before_s:
            return False
        self._not_before_s = now_s + SLOW_AGAIN_S
        return True


class Delivery:
    """Inserts with patience. `jitter` gives numbers in 0..1; `stopping` ends the patience."""

    def __init__(
        self,
        sink: Sink,
        metrics: RecorderMetrics,
        stopping: asyncio.Event,
        jitter: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._metrics = metrics
        self._stopping = stopping
        self._jitter = jitter
        self._slowness = Slowness()
        self.on_stored: Callable[[Sequence[Entry]], None] | None = None
        """Told of entries whose rows the feature store has just taken; must not wait or raise."""

    async def deliver(
        self, entries: Sequence[Entry], token: str, *, is_repeat: bool = False
    ) -> None:
        """Store everything in `entries`: rows, then tallies, then dead letters.

        A tally says that the rows before it are stored, so it goes after them. `is_repeat`: another
        process may have stored them, who knows when.

        Raises:
            TooManyRows: the rows were refused; nothing at all was stored.
            Stopped: see there.
        """
        rows = [entry.row for entry in entries if entry.row is not None]
        letters = [_dated(entry.letter) for entry in entries if entry.letter is not None]
        tallies = [entry.tally for entry in entries if entry.tally is not None]
        if rows:
            try:
                await self._patiently(
                    lambda: self._sink.insert_rows(rows, token=token, is_repeat=is_repeat)
                )
                self._metrics.rows.inc(len(rows))
                if self.on_stored is not None:
                    self.on_stored(entries)
            except Refused as exc:
                if len(rows) > 1:
                    raise TooManyRows(str(exc)) from exc
                letters.append(letter_of(rows[0], f"refused: {exc}"))
        for tally, reason in await self._refused_tallies(tallies, token):
            letters.append(_tally_letter(tally, reason))
        await self._insert_letters(letters, token)
        self._metrics.batches.inc()

    async def deliver_tally(self, tally: Tally, token: str) -> None:
        """Store a tally that stands in no spool.

        Raises:
            Stopped: see there.
        """
        for _, reason in await self._refused_tallies([tally], token):
            log.error("the final tally of worker %s was refused: %s", tally.worker, reason)

    async def _refused_tallies(
        self, tallies: Sequence[Tally], token: str
    ) -> list[tuple[Tally, str]]:
        """Store tallies; those refused, with the reasons.

        Grouping them anew is safe: a worker's tally of a second replaces itself.
        """
        if not tallies:
            return []
        try:
            await self._patiently(lambda: self._sink.insert_tallies(tallies, token=token))
        except Refused as exc:
            if len(tallies) == 1:
                return [(tallies[0], str(exc))]
            refused = []
            for number, tally in enumerate(tallies):
                refused += await self._refused_tallies([tally], f"{token}/{number}")
            return refused
        return []

    async def _insert_letters(self, letters: Sequence[DeadLetter], token: str) -> None:
        """Store dead letters; there is no table for one that is refused itself, so it is logged."""
        if not letters:
            return
        try:
            await self._patiently(lambda: self._sink.insert_dead_letters(letters, token=token))
            self._metrics.dead_letters.inc(len(letters))
        except Refused:
            if len(letters) == 1:
                self._metrics.lost_letters.inc()
                log.exception("dead letter %s was refused", letters[0].record_id)
                return
            for number, letter in enumerate(letters):
                await self._insert_letters([letter], f"{token}/{number}")

    async def _patiently(self, insert: Callable[[], Awaitable[None]]) -> None:
        backoff_s, attempts = FIRST_BACKOFF_S, 1
        clock_s = asyncio.get_running_loop().time
        while True:
            began_s = clock_s()
            try:
                await insert()
            except Unavailable as exc:
                if attempts == 1:
                    log.warning("the feature store is away, records stay in the spool: %s", exc)
            else:
                if attempts > 1:
                    log.info("the feature store takes records again, after %d attempts", attempts)
                now_s = clock_s()
                if self._slowness.is_news(now_s - began_s, now_s):
                    took_s = now_s - began_s
                    log.warning("the feature store is slow: an insert took %.1f s", took_s)
                return
            attempts += 1
            self._metrics.retries.inc()
            if await stops_within(self._stopping, backoff_s * (0.5 + self._jitter() / 2)):
                raise Stopped
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)


async def stops_within(stopping: asyncio.Event, timeout_s: float) -> bool:
    """Wait that long, or until the recorder is to end."""
    try:
        async with asyncio.timeout(timeout_s):
            await stopping.wait()
    except TimeoutError:
        return False
    return True


def _dated(letter: DeadLetter) -> DeadLetter:
    """Where it does not say when, it is of now: as one of 1970 nobody would find it among the
    latest, and a retention would take it at once."""
    return replace(letter, at=datetime.now(UTC)) if letter.at == UNKNOWN else letter


def _tally_letter(tally: Tally, reason: str) -> DeadLetter:
    return DeadLetter(
        record_id=f"{tally.worker}-tally-{tally.second}",
        route="",
        reason=f"tally refused: {reason}",
        payload_excerpt=msgspec.json.encode(tally).decode()[:MAX_EXCERPT_CHARS],
        at=datetime.fromtimestamp(tally.second, UTC),
    )
