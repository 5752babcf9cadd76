"""Read what the looks at an hour need from ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from mlops.feature_store.completeness import (
    COMPLETENESS_OF_SPAN,
    Completeness,
    completeness_of,
)
from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings
from mlops.monitoring.figures import (
    DEAD_ROWS,
    HOUR_S,
    HOURS,
    LATE_SCORES,
    VERSIONS,
    Collected,
    collected,
    hours_of,
    scores_of,
)


class HourLog:
    """Every call may raise `Unavailable` (ClickHouse is away: repeat it later)."""

    def __init__(self, client: Any, settings: ClickHouseSettings) -> None:
        """`open` makes one."""
        self._client, self._settings = client, settings
        self.log = FeatureLog(client, settings)

    @classmethod
    async def open(cls, settings: ClickHouseSettings) -> Self:
        """Connect; raises Unavailable."""
        return cls(await open_client(settings, database=settings.database), settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def collect(self, hour: int, baseline_hours: int) -> Collected:
        """Figures of the hour and of as many hours before it."""
        since = hour - baseline_hours * HOUR_S
        span = {"since": since, "until": hour + HOUR_S}
        hours = hours_of(await self._rows(HOURS, span, "read hours"))
        scores = scores_of(await self._rows(LATE_SCORES, span, "read late scores"))
        return collected(hour, since, hours, scores)

    async def completeness(self, hour: int) -> tuple[Completeness, ...]:
        """Of the hour, by route and arm."""
        span = {"since": hour, "until": hour + HOUR_S - 1}
        rows = await self._rows(COMPLETENESS_OF_SPAN, span, "read completeness")
        return completeness_of(rows)

    async def dead_letters(self, hour: int) -> int:
        """Records of the hour that could not become rows."""
        span = {"since": hour, "until": hour + HOUR_S}
        ((count,),) = await self._rows(DEAD_ROWS, span, "count dead letters")
        return int(count)

    async def versions(self, route: str, since: int, until: int) -> dict[int, str]:
        """What was stable in each generation that answered in the span."""
        span = {"route": route, "since": since, "until": until}
        rows = await self._rows(VERSIONS, span, f"read versions of {route}")
        return {generation: version for generation, version, _ in rows}

    async def _rows(
        self, text: str, parameters: Mapping[str, object], what: str
    ) -> Iterable[Sequence[Any]]:
        async with translated(self._settings, what):
            answer = await self._client.query(text, parameters=parameters)
            rows: list[Sequence[Any]] = answer.result_rows
            return rows
