"""The feature store as a data scientist uses it: store queries, get training data, look back."""

from __future__ import annotations

import asyncio
import secrets
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from msgspec.structs import replace

from mlops.feature_store.batch import MAX_BATCH_ROWS, microseconds
from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.entries import Evaluation
from mlops.feature_store.eraser import Eraser
from mlops.feature_store.erasure import Erased
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.offered import Defaults, InvalidFeatures, row_of
from mlops.feature_store.performance import HISTORY, REFRESH, ModelPerformance, history
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.statistics import FeatureStatistics, statistics_of, statistics_statement
from mlops.feature_store.training_data import Selection, TrainingData

MAX_DAYS = 3660
"""Of one look back: ten years."""

CLOSE_TIMEOUT_S: Final = 5.0
"""Longest wait for idle connections to close; then the process ends without."""

P = ParamSpec("P")
T = TypeVar("T")


def utc_now() -> datetime:
    """The wall clock of whoever gives none."""
    return datetime.now(UTC)


class AsyncClickHouseFeatureStore:
    """Every call may raise `Unavailable` (ClickHouse is away: repeat it later)."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        *,
        defaults: Defaults | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`settings` name a database that `migrate` has prepared; nothing is connected yet."""
        self._settings = settings
        self._defaults = defaults or Defaults()
        self._clock = clock
        self._client: Any = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Safe to repeat."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def store_query_features(self, features: Mapping[str, object]) -> str:
        """Store one query; the `record_id` it got. Many are far cheaper with `store_many`.

        Raises:
            InvalidFeatures: names every problem; nothing was stored.
        """
        (record_id,) = await self.store_many([features])
        return record_id

    async def store_many(self, queries: Sequence[Mapping[str, object]]) -> list[str]:
        """Store up to 65,536 queries, all or none of them; their `record_id`s in order.

        Raises:
            InvalidFeatures: names every problem of every query; nothing was stored.
            ValueError: more than one batch can hold.
        """
        if len(queries) > MAX_BATCH_ROWS:
            raise ValueError(f"{len(queries):,} queries at once, at most {MAX_BATCH_ROWS:,}")
        if not queries:
            return []
        token, now = f"direct-{secrets.token_hex(12)}", self._clock()
        rows, found = [], []
        for position, features in enumerate(queries):
            where = f"query {position}: " if len(queries) > 1 else ""
            try:
                row = row_of(
                    features,
                    record_id=f"{token}-{position}",
                    now=now,
                    defaults=self._defaults,
                )
            except InvalidFeatures as error:
                found += [f"{where}{problem}" for problem in error.problems]
            else:
                rows.append(row)
        if found:
            raise InvalidFeatures(found)
        await (await self._log()).insert_rows(rows, token=token)
        return [row.record_id for row in rows]

    async def record_evaluation(self, request_id: str, name: str, score: float) -> None:
        """A quality score in 0..1 that came after the answer; judged when it arrives.

        Raises:
            ValueError: no request id, or a score outside 0..1.
        """
        evaluation = Evaluation(
            request_id=request_id, name=name, score=score, received_at=self._clock()
        )
        log = await self._log()
        await log.insert_evaluations([evaluation], token=f"direct-{secrets.token_hex(12)}")

    async def get_training_data(
        self, limit: int = 10_000, *, selection: Selection | None = None, **filters: Any
    ) -> TrainingData:
        """Answered queries with their texts, embeddings and scores: see `Selection` for filters.

        Raises:
            ValueError: a filter does not fit.
            TypeError: an unknown filter, or `selection` beside filters.
        """
        if selection is not None and filters:
            raise TypeError(f"selection and {', '.join(sorted(filters))} are given; expected one")
        chosen = replace(selection, limit=limit) if selection else Selection(limit=limit, **filters)
        text, parameters = chosen.statement()
        client = await self._connected()
        async with translated(self._settings, "read training data"):
            return TrainingData(await client.query_arrow(text, parameters=parameters))

    async def get_model_performance_history(
        self, model_name: str, days: int = 30
    ) -> list[ModelPerformance]:
        """One entry per day, version and arm, oldest first; today's is not over yet."""
        rows = await self._query(
            HISTORY, {"model": model_name, "since": self._days_ago(days)}, "read the history"
        )
        return history(rows)

    async def refresh_model_performance(self, since: datetime, until: datetime) -> None:
        """Keep the hours from `since` to `until` in the table that outlives the rows.

        May be repeated: an hour that is written again replaces itself.

        Raises:
            ValueError: not whole hours with a time zone, or nothing between them.
        """
        for name, moment in (("since", since), ("until", until)):
            if moment.tzinfo is None or microseconds(moment) % 3_600_000_000:
                raise ValueError(f"{name} {moment} is not a whole hour with a time zone")
        if since >= until:
            raise ValueError(f"since {since} is not before until {until}")
        span = {"since": int(since.timestamp()), "until": int(until.timestamp())}
        client = await self._connected()
        async with translated(self._settings, "refresh the model performance"):
            await client.command(REFRESH, parameters=span)

    async def feature_statistics(
        self, route: str | None = None, days: int = 1
    ) -> dict[str, FeatureStatistics]:
        """By feature: how many rows have it, and how its values lie."""
        text, parameters = statistics_statement(route, self._days_ago(days))
        rows = await self._query(text, parameters, "read feature statistics")
        return statistics_of(rows)

    async def erase_user(self, user_id: str) -> Erased:
        """Delete everything of one user: rows, late scores, dead letters that name the user.

        Returns when it is gone from the disk too, after some seconds. May be repeated, and must be
        where rows of the user are still in a spool. Archived days and training partitions are for
        `rag-mlops erase`. `user_id` is as stored: where the recorder hashes it, the hash.

        Raises:
            ValueError: no user is named.
        """
        return await Eraser(await self._connected(), self._settings).erase(user_id)

    def _days_ago(self, days: int) -> int:
        if not 1 <= days <= MAX_DAYS:
            raise ValueError(f"days {days} is outside 1..{MAX_DAYS}")
        return int((self._clock() - timedelta(days=days)).timestamp())

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                self._client = await open_client(self._settings, database=self._settings.database)
            return self._client

    async def _log(self) -> FeatureLog:
        return FeatureLog(await self._connected(), self._settings)

    async def _query(
        self, text: str, parameters: dict[str, object], what: str
    ) -> Iterable[Sequence[Any]]:
        client = await self._connected()
        async with translated(self._settings, what):
            answer = await client.query(text, parameters=parameters)
            rows: list[Sequence[Any]] = answer.result_rows
            return rows


