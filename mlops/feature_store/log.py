"""The log of answered requests: written by the recorder, read by the agent."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlops.contracts.evidence import EmbeddingSums, Evidence, Pair
from mlops.contracts.record import Row
from mlops.contracts.tally import Tally
from mlops.feature_store.batch import (
    COUNT_STORED,
    RECOUNTS,
    STORED_RECORD_IDS,
    Batch,
    batch_of,
    check_token,
    microseconds,
)
from mlops.feature_store.completeness import COMPLETENESS_OF_SPAN, Completeness, completeness_of
from mlops.feature_store.connection import never_dropped, open_client, translated
from mlops.feature_store.embedding_sums import (
    HOURS,
    SAMPLE,
    SUMS,
    EmbeddingSample,
    check_span,
    embedding_sums,
)
from mlops.feature_store.entries import DeadLetter, Evaluation, ReleaseEvent, tally_row
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.evidence import (
    ANSWERED_COUNTS,
    SCORE_COUNTS,
    SECOND_COUNTS,
    TRAFFIC_ANSWERED,
    TRAFFIC_COUNTS,
    WATERMARK,
    WATERMARK_AND_SCORES,
    WorkerTally,
    answered_counts,
    closed_through,
    score_counts,
    second_counts,
    traffic_counts,
)
from mlops.feature_store.inserting import insert_columns, insert_rows
from mlops.feature_store.noise import STABLE_REQUESTS, Among, GroupCounts, group_counts, noise_sql
from mlops.feature_store.pairs import PAIRS, pairs
from mlops.feature_store.queries import TEXTS, LoggedQuery, logged_queries, queries_sql
from mlops.feature_store.schema import (
    DEAD_LETTER_TYPES,
    EVALUATION_TYPES,
    RELEASE_EVENT_TYPES,
    ROW_TYPES,
    TALLY_TYPES,
)
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.splits import SPLITS, Split, splits
from mlops.feature_store.tables import (
    BATCH,
    DEAD_LETTERS,
    EVALUATIONS,
    RELEASE_EVENTS,
    ROWS,
    TALLIES,
)

__all__ = [
    "DeadLetter",
    "Evaluation",
    "FeatureLog",
    "Refused",
    "ReleaseEvent",
    "Unavailable",
]

log = logging.getLogger(__name__)

MAX_REPAIRS = 3
"""Rounds of making a batch whole before the caller is told to come back later."""

_BATCH_TYPES = {**ROW_TYPES, BATCH: "String"}


class FeatureLog:
    """Rows, tallies, scores and events in one ClickHouse database.

    Every insert may be repeated with the same token after any failure: what it wrote is there once.
    Methods raise `Unavailable` (repeat the same later) or `Refused` (the batch itself is bad).
    """

    def __init__(self, client: Any, settings: ClickHouseSettings) -> None:
        self._client = client
        self._settings = settings

    @classmethod
    async def connect(cls, settings: ClickHouseSettings) -> FeatureLog:
        """Connect to a database that `migrate` has prepared.

        Raises:
            Unavailable: ClickHouse does not answer.
        """
        return cls(await open_client(settings, database=settings.database), settings)

    async def close(self) -> None:
        """Safe to repeat."""
        await self._client.close()

    async def insert_rows(
        self, rows: Sequence[Row], *, token: str, is_repeat: bool = False
    ) -> None:
        """Store a batch of rows and its counts per second, each exactly once.

        Returns only when the engine has been seen to hold all rows of the batch and counts that
        stand for as many rows. What is missing after a crash is made up for here.

        `is_repeat`: the batch may have been stored long ago, when the engine's window of tokens has
        passed it; then it is looked for first.
        """
        batch = batch_of(rows, token)
        if not is_repeat or (await self._count(batch))[0] < batch.rows:
            await self._insert_columns(batch, token)
        try:
            await self._make_whole(batch)
        except Refused as error:
            # Refused promises that nothing was stored; the rows may be, so only a repeat is safe.
            raise Unavailable(f"batch {token} was inserted but not verified: {error}") from error

    async def _make_whole(self, batch: Batch) -> None:
        """Look whether a batch that was inserted is stored and counted, and repair what is not."""
        token = batch.token
        for attempt in range(1, MAX_REPAIRS + 1):
            stored, *counted = await self._count(batch)
            uncounted = [
                recount for recount, rows in zip(RECOUNTS, counted, strict=True) if rows != stored
            ]
            if stored >= batch.rows and not uncounted:
                if stored > batch.rows:
                    log.error("batch %s: %d rows, stored %d", token, batch.rows, stored)
                return
            log.warning(
                "batch %s: %d rows, %d stored, %s counted; repairing (%d of %d)",
                token, batch.rows, stored, counted, attempt, MAX_REPAIRS,
            )  # fmt: skip
            if stored < batch.rows:
                await self._insert_missing(batch)
                uncounted = list(RECOUNTS)
            for recount in uncounted:
                await self._command(recount, batch.reach, "count a batch again")
        stored, *counted = await self._count(batch)
        if stored < batch.rows or any(rows != stored for rows in counted):
            raise Unavailable(
                f"batch {token}: {batch.rows} rows, but {stored} are stored and {counted} counted "
                f"after {MAX_REPAIRS} repairs"
            )

    async def insert_tallies(self, tallies: Sequence[Tally], *, token: str) -> None:
        """Store tallies; one of a worker and second that is stored again replaces itself."""
        check_token(token)
        await self._insert(TALLIES, TALLY_TYPES, [tally_row(tally) for tally in tallies])

    async def insert_dead_letters(self, letters: Sequence[DeadLetter], *, token: str) -> None:
        """Store dead letters; one per record."""
        check_token(token)
        rows = [
            (x.record_id, x.route, x.reason, x.payload_excerpt, microseconds(x.at)) for x in letters
        ]
        await self._insert(DEAD_LETTERS, DEAD_LETTER_TYPES, rows)

    async def insert_evaluations(self, evaluations: Sequence[Evaluation], *, token: str) -> None:
        """Store late scores. The same token with the same scores in the same order is one batch."""
        check_token(token)
        rows = [
            (x.request_id, x.name, x.score, microseconds(x.received_at), token, position)
            for position, x in enumerate(evaluations)
        ]
        await self._insert(EVALUATIONS, EVALUATION_TYPES, rows)

    async def insert_release_event(self, event: ReleaseEvent) -> None:
        """Store one event; two equal events are one."""
        values = [getattr(event, name) for name in RELEASE_EVENT_TYPES]
        values[list(RELEASE_EVENT_TYPES).index("at")] = microseconds(event.at)
        await self._insert(RELEASE_EVENTS, RELEASE_EVENT_TYPES, [values])

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        """Everything about `route` from second `since` to the watermark, or to `until` if sooner.

        Who writes evaluations reads with `until` the last whole second before it began to store
        what it had received: then no score of a second that was read is stored afterwards.

        The answer for a span of seconds below the watermark does not change when it is read again,
        but for workers that were taken for gone and came back. `release_id` narrows nothing here
        (generations tell releases apart); it names the reader in errors.
        """
        what = f"read evidence of {route}" + (f" for {release_id}" if release_id else "")
        heard = list(await self._rows(WATERMARK_AND_SCORES, {"since": since}, what))
        through = closed_through(WorkerTally(*row[:3]) for row in heard) or 0
        closed = through if until is None else min(through, until)
        if closed < since or not heard:
            last = since - 1
            return Evidence(route=route, since=since, closed_through=last, log_through=through)
        span: dict[str, object] = {"route": route, "since": since, "closed": closed}
        seconds, answered, scores = await asyncio.gather(
            self._rows(SECOND_COUNTS, span, what),
            self._rows(ANSWERED_COUNTS, span, what),
            self._rows(SCORE_COUNTS, span, what) if heard[0][3] else _nothing(),
        )
        return Evidence(
            route=route,
            since=since,
            closed_through=closed,
            log_through=through,
            seconds=second_counts(seconds),
            scores=score_counts(scores),
            answered=answered_counts(answered),
        )

    async def read_traffic(self, route: str, *, since: int, until: int, every_s: int) -> Evidence:
        """Counts of seconds `since` to `until`, or the watermark if sooner: summed over `every_s`
        seconds each, of which `second` is the first, and over generations. No scores.
        """
        what = f"read traffic of {route}"
        heard = await self._rows(WATERMARK, {}, what)
        closed = closed_through(WorkerTally(*row) for row in heard)
        last = until if closed is None else min(until, closed)
        span: dict[str, object] = {"route": route, "since": since, "closed": last, "every": every_s}
        seconds, answered = await asyncio.gather(
            self._rows(TRAFFIC_COUNTS, span, what), self._rows(TRAFFIC_ANSWERED, span, what)
        )
        return Evidence(
            route=route,
            since=since,
            closed_through=last,
            seconds=traffic_counts(seconds),
            answered=answered_counts(answered),
        )

    async def read_completeness(self, seconds: int = 60) -> tuple[Completeness, ...]:
        """Rows stored over requests answered, per route and arm, in the last `seconds` that every
        live worker's tally has passed. Nothing before the first tally.
        """
        what = "read the completeness of the log"
        heard = await self._rows(WATERMARK, {}, what)
        closed = closed_through(WorkerTally(*row) for row in heard)
        if closed is None:
            return ()
        span = {"since": closed - seconds + 1, "until": closed}
        return completeness_of(await self._rows(COMPLETENESS_OF_SPAN, span, what))

    async def read_embedding_sums(
        self, route: str, *, since: int, until: int, every_s: int = 1
    ) -> tuple[EmbeddingSums, ...]:
        """What the queries of `route` were about, from second `since` to `until`, both included.

        For drift: sums of embeddings, of lengths and of tokens for each `every_s` seconds, counted
        from `since`, in order of time. They are additive: add spans up until they hold as many
        queries as a block needs. Nothing is there for seconds without queries. Read up to
        `Evidence.closed_through`; what lies below it does not change any more.

        Raises:
            ValueError: more than 10,000 spans.
        """
        check_span(since, until, every_s)
        span: dict[str, object] = {"route": route, "since": since, "until": until}
        rows = await self._rows(SUMS, {**span, "every": every_s}, f"read embedding sums of {route}")
        return embedding_sums(rows)

    async def read_embedding_sample(
        self, sample: EmbeddingSample, *, since: int, until: int
    ) -> list[list[float]]:
        """Embeddings of the first queries that ended in seconds `since` to `until`, inclusive."""
        span = {**sample._asdict(), "since": since, "until": until}
        rows = await self._rows(SAMPLE, span, f"read embeddings of {sample.route}")
        return [row[0] for row in rows]

    async def read_hours(self, route: str, *, since: int, until: int) -> dict[tuple[int, int], int]:
        """Requests by day (from `since`, a midnight UTC) and hour, up to before `until`."""
        span: dict[str, object] = {"route": route, "since": since, "until": until}
        first = datetime.fromtimestamp(since, UTC).date()
        rows = await self._rows(HOURS, span, f"read the hours of {route}")
        return {((day - first).days, hour): count for day, hour, count in rows}

    async def read_queries(
        self, route: str, *, order: str, arm: str, minutes: int, limit: int
    ) -> list[LoggedQuery]:
        """Single queries of the last `minutes`, at most `limit`. Raises ValueError as
        `queries_sql`."""
        sql = queries_sql(order, arm)
        span: dict[str, object] = {"route": route, "minutes": minutes, "limit": limit}
        return logged_queries(await self._rows(sql, span, f"read queries of {route}"))

    async def read_pairs(
        self, route: str, *, since: int, until: int, limit: int = 10_000
    ) -> tuple[Pair, ...]:
        """Mirrored requests of `route` with both answers, of which the later one ended in seconds
        `since` to `until`, both included; in the order in which they were complete.

        A mirrored answer belongs to the served one with its request id and generation that began
        nearest to it. At most `limit` pairs, the earliest of them. Read up to
        `Evidence.closed_through`; what lies below it does not change any more.
        """
        span: dict[str, object] = {"route": route, "since": since, "until": until, "limit": limit}
        return pairs(await self._rows(PAIRS, span, f"read pairs of {route}"))

    async def read_stable_requests(self, *, since: int, until: int) -> dict[str, int]:
        """Of each route in seconds `since` to `until`, both included."""
        rows = await self._rows(
            STABLE_REQUESTS, {"since": since, "until": until}, "count stable's requests"
        )
        return {route: int(count) for route, count in rows}

    async def read_noise(
        self, route: str, among: Among, *, since: int, until: int, every_s: int
    ) -> tuple[GroupCounts, ...]:
        """Stable against stable in seconds `since` to `until`. Reads rows: the caller bounds how
        many there are."""
        span: dict[str, object] = {"route": route, "since": since, "until": until, "every": every_s}
        return group_counts(await self._rows(noise_sql(among), span, f"read the noise of {route}"))

    async def read_texts(
        self, route: str, ids: Sequence[str], *, since: int, until: int
    ) -> dict[str, str | None]:
        """What was asked in those requests; None where it was not kept."""
        span = {"route": route, "since": since, "until": until, "ids": list(ids)}
        return dict(await self._rows(TEXTS, span, f"read texts of {route}"))

    async def read_splits(self, route: str, *, since: int, until: int) -> tuple[Split, ...]:
        """Each generation of `route` in seconds `since` to `until`, and how it split traffic."""
        span: dict[str, object] = {"route": route, "since": since, "until": until}
        return splits(await self._rows(SPLITS, span, f"read splits of {route}"))

    async def _insert_columns(self, batch: Batch, token: str) -> None:
        async with translated(self._settings, f"insert batch {batch.token}"):
            columns = [*batch.columns, [batch.token] * batch.rows]
            await insert_columns(self._client, ROWS, _BATCH_TYPES, columns, token=token)

    async def _insert_missing(self, batch: Batch) -> None:
        """Rows the engine remembers as stored but does not have: under a token it cannot know."""
        stored = await self._rows(STORED_RECORD_IDS, batch.reach, "look for missing rows")
        missing = batch.without(frozenset(record_id for (record_id,) in stored))
        if missing.rows:
            await self._insert_columns(missing, f"{batch.token}#{secrets.token_hex(8)}")

    async def _count(self, batch: Batch) -> list[int]:
        """Rows stored, then rows that each aggregate stands for."""
        (counts,) = await self._rows(COUNT_STORED, batch.reach, "count a batch")
        return [int(count) for count in counts]

    async def _insert(
        self, table: str, types: Mapping[str, str], rows: Sequence[Sequence[object]]
    ) -> None:
        if not rows:
            return
        async with translated(self._settings, f"insert {len(rows)} into {table}"):
            await insert_rows(self._client, table, types, rows)

    async def _command(self, sql: str, parameters: Mapping[str, object], what: str) -> None:
        async with translated(self._settings, what):
            await self._client.command(sql, parameters=dict(parameters), settings=never_dropped())

    async def _rows(
        self, sql: str, parameters: Mapping[str, object], what: str
    ) -> Iterable[tuple[Any, ...]]:
        async with translated(self._settings, what):
            answer = await self._client.query(sql, parameters=dict(parameters))
            rows: list[tuple[Any, ...]] = answer.result_rows
            return rows


async def _nothing() -> Iterable[tuple[Any, ...]]:
    return ()
