"""Every exchange leaves a record; what its bodies say is kept only where that was asked for."""

from __future__ import annotations

import pytest

from gateway.record import WITHHELD
from gateway.settings import RecordSettings, RetrySettings

POST = b"POST /query HTTP/1.1\r\nHost: rag\r\n%bContent-Length: 5\r\n\r\nhello"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"
BROKEN = b"HTTP/1.1 500 Oh No\r\ncontent-length: 2\r\n\r\noh"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\noh"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def exchanged(world, requests):
    client = await world.client()
    for request in requests:
        await client.send(request)
        await client.answer()
    return await world.records(len(requests))


async def test_of_what_is_not_sampled_the_record_alone_is_kept(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url, record=RecordSettings(sample_percent=0))
    records = await exchanged(world, [POST % b""] * 4)
    for record in records:
        assert WITHHELD[record.withheld] == "not_sampled"
        assert record.request_body == record.response_body == b""
        assert (record.request_bytes, record.response_bytes, record.status) == (5, 2, 200)


async def test_a_share_is_sampled(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url, record=RecordSettings(sample_percent=50))
    records = await exchanged(world, [POST % b""] * 120)
    kept = [record for record in records if not record.withheld]
    assert 20 < len(kept) < 100  # outside of it once in 10**13 runs
    assert {record.request_body for record in kept} == {b"hello"}


@pytest.mark.parametrize(
    ("answers", "kept"), [([BROKEN], True), ([BUSY, OK], True), ([NOT_FOUND], False)]
)
async def test_errors_are_kept_whatever_the_sample_also_of_the_first_attempt(world, answers, kept):
    upstream = await world.upstream(*answers)
    await world.gateway(
        upstream.url,
        record=RecordSettings(sample_percent=0),
        retry=RetrySettings(budget_percent=100),
    )
    (record,) = await exchanged(world, [POST % b""])
    assert (record.withheld == 0) is kept
    assert record.request_body == (b"hello" if kept else b"")


@pytest.mark.parametrize("answer", [OK, BROKEN])
@pytest.mark.parametrize("word", [b"none", b"None", b"NONE \t"])
async def test_who_opts_out_is_not_recorded_even_in_errors(world, answer, word):
    upstream = await world.upstream(answer)
    await world.gateway(upstream.url)
    opted_out, recorded = await exchanged(
        world, [POST % (b"X-Record: %b\r\n" % word), POST % b"X-Record: all\r\n"]
    )
    assert WITHHELD[opted_out.withheld] == "opted_out"
    assert opted_out.request_body == opted_out.response_body == b""
    assert recorded.request_body == b"hello"
    assert not recorded.withheld


async def test_the_trace_of_the_request_stands_in_its_record(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    requests = [POST % (b"traceparent: %b\r\n" % TRACE), POST % b""]
    traced, untraced = await exchanged(world, requests)
    assert traced.traceparent == TRACE
    assert untraced.traceparent == b""
