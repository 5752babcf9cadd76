"""Traces, timings and the access log, through a whole gateway."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest

from gateway.observing import Observing
from gateway.settings import AccessLogSettings, ObserveSettings
from gateway.trace_context import parse, parse_recorded

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SENT = b"00-%b-00f067aa0ba902b7-01" % TRACE
GET = b"GET /q?secret=1 HTTP/1.1\r\nHost: a\r\n%b\r\n"


def observing(**settings) -> Observing:
    made = Observing.open(ObserveSettings(**settings), Random(1))
    assert made is not None
    return made


def header(head: bytes, name: bytes) -> list[bytes]:
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    return [value.strip() for key, _, value in lines if key.lower() == name]


async def ask(client, lines: bytes = b"") -> dict[str, str]:
    await client.send(GET % lines)
    status, headers, _ = await client.answer()
    assert status == 200
    return headers


def test_nothing_is_made_where_nothing_is_asked_for():
    assert Observing.open(ObserveSettings(), Random(1)) is None


async def test_trace_headers_are_passed_on_as_they_are(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(3):
        await ask(client, b"TraceParent: %b\r\ntracestate: a=1\r\n" % SENT)
    for head in upstream.heads:
        assert header(head, b"traceparent") == [SENT]
        assert header(head, b"tracestate") == [b"a=1"]
    await ask(client)
    assert header(upstream.heads[-1], b"traceparent") == []
    records = await world.records(4)
    assert [record.traceparent for record in records] == [SENT, SENT, SENT, b""]


async def test_every_request_becomes_a_span_of_its_own(world):
    upstream = await world.upstream()
    world.observing = observing(makes_traces=True, trace_sample_percent=100)
    await world.gateway(upstream.url)
    client = await world.client()
    for lines in (
        b"",
        b"",
        b"traceparent: %b\r\ntracestate: a=1\r\n" % SENT,
        b"traceparent: %b\r\ntracestate: a=1\r\n" % SENT,
        b"traceparent: nonsense\r\ntracestate: a=1\r\n",
    ):
        await ask(client, lines)
    sent = [header(head, b"traceparent") for head in upstream.heads]
    assert all(len(each) == 1 for each in sent)
    spans = [parse(each[0]) for each in sent]
    assert None not in spans
    assert len({span.span_id for span in spans}) == 5
    assert [span.trace_id == TRACE for span in spans] == [False, False, True, True, False]
    assert spans[0].trace_id != spans[1].trace_id
    states = [header(head, b"tracestate") for head in upstream.heads]
    assert states == [[], [], [b"a=1"], [b"a=1"], []]
    records = await world.records(5)
    recorded = [parse_recorded(record.traceparent) for record in records]
    assert [each[0] for each in recorded] == spans
    assert [each[1] for each in recorded] == [b"", b"", SENT[36:52], SENT[36:52], b""]


async def test_a_retry_is_of_the_same_span(world):
    bad = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    upstream = await world.upstream(bad, good)
    world.observing = observing(makes_traces=True, server_timing=True)
    await world.gateway(upstream.url)
    headers = await ask(await world.client(), b"x-server-timing: 1\r\n")
    first, second = (header(head, b"traceparent") for head in upstream.heads)
    assert first == second
    assert 'attempts;desc="2"' in headers["server-timing"]


async def test_who_asks_is_told_how_long_it_took(world):
    async def slow(reader, writer):
        await asyncio.sleep(0.03)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    upstream = await world.upstream(slow)
    world.observing = observing(server_timing=True)
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(2):  # the second is read as a repetition of the first
        headers = await ask(client, b"X-Server-Timing: 1\r\n")
        gateway, in_upstream = headers["server-timing"].split(", ")
        assert gateway.startswith("gateway;dur=")
        assert float(in_upstream.removeprefix("upstream;dur=")) >= 25
    for lines in (b"", b"", b"x-server-timing: 0\r\n"):
        assert "server-timing" not in await ask(client, lines)


async def test_nobody_is_told_unless_the_file_allows_it(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    assert "server-timing" not in await ask(await world.client(), b"x-server-timing: 1\r\n")


@pytest.mark.parametrize(("percent", "lines"), [(100.0, 3), (0.0, 1)])
async def test_the_access_log_has_a_sample_and_every_failure(world, tmp_path, percent, lines):
    path = tmp_path / "access.log"
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    bad = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
    upstream = await world.upstream(good, bad, good)
    settings = AccessLogSettings(path=str(path), sample_percent=percent)
    world.observing = observing(access_log=settings)
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(3):
        await client.send(GET % b"x-user-id: somebody\r\n")
        await client.answer()
    await world.records(3)
    await asyncio.to_thread(world.observing.close)
    text = path.read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert len(found) == lines
    assert [line["status"] for line in found if line["outcome"] != "ok"] == [500]
    assert {line["path"] for line in found} == {"/q"}
    assert "secret" not in text
    assert "somebody" not in text
