"""The bounds of the HTTP front, with an engine that only notes what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import lz4.frame
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.local import clickhouse_http
from mlops.local.clickhouse_call import Answer, Call, EngineError
from mlops.local.clickhouse_http import Front, inflate_lz4


class NotingEngine:
    """Answers at once, or when `gate` is opened."""

    timezone = "UTC"
    version = "1.2.3"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, call: Call) -> Answer:
        assert self.gate.wait(20)
        self.calls.append(call)
        return Answer(body=b"1\n", summary={"read_rows": "1"}, output_format="TabSeparated")


Serve = Callable[[NotingEngine], Awaitable[TestClient]]  # type: ignore[type-arg]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    clients = []

    async def start(engine: NotingEngine) -> TestClient:  # type: ignore[type-arg]
        front = Front(engine)
        client = TestClient(TestServer(front.application()))
        await client.start_server()
        clients.append((client, front))
        return client

    yield start
    for client, front in clients:
        await client.close()
        front.close()


async def test_a_request_becomes_one_call(serve: Serve) -> None:
    engine = NotingEngine()
    client = await serve(engine)
    query = {
        "query": "INSERT INTO t (a) FORMAT TSV",
        "database": "mine",
        "param_x": "5",
        "max_threads": "1",
        "session_id": "s",
        "session_timeout": "7",
        "user": "me",
        "password": "hush",
    }
    answer = await client.post("/", params=query, data=b"1\n2\n")

    assert answer.status == 200
    (call,) = engine.calls
    assert call.insert is not None
    assert (call.sql, call.insert.input_format, call.data) == (
        "INSERT INTO t (a) ",
        "TSV",
        b"1\n2\n",
    )
    assert (call.database, call.parameters, call.settings) == (
        "mine",
        {"x": "5"},
        {"max_threads": "1"},
    )
    assert (call.session_id, call.session_timeout_s) == ("s", 7.0)


async def test_more_requests_than_the_bound_are_told_to_come_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_http, "MAX_REQUESTS", 3)
    engine = NotingEngine()
    engine.gate.clear()
    client = await serve(engine)
    waiting = [asyncio.ensure_future(client.post("/", data=b"SELECT 1")) for _ in range(4)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    engine.gate.set()
    (refused,) = done

    assert (await refused).status == 503
    assert (await refused).headers["X-ClickHouse-Exception-Code"] == "202"
    assert sorted([(await answer).status for answer in waiting]) == [200, 200, 200, 503]
    assert (await client.post("/", data=b"SELECT 1")).status == 200


@pytest.mark.parametrize("encoding", [None, "gzip", "lz4"])
async def test_a_body_above_the_bound_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, encoding: str | None
) -> None:
    monkeypatch.setattr(clickhouse_http, "MAX_BODY_BYTES", 1_000)
    monkeypatch.setattr(inflate_lz4, "__defaults__", (1_000,))
    engine = NotingEngine()
    client = await serve(engine)
    body = b"SELECT " + b"1" * 5_000
    if encoding == "lz4":
        answer = await client.post(
            "/", data=lz4.frame.compress(body), headers={"Content-Encoding": "lz4"}
        )
    else:
        answer = await client.post("/", data=body, compress=encoding)

    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (413, "307")
    assert engine.calls == []


@pytest.mark.parametrize(
    ("query", "body", "headers", "code"),
    [
        ({"session_timeout": "soon"}, b"SELECT 1", {}, "36"),
        ({}, b"SELECT '\xff'", {}, "36"),
        ({}, b"SELECT 1", {"Content-Encoding": "snappy"}, "48"),
        ({}, b"SELECT 1", {"Content-Encoding": "lz4"}, "271"),
    ],
)
async def test_a_request_that_cannot_be_read_never_reaches_the_engine(
    serve: Serve, query: dict[str, str], body: bytes, headers: dict[str, str], code: str
) -> None:
    engine = NotingEngine()
    client = await serve(engine)

    answer = await client.post("/", params=query, data=body, headers=headers)

    assert answer.headers["X-ClickHouse-Exception-Code"] == code
    assert engine.calls == []


def test_every_frame_of_a_body_is_inflated() -> None:
    pieces = [b"a" * 70_000, b"", b"b" * 10]

    assert inflate_lz4(b"".join(map(lz4.frame.compress, pieces))) == b"".join(pieces)
    assert inflate_lz4(b"") == b""


def test_frames_are_bounded_together() -> None:
    frames = lz4.frame.compress(b"a" * 600) * 2

    assert len(inflate_lz4(frames, 1_200)) == 1_200
    with pytest.raises(EngineError, match="over 1,199 bytes"):
        inflate_lz4(frames, 1_199)
