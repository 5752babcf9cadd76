"""Spans reach a real OTLP receiver over HTTP, with the ids that the exchange already had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.record import ExchangeRecord
from gateway.recorder.__main__ import open_spans
from gateway.recorder.calls import call_of
from gateway.recorder.metrics import RecorderMetrics
from gateway.recorder.spans import Spans, span_id_of
from gateway.trace_context import join
from mlops.contracts.record import Row
from tests.stored_rows import stored_row

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{CALLER}-01".encode()
BEGAN = datetime(2026, 11, 25, 21, 0, 0, 123_456, tzinfo=UTC)


@dataclass
class Collector:
    """What OTLP over HTTP asks of a receiver: decode, answer, and keep what came."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    async def take(self, request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest.FromString(await request.read())
        self.headers = dict(request.headers)
        if self.status == 200:
            for each in told.resource_spans:
                self.resource = {a.key: a.value.string_value for a in each.resource.attributes}
                for scope in each.scope_spans:
                    self.spans += scope.spans
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, status=self.status, content_type="application/x-protobuf")


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    made = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    yield made
    await runner.cleanup()


def row(**changed: object) -> Row:
    canary = {"arm": "canary", "served_arm": "canary", "version": "1.3.0", "share_bp": 1000}
    said = {
        "query_text": "a secret question",
        "user_id": "somebody",
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "model_reported": "small-7b",
        "finish_reason": "stop",
    }
    timed = {"latency_us": 12_345, "first_byte_us": 11_000}
    named = {"request_id": "id-1", "model": "rag_embedding_model", "bucket": 5, "events": 0}
    ended = BEGAN + timedelta(microseconds=12_345)
    return stored_row(**{"ended_at": ended, **named, **canary, **timed, **said, **changed})


def recorded(traceparent: bytes) -> ExchangeRecord:
    record = ExchangeRecord()
    record.traceparent, record.method, record.target = traceparent, b"POST", b"/query?key=secret"
    return record


def metrics_of_one() -> RecorderMetrics:
    return RecorderMetrics(lambda: 0.0, lambda: 0.0, lambda: 0.0, lambda: 0.0)


async def exported(spans: Spans, *exchanges: tuple[Row, bytes]) -> None:
    calls = [(each, call_of(recorded(traceparent))) for each, traceparent in exchanges]
    spans.made((each, call) for each, call in calls if call is not None)
    await asyncio.to_thread(spans.close)


def attributes(span: Span) -> dict[str, Any]:
    found = {}
    for each in span.attributes:
        value = each.value
        kind = value.WhichOneof("value")
        found[each.key] = (
            [one.string_value for one in value.array_value.values]
            if kind == "array_value"
            else getattr(value, kind)
        )
    return found


async def test_a_span_of_ours_hangs_between_caller_and_upstream(collector):
    metrics = metrics_of_one()
    joined = join(SENT, lambda bits: 0xABC, samples_new=False)
    await exported(Spans({}, metrics), (row(), joined.recorded))
    (span,) = collector.spans
    assert span.trace_id.hex() == TRACE
    assert span.span_id.hex() == joined.header.split(b"-")[2].decode()
    assert span.parent_span_id.hex() == CALLER
    assert span.name == "POST rag"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.end_time_unix_nano - span.start_time_unix_nano == 12_345_000
    assert span.start_time_unix_nano % 1_000_000_000 == 123_456_000
    assert [event.name for event in span.events] == ["first byte"]
    assert span.events[0].time_unix_nano - span.start_time_unix_nano == 11_000_000
    assert collector.resource["service.name"] == "rag-mlops-gateway"
    assert metrics.spans_exported._value.get() == 1


async def test_it_says_what_was_decided_and_nothing_personal(collector):
    await exported(Spans({}, metrics_of_one()), (row(), SENT))
    (span,) = collector.spans
    found = attributes(span)
    assert found["http.request.method"] == "POST"
    assert found["url.path"] == "/query"
    assert found["http.response.status_code"] == 200
    assert found["gen_ai.response.model"] == "small-7b"
    assert found["gen_ai.usage.input_tokens"] == 9
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert (found["rag_mlops.arm"], found["rag_mlops.version"]) == ("canary", "1.3.0")
    assert "secret" not in str(span)
    assert "somebody" not in str(span)


async def test_a_header_that_was_passed_on_gives_a_child_of_the_caller(collector):
    await exported(Spans({}, metrics_of_one()), (row(), SENT))
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
    assert int(span.span_id.hex(), 16) == span_id_of("w-1-1")


async def test_a_trace_that_began_here_has_no_parent(collector):
    joined = join(b"", lambda bits: 0xABC, samples_new=True)
    await exported(Spans({}, metrics_of_one()), (row(), joined.recorded))
    (span,) = collector.spans
    assert span.parent_span_id == b""
    assert int(span.trace_id.hex(), 16) == 0xABC


@pytest.mark.parametrize("traceparent", [b"", b"nonsense", SENT[:-1] + b"0"])
async def test_only_sampled_traces_are_exported(traceparent):
    assert call_of(recorded(traceparent)) is None


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        ("upstream_error", 503, "503"),
        ("truncated", 200, "truncated"),
        ("timeout", 504, "timeout"),
        ("client_error", 404, None),
        ("cancelled", 499, None),
    ],
)
async def test_what_went_wrong_is_an_error_and_only_that(collector, outcome, status, error):
    wrong = row(outcome=outcome, status=status)
    await exported(Spans({}, metrics_of_one()), (wrong, SENT))
    (span,) = collector.spans
    assert attributes(span).get("error.type") == error
    assert (span.status.code == 2) is (error is not None)


async def test_the_environment_names_the_service(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=token")
    spans = Spans({"OTEL_SERVICE_NAME": "mine"}, metrics_of_one())
    await exported(spans, (row(), SENT))
    assert collector.resource["service.name"] == "mine"
    assert collector.headers["Authorization"] == "token"


async def test_a_collector_that_refuses_is_counted_and_holds_nothing_up(collector):
    collector.status = 400
    metrics = metrics_of_one()
    await exported(Spans({}, metrics), (row(), SENT))
    assert collector.spans == []
    assert metrics.spans_failed._value.get() == 1


async def test_the_recorder_exports_what_it_has_stored(
    harness: Any, exchange: Any, collector: Collector
) -> None:
    writer = harness.writer()
    assert writer.offer(exchange("r0", traceparent=SENT))
    assert writer.offer(exchange("r1", traceparent=SENT[:-1] + b"0"))
    assert writer.offer(exchange("r2"))
    async with harness.recording() as recorder:
        spans = open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, recorder)
        assert spans is not None
        await harness.until(lambda: len(harness.log.request_ids()) == 3)
        await asyncio.to_thread(spans.close)
    (span,) = collector.spans
    assert attributes(span)["rag_mlops.request_id"] == "r0"
    assert int(span.span_id.hex(), 16) == span_id_of(f"{writer.worker}-1-1")


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}],
)
async def test_without_a_collector_there_are_no_spans(
    harness: Any, environ: dict[str, str]
) -> None:
    async with harness.recording() as recorder:
        assert open_spans(environ, recorder) is None
