"""The feature store, connected when first needed: the agent starts and runs without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings

P = ParamSpec("P")
R = TypeVar("R")


def _once_connected(
    method: Callable[Concatenate[FeatureLog, P], Awaitable[R]],
) -> Callable[Concatenate[PatientLog, P], Coroutine[Any, Any, R]]:
    """The same method, of the log that is connected to at the first call of any."""

    @wraps(method)
    async def call(self: PatientLog, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await method(await self.connected(), *args, **kwargs)

    return call


class PatientLog:
    """What the agent needs of `FeatureLog`. Methods raise Unavailable while it cannot connect."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connected: FeatureLog | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> FeatureLog:
        """The log itself; who waits for the first connection waits for one."""
        async with self._connecting:
            if self._connected is None:
                self._connected = await FeatureLog.connect(self._settings)
            return self._connected

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connected is not None:
            await self._connected.close()

    read_evidence = _once_connected(FeatureLog.read_evidence)
    read_traffic = _once_connected(FeatureLog.read_traffic)
    read_pairs = _once_connected(FeatureLog.read_pairs)
    read_queries = _once_connected(FeatureLog.read_queries)
    read_embedding_sums = _once_connected(FeatureLog.read_embedding_sums)
    read_embedding_sample = _once_connected(FeatureLog.read_embedding_sample)
    read_hours = _once_connected(FeatureLog.read_hours)
    read_texts = _once_connected(FeatureLog.read_texts)
    read_splits = _once_connected(FeatureLog.read_splits)
    insert_release_event = _once_connected(FeatureLog.insert_release_event)
    insert_evaluations = _once_connected(FeatureLog.insert_evaluations)
