"""Nothing of an erased person is left: in tables, on the disk below them, in archives, in logs."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import lz4.block
import pyarrow as pa
import pytest
import zstandard
from minio import Minio
from minio.versioningconfig import ENABLED, VersioningConfig
from pyarrow import parquet

from mlops.artifact_store.bucket import Bucket
from mlops.config import MinioSettings
from mlops.feature_store.archive import Archive
from mlops.feature_store.eraser import Eraser
from mlops.feature_store.erasure_preview import ErasurePreview
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.log import DeadLetter, Evaluation, FeatureLog
from mlops.feature_store.object_store import ObjectStore
from mlops.feature_store.offered import Defaults, row_of
from mlops.feature_store.partitions import BucketPartitions, FolderPartitions
from mlops.feature_store.settings import ClickHouseSettings

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = date(2026, 3, 4)
PERSON = "person-7391"
SAID = "zygomorphic"
"""A word that only this person's queries have."""
MARKS = (PERSON.encode(), SAID.encode(), b"request-of-7391")

_METHODS = {
    0x02: bytes,
    0x82: lambda data, size: lz4.block.decompress(data, uncompressed_size=size),
    0x90: lambda data, size: zstandard.ZstdDecompressor().decompress(data, max_output_size=size),
}


def blocks(data: bytes) -> Iterator[bytes]:
    """What a compressed file of the engine holds: checksum, method, two sizes, then the bytes."""
    at = 0
    while at + 25 <= len(data):
        method, packed, size = struct.unpack_from("<BII", data, at + 16)
        if method not in _METHODS or not 9 <= packed <= len(data) - at - 16:
            return
        body = data[at + 25 : at + 16 + packed]
        try:
            yield body if method == 0x02 else _METHODS[method](body, size)
        except (lz4.block.LZ4BlockError, zstandard.ZstdError):
            return
        at += 16 + packed


def marks_on_disk(directory: Path) -> set[tuple[bytes, str]]:
    """Each mark that is in a file, as it lies there or unpacked."""
    found = set()
    for path in directory.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        unpacked = b"\0".join(blocks(data))
        found |= {(mark, path.name) for mark in MARKS if mark in data or mark in unpacked}
    return found


def marks_in_bucket(settings: MinioSettings) -> set[tuple[bytes, str]]:
    """Each mark in any version of any object; Parquet files by their values."""
    client = Minio(
        settings.endpoint, settings.access_key, settings.secret_key, secure=settings.secure
    )
    found = set()
    for one in client.list_objects(settings.bucket_name, recursive=True, include_version=True):
        if one.is_delete_marker:
            continue
        name = str(one.object_name)
        answer = client.get_object(settings.bucket_name, name, version_id=one.version_id)
        data = answer.read()
        answer.close()
        if name.endswith(".parquet"):
            data += str(parquet.read_table(BytesIO(data)).to_pylist()).encode()
        found |= {(mark, name) for mark in MARKS if mark in data}
    return found


async def fill(log: FeatureLog) -> None:
    rows = [
        row_of(
            {"query_id": f"q{number}", "query_text": f"what is {SAID if mine else 'a lease'}?",
             "request_id": "request-of-7391" if mine else f"r{number}", "route": "rag",
             "user_id": PERSON if mine else f"{PERSON}0", "embedding": [1.0, float(number)],
             "ended_at": NOON + timedelta(seconds=number)},
            record_id=f"w-{number}", now=NOON, defaults=Defaults(),
        )
        for number, mine in ((number, number % 3 == 0) for number in range(30))
    ]  # fmt: skip
    await log.insert_rows(rows, token="t")
    await log.insert_evaluations(
        [
            Evaluation(request_id=name, name="click", score=0.5, received_at=NOON)
            for name in ("request-of-7391", "r1")
        ],
        token="t",
    )
    letters = [
        DeadLetter(
            record_id=f"d{user}",
            route="rag",
            reason="no",
            payload_excerpt=f'{{"user": "{user}"}}',
            at=NOON,
        )
        for user in (PERSON, f"{PERSON}0")
    ]
    await log.insert_dead_letters(letters, token="t")


def training_partition() -> bytes:
    table = pa.table(
        {"user_id": [PERSON, "other", None], "query_text": [SAID, "x", "y"], "score": [1, 2, 3]}
    )
    out = BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


