"""Spans of sampled exchanges, over OTLP: made from rows, far from the request path.

Needs the extra `otel`. Queue, batches and retries are OpenTelemetry's: its queue has a bound
(`OTEL_BSP_MAX_QUEUE_SIZE`, 2,048 spans), past which it drops. A collector that is away never holds
back a row. A span has no query, no answer, no user: those stand in the row, which `request_id` and
the trace lead to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from gateway.recorder.calls import Call
from gateway.recorder.metrics import RecorderMetrics
from mlops.contracts.record import Outcome, Row

log = logging.getLogger(__name__)

SERVICE_NAME: Final = "rag-mlops-gateway"
CLOSE_S: Final = 5.0
"""At the end, for what still waits; a collector that is away does not hold up a restart."""

_FAILED: Final = frozenset(
    {Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.RESET, Outcome.TRUNCATED}
)


class Spans:
    """Exports one process's spans."""

    def __init__(
        self,
        environ: Mapping[str, str],
        metrics: RecorderMetrics,
        exporter: SpanExporter | None = None,
    ) -> None:
        """`exporter` takes the place of the one that OTEL_EXPORTER_OTLP_* configures."""
        self._metrics = metrics
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(environ),
            id_generator=self._ids,
            sampler=ALWAYS_ON,  # only what is sampled already comes here
            shutdown_on_exit=False,
        )
        counting = _Counting(exporter or OTLPSpanExporter(), metrics)
        self._provider.add_span_processor(BatchSpanProcessor(counting))
        self._tracer = self._provider.get_tracer("gateway.recorder")

    def made(self, exchanges: Iterable[tuple[Row, Call]]) -> None:
        """Queue the spans of stored rows. Never waits."""
        for row, call in exchanges:
            try:
                self._make(row, call)
                self._metrics.spans.inc()
            except Exception:  # a span is never worth a row
                log.exception("record %s gave no span", row.record_id)

    def close(self) -> None:
        """Export what waits, for at most `CLOSE_S`."""
        closing = threading.Thread(target=self._provider.shutdown, name="end spans", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _make(self, row: Row, call: Call) -> None:
        parent = None
        if call.caller_id:
            sampled = TraceFlags(TraceFlags.SAMPLED)
            caller = SpanContext(call.trace_id, call.caller_id, is_remote=True, trace_flags=sampled)
            parent = set_span_in_context(NonRecordingSpan(caller))
        self._ids.trace_id = call.trace_id
        self._ids.span_id = call.span_id or span_id_of(row.record_id)
        began_ns = _ns(row.started_at.timestamp())
        span = self._tracer.start_span(
            f"{call.method} {row.route}",
            parent,
            kind=SpanKind.SERVER,
            attributes=attributes_of(row, call),
            start_time=began_ns,
        )
        if row.first_byte_us:
            span.add_event("first byte", timestamp=began_ns + row.first_byte_us * 1000)
        if row.first_event_us:
            span.add_event("first event", timestamp=began_ns + row.first_event_us * 1000)
        if row.outcome in _FAILED:
            span.set_status(Status(StatusCode.ERROR, row.outcome))
        span.end(_ns(row.ended_at.timestamp()))


def span_id_of(record_id: str) -> int:
    """The same whenever it is asked for: a span exported twice is one span."""
    return int.from_bytes(blake2b(record_id.encode(), digest_size=8).digest(), "big") or 1


def attributes_of(row: Row, call: Call) -> dict[str, AttributeValue]:
    """By OpenTelemetry's semantic conventions for HTTP servers and GenAI; the rest is ours."""
    attributes: dict[str, AttributeValue | None] = {
        "http.request.method": call.method,
        "url.path": call.path,
        "http.response.status_code": row.status,
        "http.request.body.size": row.request_bytes,
        "http.response.body.size": row.response_bytes,
        "http.request.resend_count": row.attempts - 1 or None,
        "error.type": _error_type(row),
        "gen_ai.request.model": row.model,
        "gen_ai.response.model": row.model_reported,
        "gen_ai.response.finish_reasons": [row.finish_reason] if row.finish_reason else None,
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "rag_mlops.route": row.route,
        "rag_mlops.arm": row.arm,
        "rag_mlops.served_arm": row.served_arm,
        "rag_mlops.version": row.version,
        "rag_mlops.generation": row.generation,
        "rag_mlops.kind": row.kind,
        "rag_mlops.outcome": row.outcome,
        "rag_mlops.request_id": row.request_id,
        "rag_mlops.record_id": row.record_id,
        "rag_mlops.events": row.events or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _error_type(row: Row) -> str | None:
    if row.outcome == Outcome.UPSTREAM_ERROR:
        return str(row.status)
    return row.outcome if row.outcome in _FAILED else None


def _ns(seconds: float) -> int:
    return round(seconds * 1e6) * 1000  # rows have microseconds


def _resource(environ: Mapping[str, str]) -> Resource:
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": SERVICE_NAME})


class _Ids(IdGenerator):
    """Gives the ids that the exchange already has."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 1

    def generate_span_id(self) -> int:
        return self.span_id

    def generate_trace_id(self) -> int:
        return self.trace_id


class _Counting(SpanExporter):
    """Counts what the exporter did with its batches."""

    def __init__(self, exporter: SpanExporter, metrics: RecorderMetrics) -> None:
        self._exporter = exporter
        self._metrics = metrics

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        done = result is SpanExportResult.SUCCESS
        (self._metrics.spans_exported if done else self._metrics.spans_failed).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
