"""The features of one exchange, by the profile of its route."""

from __future__ import annotations

import base64
import binascii
import struct

from gateway.features import bodies
from gateway.features.bodies import Unreadable
from gateway.features.fields import Fields, is_object
from gateway.features.model import TRUNCATED, UNKNOWN_SHAPE, Body, Features

NATIVE = "native"
"""The fields by their own names, in the request or the answer."""
OPENAI = "openai"
"""Chat completions (whole or streamed), completions and embeddings."""
AUTO = "auto"
"""One of the above, by path and shape."""
PROFILES = frozenset({NATIVE, OPENAI, AUTO})

_OPENAI_PATHS = ("/chat/completions", "/completions", "/embeddings")
_NATIVE_FIELDS = frozenset(
    {"query_id", "query_text", "embedding", "relevance_score", "user_id", "session_id", "documents"}
)


def extract(profile: str, target: str, request: Body, response: Body) -> Features:
    """Everything that the bodies say. Never fails: what cannot be read is named in `missing`."""
    features = Features()
    asked = _object(request, features)
    chunks = _answers(response, features)
    if not asked and not any(chunks):
        if not features.missing and (request.data or response.data):
            features.miss(UNKNOWN_SHAPE)
        return features
    fields = Fields(features)
    answered = chunks[-1] if chunks else {}
    if profile == OPENAI or (profile != NATIVE and _is_openai(target, asked, chunks)):
        _openai(features, fields, asked, chunks)
    elif not (_NATIVE_FIELDS & asked.keys() or _NATIVE_FIELDS & answered.keys()):
        features.miss(UNKNOWN_SHAPE)
    _native(features, fields, asked, answered)
    return features


def _object(body: Body, features: Features) -> dict[str, object]:
    if not body.data:
        return {}
    try:
        value = bodies.json_value(body)
    except Unreadable as exc:
        features.miss(str(exc))
        return {}
    if is_object(value):
        return value
    features.miss(UNKNOWN_SHAPE)
    return {}


def _answers(body: Body, features: Features) -> list[dict[str, object]]:
    """The answer as one object, or as the objects of its stream."""
    if not body.data or not bodies.is_event_stream(body):
        answered = _object(body, features)
        return [answered] if answered else []
    try:
        values, is_cut = bodies.events(body)
    except Unreadable as exc:
        features.miss(str(exc))
        return []
    if is_cut:
        features.miss(TRUNCATED)
    return [value for value in values if is_object(value)]


def _is_openai(target: str, asked: dict[str, object], chunks: list[dict[str, object]]) -> bool:
    if target.partition("?")[0].rstrip("/").endswith(_OPENAI_PATHS) or "messages" in asked:
        return True
    kind = chunks[0].get("object") if chunks else None
    return isinstance(kind, str) and kind.startswith(("chat.completion", "text_completion"))


def _native(
    features: Features, fields: Fields, asked: dict[str, object], answered: dict[str, object]
) -> None:
    """Fill what is still empty. The answer's word goes before the request's, but for the query."""

    def both(name: str) -> tuple[object, object]:
        return answered.get(name), asked.get(name)

    if features.query_id is None:
        features.query_id = fields.text("query_id", *both("query_id"))
    if features.query_text is None:
        features.query_text = fields.text("query_text", *reversed(both("query_text")))
    if not features.embedding:
        features.embedding = fields.numbers("embedding", *both("embedding"))
    if features.user_id is None:
        features.user_id = fields.text("user_id", *reversed(both("user_id")))
    if features.session_id is None:
        features.session_id = fields.text("session_id", *reversed(both("session_id")))
    features.response_time_ms = fields.number("response_time_ms", answered.get("response_time_ms"))
    features.relevance_score = fields.number("relevance_score", *both("relevance_score"))
    features.retrieved_ids, features.retrieved_scores = fields.retrieved(answered.get("documents"))


def _openai(
    features: Features,
    fields: Fields,
    asked: dict[str, object],
    chunks: list[dict[str, object]],
) -> None:
    features.query_text = fields.text("query_text", _asked_text(asked))
    metadata = asked.get("metadata")
    named = metadata if is_object(metadata) else {}
    features.user_id = fields.text("user_id", asked.get("user"), named.get("user_id"))
    features.session_id = fields.text("session_id", named.get("session_id"))
    for chunk in chunks:
        _openai_chunk(features, fields, chunk)
    if chunks and chunks[0].get("object") == "list":
        _openai_embedding(features, fields, chunks[0])


def _openai_chunk(features: Features, fields: Fields, chunk: dict[str, object]) -> None:
    """Later chunks of a stream know more: the reason to stop, and at the very end the usage."""
    if features.query_id is None:
        features.query_id = fields.text("query_id", chunk.get("id"))
    if features.model_reported is None:
        features.model_reported = fields.text("model_reported", chunk.get("model"))
    choices = chunk.get("choices")
    if isinstance(choices, list) and choices and is_object(choices[0]):
        reason = fields.text("finish_reason", choices[0].get("finish_reason"))
        features.finish_reason = reason or features.finish_reason
    usage = chunk.get("usage")
    if is_object(usage):
        features.prompt_tokens = fields.count("prompt_tokens", usage.get("prompt_tokens"))
        features.completion_tokens = fields.count(
            "completion_tokens", usage.get("completion_tokens")
        )


def _openai_embedding(features: Features, fields: Fields, answer: dict[str, object]) -> None:
    """The vector of a request for one; a request for many is not one query."""
    data = answer.get("data")
    if not isinstance(data, list) or len(data) != 1 or not is_object(data[0]):
        return
    vector = data[0].get("embedding")
    if isinstance(vector, str):  # encoding_format=base64, the official client's own default
        try:
            raw = base64.b64decode(vector, validate=True)
            vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
        except (binascii.Error, struct.error, ValueError):
            vector = ""
    features.embedding = fields.numbers("embedding", vector)


def _asked_text(asked: dict[str, object]) -> object:
    """The last thing the user said, the prompt, or the input."""
    messages = asked.get("messages")
    if isinstance(messages, list):
        for message in reversed(messages):
            if is_object(message) and message.get("role") == "user":
                return _content_text(message.get("content"))
        return None
    for name in ("prompt", "input"):
        value = asked.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            return value
    return None


def _content_text(content: object) -> object:
    """A message is a text, or parts of which some are text."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if is_object(part)]
    return "\n".join(text for text in texts if isinstance(text, str)) or None
