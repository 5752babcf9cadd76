"""Exchanges as a gateway would spool them, and spools full of them."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gateway.features.redaction import Mask, hash_of
from gateway.features.rules import RouteRules, Rules
from gateway.record import ExchangeRecord
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter
from gateway.stamp import Stamp

RULES = Rules(
    {
        "chat": RouteRules(
            redaction={
                "user_id": hash_of("a secret for the benchmark"),
                "query_text": Mask(frozenset({"email", "phone", "card", "ip"})),
            }
        )
    }
)
"""What a careful team redacts."""

GIB = 1024**3
EMBEDDING = 384


def chat() -> ExchangeRecord:
    """A chat completion: 2 KB in all."""
    question = {
        "model": "m",
        "user": "user-17",
        "messages": [{"role": "user", "content": "why " * 120}],
    }
    answer = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "model": "m-2026",
        "choices": [{"index": 0, "message": {"content": "so " * 330}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 330},
    }
    return _record(b"/v1/chat/completions", question, answer)


def embedded() -> ExchangeRecord:
    """A query whose answer holds 384 numbers: 8 KB of JSON."""
    randomness = random.Random(7)
    vector = [randomness.uniform(-1, 1) for _ in range(EMBEDDING)]
    question = {"query_text": "why " * 20, "user_id": "user-17"}
    answer = {"query_id": "q", "relevance_score": 0.5, "embedding": vector}
    return _record(b"/query", question, answer)


def _record(target: bytes, question: object, answer: object) -> ExchangeRecord:
    record = ExchangeRecord()
    record.stamp = msgspec.json.encode(
        Stamp(
            route="chat",
            model="chat",
            generation=7,
            share_bp=500,
            arm="stable",
            served_arm="stable",
            version="2026-03-01",
            profile="auto",
        )
    )
    record.request_id = b"0123456789abcdef0123456789abcdef"
    record.method, record.target = b"POST", target
    record.request_content_type = record.response_content_type = b"application/json"
    record.request_content_encoding = record.response_content_encoding = b""
    record.request_body = json.dumps(question).encode()
    record.response_body = json.dumps(answer).encode()
    record.request_body_cut = record.response_body_cut = False
    record.started_at_us = record.ended_at_us = time.time_ns() // 1_000
    record.latency_us, record.first_byte_us, record.max_event_gap_us = 21_000, 20_000, 0
    record.status, record.outcome, record.first_attempt_outcome, record.kind = 200, 0, 0, 0
    record.attempts, record.bucket, record.events = 1, 1_234, 1
    record.withheld, record.first_event_us, record.traceparent = 0, 0, b""
    record.request_bytes = len(record.request_body)
    record.response_bytes = len(record.response_body)
    return record


@contextlib.contextmanager
def writer_in(
    directory: Path, *, limit_bytes: int = 2 * GIB, fsync_s: float | None = None
) -> Iterator[SpoolWriter]:
    writer = SpoolWriter.open(
        SpoolSettings(dir=directory, limit_bytes=limit_bytes, fsync_s=fsync_s)
    )
    try:
        yield writer
    finally:
        writer.close()


def fill(directory: Path, record: ExchangeRecord, rows: int, limit_bytes: int = 2 * GIB) -> str:
    """Spool `rows` exchanges of a worker that is gone; its name."""
    with writer_in(directory, limit_bytes=limit_bytes) as writer:
        for number in range(rows):
            record.request_id = b"request-%d" % number
            while not writer.offer(record):
                time.sleep(0.001)
        return writer.worker


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