@pytest.fixture
async def archive(settings: ClickHouseSettings, s3_server: MinioSettings) -> AsyncIterator[Archive]:
    client = Minio(
        s3_server.endpoint, s3_server.access_key, s3_server.secret_key, secure=s3_server.secure
    )
    client.set_bucket_versioning(s3_server.bucket_name, VersioningConfig(ENABLED))
    async with Archive.connected(settings, ObjectStore(Bucket(s3_server))) as connected:
        yield connected


@pytest.mark.timeout(240)
async def test_nothing_of_an_erased_person_is_left_anywhere(
    feature_log: FeatureLog,
    archive: Archive,
    s3_server: MinioSettings,
    engine_directory: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await fill(feature_log)
    for table in ("query_features", "evaluations", "dead_letters"):
        await archive.archive_day(table, DAY)
        await archive.restore_day(table, DAY, into=f"{table}_restored")
    (tmp_path / "march.parquet").write_bytes(training_partition())
    await archive.objects.put("partitions/march.parquet", training_partition())
    partitions = [
        FolderPartitions(tmp_path),
        BucketPartitions(archive.objects, "partitions/"),
    ]
    assert {mark for mark, _ in marks_on_disk(engine_directory)} == set(MARKS)
    assert {mark for mark, _ in marks_in_bucket(s3_server)} == set(MARKS)

    store = (archive._client, archive._settings, archive)
    told: dict[str, tuple[int, int]] = {}

    def tell(what: str, done: int, total: int) -> None:
        told[what] = (done, total)

    would = await ErasurePreview(*store, told=tell).count(PERSON, partitions)
    assert told.pop("files of training data") == (1, 1)
    erased = await Eraser(*store, told=tell).erase(PERSON, partitions)

    assert {"tables", "files of training data"} < set(told)
    assert sum("archived days of" in what for what in told) == 2 + 3
    assert all(done == total for done, total in told.values())
    assert would == erased
    assert (erased.rows, erased.evaluations, erased.dead_letters) == (10, 1, 1)
    assert (erased.archived, erased.partitions) == (10 + 1 + 1, 2)
    left = marks_on_disk(engine_directory)
    other = {(PERSON.encode(), name) for _, name in left}
    assert left <= other, "another person's id has this one's in it; nothing else may be left"
    assert SAID not in str(parquet.read_table(tmp_path / "march.parquet").to_pylist())
    await check_what_stays(feature_log, archive, s3_server)
    assert not any(PERSON in line or SAID in line for line in caplog.text.splitlines())


async def check_what_stays(log: FeatureLog, archive: Archive, s3_server: MinioSettings) -> None:
    """The others' rows, scores and letters, live and archived; sums of their embeddings alone."""
    for table, left in (("query_features", 20), ("evaluations", 1), ("dead_letters", 1)):
        manifest = await archive.manifest(table, DAY)
        assert manifest is not None
        assert manifest.rows == left
        assert await archive.restore_day(table, DAY, into=f"{table}_back") == left
    assert {mark for mark, _ in marks_in_bucket(s3_server)} <= {PERSON.encode()}
    second = int(NOON.timestamp())
    sums = await log.read_embedding_sums("direct", since=second, until=second + 60)
    sums = sums or await log.read_embedding_sums("rag", since=second, until=second + 60)
    assert [s.sum[1] for s in sums] == [float(n) for n in range(30) if n % 3]


async def test_an_erasure_that_was_interrupted_is_finished_by_the_next(
    feature_log: FeatureLog, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(feature_log)
    eraser = Eraser(archive._client, archive._settings, archive)

    async def interrupted(*_: object) -> None:
        raise Unavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(eraser, "_take_out_live", interrupted)
        with pytest.raises(Unavailable, match="killed"):
            await eraser.erase(PERSON)
    monkeypatch.setattr(eraser, "_forget_old_parts", lambda _: _nothing())

    assert (await eraser.erase("somebody-else")).rows == 0

    ((rows, listed),) = (
        await archive._client.query(
            "SELECT (SELECT countIf(user_id = 'person-7391') FROM query_features), "
            "(SELECT count() FROM erasures)"
        )
    ).result_rows
    assert (rows, listed) == (0, 0)


async def _nothing() -> None:
    return None
