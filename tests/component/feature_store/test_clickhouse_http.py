"""The embedded engine answers clickhouse-connect, and everything else, as a server would."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import clickhouse_connect
import lz4.frame
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from mlops.feature_store.settings import ClickHouseSettings

NOW = datetime(2026, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
COLUMNS = ["ts", "arm", "latency", "embedding", "tags"]


@pytest.fixture
def client(settings: ClickHouseSettings) -> Iterator[Any]:
    client = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=settings.port,
        database=settings.database,
        username="anyone",
        password="anything",
    )
    client.command(
        "CREATE TABLE t (ts DateTime64(3, 'UTC'), arm LowCardinality(String), "
        "latency Nullable(Float32), embedding Array(Float32), tags Map(String, String)) "
        "ENGINE = MergeTree ORDER BY ts"
    )
    yield client
    client.close()


def rows(count: int) -> list[list[object]]:
    return [[NOW, "stable", 1.5, [0.5, 0.25], {"a": "b"}] for _ in range(count)]


def stored(client: Any) -> int:
    return int(client.command("SELECT count() FROM t"))


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_an_insert_of_many_blocks_is_stored_whole(
    settings: ClickHouseSettings, client: Any, compression: str | bool
) -> None:
    """lz4 bodies hold one frame per block: reading the first alone would store 65,536 rows."""
    writer = clickhouse_connect.get_client(
        host="127.0.0.1", port=settings.port, database=settings.database, compress=compression
    )

    summary = writer.insert("t", rows(150_000), column_names=COLUMNS)
    writer.close()

    assert summary.written_rows == 150_000
    assert stored(client) == 150_000


def test_values_come_back_as_they_went_in(client: Any) -> None:
    given = (NOW.replace(tzinfo=None), "canary", None, [0.5], {"k": "it's\n"})
    client.insert("t", [[NOW, *given[1:]]], column_names=COLUMNS)

    (row,) = client.query("SELECT * FROM t").result_rows

    assert (row[0].replace(tzinfo=None), *row[1:]) == given


def test_frames_and_arrow_go_in_and_out(client: Any) -> None:
    client.insert("t", rows(3), column_names=COLUMNS)
    client.insert_df("t", client.query_df("SELECT * FROM t"))
    client.insert_arrow("t", client.query_arrow("SELECT ts, arm, latency, embedding FROM t"))

    assert stored(client) == 12
    assert client.query_np("SELECT number * 2 FROM numbers(3)").tolist() == [[0], [2], [4]]
    assert client.raw_query("SELECT 1 AS a", fmt="JSONEachRow") == b'{"a":1}\n'


def test_raw_inserts_are_inflated(client: Any) -> None:
    lines = b'{"arm":"FORMAT Native"}\n{"arm":"y"}\n'
    client.raw_insert("t", insert_block=lines, fmt="JSONEachRow")
    client.raw_insert(
        "t",
        column_names=["arm"],
        insert_block=gzip.compress(b"x\ny\n"),
        fmt="TSV",
        compression="gzip",
    )

    assert stored(client) == 4


def test_parameters_settings_and_sessions_are_understood(
    settings: ClickHouseSettings, client: Any
) -> None:
    text = "it's\ta 'q' \\ é"
    bound = client.query("SELECT {x:Int32} + 1, {s:String}", parameters={"x": 2, "s": text})
    pasted = client.query("SELECT %(s)s", parameters={"s": text})
    setting = client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1})
    named = clickhouse_connect.get_client(host="127.0.0.1", port=settings.port, session_id="one")
    named.command("CREATE TEMPORARY TABLE kept (a Int8)")
    named.insert("kept", [[1], [2]])
    total = named.query("SELECT sum(a) FROM kept").result_rows
    named.close()

    assert list(bound.result_rows) == [(3, text)]
    assert list(pasted.result_rows) == [(text,)]
    assert list(setting.result_rows) == [(1,)]
    assert list(total) == [(3,)]


def test_statements_with_rows_inside_are_left_whole(client: Any) -> None:
    client.command("INSERT INTO t (arm) VALUES ('a FORMAT Native'), ('b')")
    client.command("INSERT INTO t (arm) SELECT 'c' FROM numbers(3)")

    assert stored(client) == 5


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT * FROM nowhere", 60),
        ("SELECT * FROM nodb.t", 81),
        ("SELEC 1", 62),
        ("SELECT nocolumn FROM t", 47),
        ("SELECT nofunction(1)", 46),
        ("SELECT throwIf(number = 900000) FROM numbers(1000000)", 395),
    ],
)
def test_errors_carry_the_code_of_clickhouse(client: Any, sql: str, code: int) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query(sql)

    assert raised.value.code == code


async def test_many_asynchronous_queries_run_at_once(settings: ClickHouseSettings) -> None:
    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=settings.port)
    answers = await asyncio.gather(
        *(client.query(f"SELECT sum(number) + {i} AS total FROM numbers(1000)") for i in range(40))
    )
    stream = await client.query_row_block_stream("SELECT number FROM numbers(300000)")
    async with stream:
        streamed = sum([len(block) async for block in stream])
    await client.close()

    assert [a.first_item["total"] for a in answers] == [499_500 + i for i in range(40)]
    assert streamed == 300_000


async def post(
    settings: ClickHouseSettings, body: bytes, headers: dict[str, str] | None = None, **query: str
) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"http://127.0.0.1:{settings.port}/", data=body, params=query, headers=headers
        ) as answer,
    ):
        code = answer.headers.get("X-ClickHouse-Exception-Code", "")
        return answer.status, await answer.text(), code


async def test_ping_and_an_empty_request_say_ok(settings: ClickHouseSettings) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{settings.port}/ping") as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "Ok.\n")
    assert await post(settings, b"") == (200, "Ok.\n", "")


async def test_a_get_changes_nothing(settings: ClickHouseSettings) -> None:
    url = f"http://127.0.0.1:{settings.port}/"
    async with aiohttp.ClientSession() as http:
        async with http.get(url, params={"query": "CREATE DATABASE taken"}) as refused:
            assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
        async with http.get(url, params={"query": "SELECT 1"}) as answered:
            assert await answered.text() == "1\n"


async def test_a_cut_lz4_body_stores_nothing(settings: ClickHouseSettings) -> None:
    whole = b"".join(lz4.frame.compress(b"\n".join([b"x"] * 1000) + b"\n") for _ in range(3))
    query = "INSERT INTO tallies (worker) FORMAT TSV"
    encoded = {"Content-Encoding": "lz4"}
    cut = await post(settings, whole[:-3], encoded, query=query, database=settings.database)

    assert (cut[0], cut[2]) == (400, "271")
    assert await post(settings, b"SELECT count() FROM tallies", database=settings.database) == (
        200,
        "0\n",
        "",
    )


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example:8123"}, {"Origin": "http://evil.example"}]
)
async def test_web_pages_are_refused(settings: ClickHouseSettings, headers: dict[str, str]) -> None:
    status, text, code = await post(settings, b"SELECT 1", headers)

    assert (status, code) == (403, "516"), text


async def test_a_session_serves_one_request_at_a_time(settings: ClickHouseSettings) -> None:
    slow = asyncio.ensure_future(post(settings, b"SELECT sleep(1)", session_id="busy"))
    codes = set()
    while not slow.done():
        codes.add((await post(settings, b"SELECT 1", session_id="busy"))[2])
    codes.add((await slow)[2])

    assert "373" in codes
    missing = await post(settings, b"SELECT 1", session_id="never", session_check="1")
    assert missing[2] == "372"
