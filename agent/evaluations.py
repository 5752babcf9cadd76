"""Late scores on their way to ClickHouse: taken at once, stored in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

from agent.metrics import Metrics
from mlops.feature_store.entries import Evaluation
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

MAX_WAITING = 100_000
"""About 20 MB, and a minute and a half at 1,000 a second. Past this we refuse with 503."""

MAX_BATCH = 10_000
"""Scores in one insert."""

STORE_EVERY_S = 0.5

RETRY_AFTER_S = 2.0
"""Between attempts while ClickHouse is away."""


class ScoreStore(Protocol):
    """Where late scores are kept."""

    async def insert_evaluations(self, evaluations: Sequence[Evaluation], *, token: str) -> None:
        """Once, however often it is tried under one token. Raises Unavailable, Refused."""


class Evaluations:
    """What is here and not stored is lost if this process is killed: half a second's worth."""

    def __init__(self, store: ScoreStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: deque[Evaluation] = deque()
        self._batch: tuple[str, list[Evaluation]] | None = None
        """Being stored, under a token that stays the same whatever becomes of an attempt."""

    def offer(self, evaluations: Sequence[Evaluation]) -> bool:
        """All or none; False where there is no room."""
        if len(self._waiting) + len(evaluations) > MAX_WAITING:
            self._metrics.evaluations.labels("refused").inc(len(evaluations))
            return False
        self._waiting.extend(evaluations)
        self._metrics.evaluations.labels("accepted").inc(len(evaluations))
        return True

    def stored_through(self, now_s: float) -> int:
        """The last whole second of which no score is still here: reading up to it misses none."""
        waiting = self._batch[1] if self._batch is not None else self._waiting
        oldest_s = waiting[0].received_at.timestamp() if waiting else now_s
        return int(min(oldest_s, now_s)) - 1

    async def run(self) -> None:
        """Store, until cancelled."""
        while True:
            stored = await self.flush()
            # Scores are gathered into batches: waiting for the first one would store it alone.
            await asyncio.sleep(STORE_EVERY_S if stored else RETRY_AFTER_S)

    async def flush(self) -> bool:
        """Store everything that waits; False if ClickHouse is away."""
        while self._batch is not None or self._waiting:
            if self._batch is None:
                size = min(MAX_BATCH, len(self._waiting))
                self._batch = uuid4().hex, [self._waiting.popleft() for _ in range(size)]
            token, batch = self._batch
            try:
                await self._store.insert_evaluations(batch, token=token)
            except Unavailable as error:
                log.warning("%d late scores wait for ClickHouse: %s", len(batch), error)
                return False
            except Refused as error:
                log.error("%d late scores were refused: %s", len(batch), error)  # noqa: TRY400
                self._metrics.evaluations.labels("lost").inc(len(batch))
            else:
                self._metrics.evaluations.labels("stored").inc(len(batch))
            self._batch = None
        return True
