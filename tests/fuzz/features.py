"""Whatever a model server and its clients say: features that a row can hold, or a reason."""

from __future__ import annotations

import math
import zlib

import msgspec

from gateway.event_stream import EventStream
from gateway.features.extract import PROFILES, extract
from gateway.features.fields import MAX_COUNT, MAX_RETRIEVED
from gateway.features.model import (
    FEATURES,
    NOT_JSON,
    TEXT_FEATURES,
    TRUNCATED,
    UNDECODABLE,
    UNKNOWN_SHAPE,
    Body,
    Features,
)
from gateway.features.pointers import pointer_of
from gateway.features.redaction import PATTERNS, Mask, Redaction, redact
from mlops.contracts.record import MAX_EMBEDDING_LENGTH, MAX_TEXT_CHARS
from tests.fuzz.harness import cuts

HEAD_BYTES = 3
"""Of an input: what is chosen below. The request's body and the answer's follow, a NUL between."""
NAMES = sorted(PROFILES)
PATHS = (
    *("/query", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/v2/models/m/infer", "/embed", "/rerank"),
)
TYPES = ("application/json", "text/event-stream", "", "text/event-stream; charset=utf-8")
CODINGS = ("", "gzip", "deflate", "br", "identity, gzip")
POINTERS = (
    pointer_of("query_text", "/input/0"),
    pointer_of("relevance_score", "answer:/hits/0/score"),
    pointer_of("retrieved", "/hits"),
)
REASONS = {NOT_JSON, TRUNCATED, UNDECODABLE, UNKNOWN_SHAPE}
REASONS |= {f"unusable {name}" for name in FEATURES | {"retrieved"}}
MASKED: Redaction = {name: Mask(frozenset(PATTERNS)) for name in TEXT_FEATURES}


def check_features(data: bytes) -> None:
    if len(data) < HEAD_BYTES:
        return
    head, (asked, _, answered) = data[:HEAD_BYTES], data[HEAD_BYTES:].partition(b"\0")
    profile, path = NAMES[head[0] % len(NAMES)], PATHS[head[1] % len(PATHS)]
    kind, coding = TYPES[head[2] % len(TYPES)], CODINGS[(head[2] >> 2) % len(CODINGS)]
    pointed = POINTERS if head[0] & 0x80 else ()
    request = Body(content_type="application/json", data=asked, is_cut=bool(head[1] & 0x80))
    response = Body(content_type=kind, content_encoding=coding, data=answered)
    found = extract(profile, path, request, response, pointed)
    storable(found)
    assert extract(profile, path, request, response, pointed) == found
    masked = _masked(found)
    storable(masked)
    assert _masked(masked) == masked, "masked another time"
    if not coding:
        packed = msgspec.structs.replace(
            response, content_encoding="gzip", data=zlib.compress(answered, 1, 31)
        )
        if answered:
            assert extract(profile, path, request, packed, pointed) == found, (
                "packed, it is another"
            )
    _events(answered)


def _masked(features: Features) -> Features:
    copy = msgspec.structs.replace(features, retrieved_ids=list(features.retrieved_ids))
    redact(copy, MASKED)
    return copy


def storable(features: Features) -> None:
    """As the columns of a row take it."""
    for name in FEATURES:
        value = getattr(features, name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                assert len(each.encode()) <= 4 * MAX_TEXT_CHARS, name
            elif isinstance(each, float):
                assert math.isfinite(each), name
    for count in (features.prompt_tokens, features.completion_tokens):
        assert count is None or 0 <= count <= MAX_COUNT
    assert len(features.embedding) <= MAX_EMBEDDING_LENGTH
    assert len(features.retrieved_ids) <= MAX_RETRIEVED
    assert len(features.retrieved_scores) in (0, len(features.retrieved_ids))
    assert set(features.missing) <= REASONS, features.missing
    assert len(set(features.missing)) == len(features.missing)


def _events(data: bytes) -> None:
    """As many events however they are cut, and whatever their lines end with."""
    assert counted([data]) == counted(cuts(data))
    if b"\r" not in data:
        assert counted([data]) == counted(cuts(data.replace(b"\n", b"\r\n")))


def counted(pieces: list[bytes]) -> int:
    stream = EventStream()
    for now_ns, piece in enumerate(pieces, start=1):
        stream.feed(piece, now_ns)
    assert stream.max_gap_ns <= len(pieces)
    return stream.events
