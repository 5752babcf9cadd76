"""The feature log, connected when it is first needed: ClickHouse may start after the recorder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mlops.contracts.record import Row
from mlops.contracts.tally import Tally
from mlops.feature_store.completeness import Completeness
from mlops.feature_store.entries import DeadLetter
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings


class ConnectingLog:
    """A `Sink` for which a ClickHouse that does not answer yet is one that is away."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._log: FeatureLog | None = None
        self._connecting = asyncio.Lock()

    async def insert_rows(
        self, rows: Sequence[Row], *, token: str, is_repeat: bool = False
    ) -> None:
        """As `FeatureLog.insert_rows`."""
        await (await self._connected()).insert_rows(rows, token=token, is_repeat=is_repeat)

    async def insert_tallies(self, tallies: Sequence[Tally], *, token: str) -> None:
        """As `FeatureLog.insert_tallies`."""
        await (await self._connected()).insert_tallies(tallies, token=token)

    async def insert_dead_letters(self, letters: Sequence[DeadLetter], *, token: str) -> None:
        """As `FeatureLog.insert_dead_letters`."""
        await (await self._connected()).insert_dead_letters(letters, token=token)

    async def read_completeness(self) -> tuple[Completeness, ...]:
        """As `FeatureLog.read_completeness`, of the last minute."""
        return await (await self._connected()).read_completeness()

    async def close(self) -> None:
        """Nothing where nothing was connected."""
        if self._log is not None:
            await self._log.close()

    async def _connected(self) -> FeatureLog:
        async with self._connecting:  # several tailers, one connection
            if self._log is None:
                self._log = await FeatureLog.connect(self._settings)
            return self._log
