"""Days of the tables as Parquet on a real S3 server: whole, verified, and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from pyarrow import parquet

from mlops.artifact_store.bucket import Bucket
from mlops.config import MinioSettings
from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store.archive import Archive
from mlops.feature_store.archive_plan import ARCHIVED
from mlops.feature_store.connection import open_client
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.log import DeadLetter, Evaluation, FeatureLog, ReleaseEvent
from mlops.feature_store.object_store import ObjectStore
from mlops.feature_store.offered import Defaults, row_of
from mlops.feature_store.settings import ClickHouseSettings

DAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TODAY = date(2026, 6, 1)


@pytest.fixture
async def archive(settings: ClickHouseSettings, s3_server: MinioSettings) -> AsyncIterator[Archive]:
    async with Archive.connected(settings, ObjectStore(Bucket(s3_server))) as connected:
        yield connected


async def query(settings: ClickHouseSettings, sql: str) -> list[tuple[Any, ...]]:
    client = await open_client(settings, database=settings.database)
    try:
        return [tuple(found) for found in (await client.query(sql)).result_rows]
    finally:
        await client.close()


async def store_rows(log: FeatureLog, count: int, token: str, *, day: int = 0) -> None:
    rows = [
        row_of(
            {"query_id": f"q{number}", "query_text": f"what is {token}?", "route": "rag",
             "user_id": f"u{number % 3}", "embedding": [0.5, number], "relevance_score": 0.25,
             "retrieved_ids": ["a"], "retrieved_scores": [0.5],
             "ended_at": NOON + timedelta(days=day, seconds=number)},
            record_id=f"{token}-{number}", now=NOON, defaults=Defaults(),
        )
        for number in range(count)
    ]  # fmt: skip
    await log.insert_rows(rows, token=token)


async def fill_every_table(log: FeatureLog) -> None:
    await store_rows(log, 30, "t")
    entry = TallyEntry(
        route="rag", arm="stable", generation=1, answered=5, dropped={"full": 1}, in_flight={}
    )
    tally = Tally(worker="w", second=int(NOON.timestamp()), entries=(entry,))
    await log.insert_tallies([tally], token="t")
    score = Evaluation(request_id="q1", name="click", score=0.5, received_at=NOON)
    await log.insert_evaluations([score, score], token="t")
    letter = DeadLetter(record_id="d", route="rag", reason="x", payload_excerpt="{", at=NOON)
    await log.insert_dead_letters([letter], token="t")
    await log.insert_release_event(
        ReleaseEvent(release_id="r", route="rag", at=NOON, kind="release.started", actor="a",
                     from_share_bp=0, to_share_bp=500)
    )  # fmt: skip


async def test_a_day_of_every_table_comes_back_as_it_was(
    settings: ClickHouseSettings, feature_log: FeatureLog, archive: Archive
) -> None:
    await fill_every_table(feature_log)
    due = await archive.missing(older_than_days=30, today=TODAY)
    assert {table for table, _ in due} == set(ARCHIVED) - {"model_performance"}

    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    for table, day in due:
        manifest = await archive.archive_day(table, day, told=tell)
        assert told[-1] == (manifest.rows, manifest.rows)
        for _ in range(2):
            rows = await archive.restore_day(table, day, into=f"{table}_back", told=tell)
            assert rows == manifest.rows
            assert told[-1] == (manifest.rows, manifest.rows)
        final = "" if table == "query_features" else " FINAL"
        columns = ", ".join(f"toString({name})" for name in manifest.columns)
        live = sorted(await query(settings, f"SELECT {columns} FROM {table}{final}"))
        back = sorted(await query(settings, f"SELECT {columns} FROM {table}_back{final}"))
        assert live
        assert live == back

    assert await archive.missing(older_than_days=30, today=TODAY) == []


async def test_only_days_that_retention_takes_next_are_due(
    settings: ClickHouseSettings, feature_log: FeatureLog, s3_server: MinioSettings
) -> None:
    for day in range(3):
        await store_rows(feature_log, 1, f"t{day}", day=day)
    kept = replace(settings, retention_days={"query_features": 10})
    async with Archive.connected(kept, ObjectStore(Bucket(s3_server))) as archive:
        due = await archive.missing(today=DAY + timedelta(days=10))
        nothing_yet = await archive.missing(today=DAY + timedelta(days=8))

    assert due == [("query_features", DAY), ("query_features", DAY + timedelta(days=1))]
    assert nothing_yet == []


async def test_an_interrupted_run_goes_on_and_a_day_is_whole_or_not_there(
    feature_log: FeatureLog, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was stored is not made again; without a manifest the day is not archived."""
    monkeypatch.setattr("mlops.feature_store.archive_plan.FILE_BYTES", 1)
    await store_rows(feature_log, 6, "t")
    stored: list[str] = []
    put = archive.objects.put

    async def put_three(name: str, data: bytes) -> None:
        if len(stored) == 3:
            raise Unavailable("the server went away")
        await put(name, data)
        stored.append(name)

    monkeypatch.setattr(archive.objects, "put", put_three)
    with pytest.raises(Unavailable, match="went away"):
        await archive.archive_day("query_features", DAY)
    assert await archive.days("query_features") == []
    before = list(stored)
    monkeypatch.setattr(archive.objects, "put", put)

    manifest = await archive.archive_day("query_features", DAY)

    assert (manifest.rows, len(manifest.parts)) == (6, 6)
    assert {name.rsplit("/", 2)[-1] for name in before} < {
        part.name.rsplit("/", 1)[-1] for part in manifest.parts
    }
    assert await archive.days("query_features") == [DAY]