def _blocking(
    method: Callable[Concatenate[AsyncClickHouseFeatureStore, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[ClickHouseFeatureStore, P], T]:
    """The same call for code without an event loop."""

    def call(self: ClickHouseFeatureStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.wait_for(method(self.store, *args, **kwargs))

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, store: AsyncClickHouseFeatureStore
) -> None:
    closed = asyncio.run_coroutine_threadsafe(store.close(), loop)
    closed.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    if threading.current_thread() is not thread:  # garbage may be collected in any thread
        thread.join(CLOSE_TIMEOUT_S)


class ClickHouseFeatureStore:
    """`AsyncClickHouseFeatureStore` for code that blocks: notebooks, jobs, several threads.

    Its calls run one event loop in a thread of its own, which ends with `close`, the store, or the
    process, whichever is first.
    """

    def __init__(
        self,
        settings: ClickHouseSettings | None = None,
        *,
        defaults: Defaults | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Without `settings` the `MLOPS_CLICKHOUSE_*` variables say where ClickHouse is."""
        from mlops.config import read_config  # noqa: PLC0415  it is made of this package's settings

        chosen = settings or read_config().clickhouse
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(
            target=_run, args=(self._loop,), name="feature store", daemon=True
        )
        thread.start()
        self.store = AsyncClickHouseFeatureStore(chosen, defaults=defaults, clock=clock)
        # Where nobody calls `close`: when the last reference goes, at the latest with the process.
        self._end = weakref.finalize(self, _end, self._loop, thread, self.store)

    def wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        """Run `call` on the store's loop; each is bounded by its own timeouts.

        Raises:
            RuntimeError: the store is closed.
        """
        if not self._end.alive:
            call.close()
            raise RuntimeError("the feature store is closed")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def close(self) -> None:
        """Safe to repeat."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_training_data(
        self, limit: int = 10_000, *, selection: Selection | None = None, **filters: Any
    ) -> TrainingData:
        """As `AsyncClickHouseFeatureStore.get_training_data`."""
        return self.wait_for(self.store.get_training_data(limit, selection=selection, **filters))

    store_query_features = _blocking(AsyncClickHouseFeatureStore.store_query_features)
    store_many = _blocking(AsyncClickHouseFeatureStore.store_many)
    record_evaluation = _blocking(AsyncClickHouseFeatureStore.record_evaluation)
    get_model_performance_history = _blocking(
        AsyncClickHouseFeatureStore.get_model_performance_history
    )
    refresh_model_performance = _blocking(AsyncClickHouseFeatureStore.refresh_model_performance)
    feature_statistics = _blocking(AsyncClickHouseFeatureStore.feature_statistics)
    erase_user = _blocking(AsyncClickHouseFeatureStore.erase_user)
