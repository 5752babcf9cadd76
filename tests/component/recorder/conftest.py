"""A spool with real writers, and a feature log that remembers what it was given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.record import ExchangeRecord
from gateway.recorder.app import Recorder
from gateway.recorder.settings import RecorderSettings
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter
from mlops.contracts.record import Row
from mlops.contracts.tally import Tally
from mlops.feature_store.entries import DeadLetter
from mlops.feature_store.errors import Refused, Unavailable
from tests.exchanges import recorded, stamp

LIMIT_BYTES = 64 * 1024**2
WAIT_S = 20.0
"""Longest wait for something that must happen."""


class RememberingLog:
    """Keeps batches by token, as the engine does: the same token again changes nothing."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.tallies: dict[str, list[Tally]] = {}
        self.letters: dict[str, list[DeadLetter]] = {}
        self.calls: list[tuple[str, str, int]] = []
        """Kind, token and size of every attempt, in order."""
        self.repeats: list[str] = []
        """Tokens that came with the word that they may have been stored before."""
        self.away_before = 0
        """So many inserts from now on fail without storing anything."""
        self.away_after = 0
        """Then so many are stored, but the caller hears that they failed."""
        self.dies_after = 0
        """So many inserts are stored, the last one unheard; every later one fails. 0: never."""
        self.poisoned: set[str] = set()
        """Requests whose rows are refused."""
        self.poisoned_seconds: set[int] = set()
        """Of tallies that are refused."""

    async def insert_rows(
        self, rows: Sequence[Row], *, token: str, is_repeat: bool = False
    ) -> None:
        if is_repeat:
            self.repeats.append(token)
        if any(row.request_id in self.poisoned for row in rows):
            self.calls.append(("rows", token, len(rows)))
            raise Refused("a poisoned row")
        self._store("rows", self.rows, rows, token)

    async def insert_tallies(self, tallies: Sequence[Tally], *, token: str) -> None:
        if any(tally.second in self.poisoned_seconds for tally in tallies):
            raise Refused("a poisoned tally")
        self._store("tallies", self.tallies, tallies, token)

    async def insert_dead_letters(self, letters: Sequence[DeadLetter], *, token: str) -> None:
        self._store("letters", self.letters, letters, token)

    def _store(self, kind: str, table: dict[str, Any], values: Sequence[Any], token: str) -> None:
        self.calls.append((kind, token, len(values)))
        if self.away_before:
            self.away_before -= 1
            raise Unavailable("away")
        if token in table:
            assert table[token] == list(values), "the same token, but other values"
        table[token] = list(values)
        if self.dies_after:
            self.dies_after -= 1
            if not self.dies_after:
                self.away_before = 10**9
                raise Unavailable("the connection broke for good")
        if self.away_after:
            self.away_after -= 1
            raise Unavailable("the connection broke")

    def request_ids(self) -> list[str]:
        return [row.request_id for rows in self.rows.values() for row in rows]

    def all_letters(self) -> list[DeadLetter]:
        return [letter for letters in self.letters.values() for letter in letters]

    def all_tallies(self) -> list[Tally]:
        return [tally for tallies in self.tallies.values() for tally in tallies]


class Harness:
    """One spool directory, its writers, and one recorder at a time."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.log = RememberingLog()
        self.writers: list[SpoolWriter] = []

    def writer(self) -> SpoolWriter:
        settings = SpoolSettings(dir=self.spool, limit_bytes=LIMIT_BYTES)
        writer = SpoolWriter.open(settings, len(self.writers))
        self.writers.append(writer)
        return writer

    @contextlib.asynccontextmanager
    async def recording(self, **changes: Any) -> AsyncIterator[Recorder]:
        settings = RecorderSettings(
            spool_dir=self.spool, **{"batch_s": 0.05, "stop_s": 1.0, **changes}
        )
        recorder = Recorder(settings, self.log, jitter=lambda: 0.0, clock_s=time.monotonic)
        async with recorder.running():
            yield recorder

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                await asyncio.sleep(0.01)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path / "spool")
    yield harness
    for writer in harness.writers:
        writer.close()


def _exchange(request_id: str, **changes: Any) -> ExchangeRecord:
    """Of a canary that failed once, so that stable answered."""
    values: dict[str, Any] = {
        "stamp": stamp(served_arm="stable", profile="native"),
        "request_id": request_id.encode(),
        "request_body": b'{"query_text": "why", "user_id": "u1"}',
        "response_body": b'{"relevance_score": 0.5, "documents": [{"id": "d", "score": 0.9}]}',
        "first_attempt_outcome": 3,
        "attempts": 2,
    }
    return recorded(**{**values, **changes})


@pytest.fixture
def exchange() -> Callable[..., ExchangeRecord]:
    return _exchange
