"""Tell others what happened: live listeners at once, ClickHouse as soon as it answers.

The database is the truth; both readers here follow it by sequence number.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from agent.memory import Memory, MemoryUnavailable
from mlops.contracts.release import ReleaseEvent
from mlops.feature_store.entries import ReleaseEvent as StoredEvent
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

MAX_LISTENERS = 64
"""Open consoles and watchers of one agent."""

MAX_QUEUED = 256
"""Events a slow listener may be behind; then it is cut off and reads the history again."""

MAX_UNSTORED = 1_000
"""Events kept for ClickHouse while it is away: weeks of releases. Past this the oldest goes,
and remains in the database."""


class EventStore(Protocol):
    """Where the history is kept beside the database."""

    async def insert_release_event(self, event: StoredEvent) -> None:
        """Store it; an equal one is stored once. Raises Unavailable, Refused."""


class Listener:
    """One live reader. `get` returns None once it was cut off."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ReleaseEvent | None] = asyncio.Queue(MAX_QUEUED + 1)

    async def get(self) -> ReleaseEvent | None:
        """Wait for the next one."""
        return await self._queue.get()

    def put(self, event: ReleaseEvent) -> bool:
        """False: too far behind, cut off."""
        if self._queue.qsize() >= MAX_QUEUED:
            self._queue.put_nowait(None)
            return False
        self._queue.put_nowait(event)
        return True

    def close(self) -> None:
        """End the stream after what is queued."""
        self._queue.put_nowait(None)


class Journal:
    """Follows the database's events; `follow` is called once a cycle."""

    def __init__(self, memory: Memory, last_sequence: int) -> None:
        self._memory = memory
        self._seen = last_sequence
        self._listeners: set[Listener] = set()
        self._unstored: deque[ReleaseEvent] = deque(maxlen=MAX_UNSTORED)

    @property
    def unstored(self) -> int:
        """Events that ClickHouse does not have yet."""
        return len(self._unstored)

    def listen(self) -> Listener | None:
        """None: enough listen already."""
        if len(self._listeners) >= MAX_LISTENERS:
            return None
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget the listener; also one that was cut off."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Cut every listener off."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def follow(self) -> Sequence[ReleaseEvent]:
        """Read what is new and pass it on."""
        try:
            events = await self._memory.events(after=self._seen)
        except MemoryUnavailable as error:
            log.warning("journal: %s", error)
            return ()
        for event in events:
            self._seen = event.sequence
            self._unstored.append(event)
            self._listeners = {one for one in self._listeners if one.put(event)}
        return events

    async def store(self, store: EventStore) -> None:
        """Bring what is not there yet to ClickHouse; stops at the first failure.

        Equal events are stored once, so repeating one whose outcome is unknown is safe.
        """
        while self._unstored:
            event = self._unstored[0]
            try:
                await store.insert_release_event(_stored(event))
            except Unavailable as error:
                log.info("journal: %d events wait for ClickHouse: %s", self.unstored, error)
                return
            except Refused as error:
                log.error("journal: event %d was refused: %s", event.sequence, error)  # noqa: TRY400
            if self._unstored and self._unstored[0] is event:
                self._unstored.popleft()


def _stored(event: ReleaseEvent) -> StoredEvent:
    return StoredEvent(
        release_id=event.release_id,
        route=event.route,
        at=datetime.fromisoformat(event.at).astimezone(UTC),
        kind=event.kind,
        actor=event.actor,
        from_share_bp=event.from_share_bp,
        to_share_bp=event.to_share_bp,
        reason=event.reason,
        detail_json=msgspec.json.encode(event.detail).decode(),
    )