async def test_rows_that_came_late_are_archived_too(
    feature_log: FeatureLog, archive: Archive
) -> None:
    await store_rows(feature_log, 5, "t")
    first = await archive.archive_day("query_features", DAY)
    await store_rows(feature_log, 3, "late")

    assert ("query_features", DAY) in await archive.missing(older_than_days=30, today=TODAY)
    second = await archive.archive_day("query_features", DAY)

    assert (first.rows, second.rows) == (5, 8)
    names = await archive.objects.names(f"{archive.root}/query_features/")
    assert len(names) == 1 + len(second.parts), "files of the first run are gone"


async def test_an_erasure_meanwhile_leaves_what_is_being_archived(
    settings: ClickHouseSettings,
    feature_log: FeatureLog,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sweeps the day it rewrites; the new files of that day are in no manifest yet."""
    await store_rows(feature_log, 6, "t")
    await archive.archive_day("query_features", DAY)
    await store_rows(feature_log, 3, "late")
    verified, erased = archive._verified, []

    async def verified_beside_an_erasure(*given: Any) -> Any:
        part = await verified(*given)
        if not erased:
            erased.append(True)
            first = await archive.manifest("query_features", DAY)
            assert first is not None
            await archive.sweep(first)
        return part

    monkeypatch.setattr(archive, "_verified", verified_beside_an_erasure)
    manifest = await archive.archive_day("query_features", DAY)
    assert erased
    assert manifest.rows == 9
    assert [len(data) async for data in archive.files("query_features", DAY)] == [
        part.size_bytes for part in manifest.parts
    ]
    names = await archive.objects.names(f"{archive.root}/query_features/")
    assert len(names) == 1 + len(manifest.parts), "and nothing of the first run is left"


async def test_a_file_that_was_changed_is_not_restored(
    feature_log: FeatureLog, archive: Archive
) -> None:
    await store_rows(feature_log, 5, "t")
    (part,) = (await archive.archive_day("query_features", DAY)).parts
    name = f"{archive.root}/query_features/{DAY}/{part.name}"
    data = await archive.objects.get(name)
    assert data is not None
    await archive.objects.put(name, data[:-1] + b"?")

    with pytest.raises(Unavailable, match="another checksum"):
        await archive.restore_day("query_features", DAY, into="back")
    with pytest.raises(ValueError, match="is not in s3://features/archive"):
        await archive.restore_day("query_features", DAY + timedelta(days=1), into="back")


async def test_other_tools_can_read_the_files(feature_log: FeatureLog, archive: Archive) -> None:
    await store_rows(feature_log, 5, "t")
    (part,) = (await archive.archive_day("query_features", DAY)).parts
    data = await archive.objects.get(f"{archive.root}/query_features/{DAY}/{part.name}")
    assert data is not None
    table = parquet.read_table(BytesIO(data))

    assert table.column("query_id").to_pylist() == [f"q{number}" for number in range(5)]
    assert table.column("embedding").to_pylist()[3] == [0.5, 3.0]
    assert [table.num_rows async for table in archive.read("query_features", DAY)] == [5]


async def test_a_server_that_refuses_is_said_so(
    settings: ClickHouseSettings, s3_server: MinioSettings
) -> None:
    for wrong, reason in (
        (replace(s3_server, secret_key="x"), "SignatureDoesNotMatch"),
        (replace(s3_server, bucket_name="nowhere"), "does not exist"),
    ):
        async with Archive.connected(settings, ObjectStore(Bucket(wrong))) as archive:
            with pytest.raises(Unavailable, match=reason) as raised:
                await archive.days("query_features")
        assert wrong.secret_key == s3_server.secret_key or "archive-secret" not in str(raised.value)
