"""How complete the log is, as a metric: rows stored over requests answered, of the last minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from mlops.feature_store.completeness import Completeness
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
"""Between two looks: a scrape or two."""


class CompletenessGauge:
    """Of every route and arm in the store, whichever gateway answered.

    While the store cannot be asked there is no value: an old one would look like a good one.
    """

    def __init__(
        self, read: Callable[[], Awaitable[tuple[Completeness, ...]]], registry: CollectorRegistry
    ) -> None:
        self._read = read
        self._ratio = Gauge(
            "log_completeness_ratio",
            "Rows stored over requests answered, of the last minute that is complete",
            ["route", "arm"],
            registry=registry,
        )

    async def look(self) -> None:
        """Read once."""
        try:
            found = await self._read()
        except (Unavailable, Refused) as error:
            self._ratio.clear()
            log.warning("the completeness of the log is not known: %s", error)
            return
        self._ratio.clear()
        for one in found:
            if one.ratio is not None:
                self._ratio.labels(one.route, one.arm).set(one.ratio)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)
