"""OpenAI's shapes: chat, completions, embeddings and responses, whole or as events of a stream."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence

from gateway.features import fields
from gateway.features.fields import is_object
from gateway.features.model import Features
from gateway.features.shapes import Answered, Asked

PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses")
_OBJECTS = ("chat.completion", "text_completion", "response")
_FILTERED = "content_filter"
"""The reason to stop where a filter of the server took the answer away."""


def is_openai(path: str, asked: Asked, answers: Sequence[Answered]) -> bool:
    """By the path, else by `messages` asked or the kind of object answered."""
    if path.endswith(PATHS) or asked.messages is not None:
        return True
    kind = answers[0].kind if answers else None
    return isinstance(kind, str) and kind.startswith(_OBJECTS)


def read(features: Features, asked: Asked, answers: Sequence[Answered]) -> None:
    """`answers` is the one answer, or the events of its stream."""
    features.query_text = fields.text(features, "query_text", _asked_text(asked))
    named = asked.metadata if is_object(asked.metadata) else {}
    features.user_id = fields.text(features, "user_id", asked.user, named.get("user_id"))
    features.session_id = fields.text(features, "session_id", named.get("session_id"))
    for answer in answers:
        if answer.choices is not None:
            _choices(features, answer.choices)
        elif answer.output is not None or answer.event is not None:
            answer = _response(features, answer)  # noqa: PLW2901 - an event holds the answer inside
        _about(features, answer)
    if answers and answers[0].kind == "list":
        _embedding(features, answers[0].data)
    if features.refused is None and features.finish_reason is not None:
        features.refused = False


def _about(features: Features, answer: Answered) -> None:
    """Later events of a stream know more: at the very end the usage."""
    if features.query_id is None and answer.id is not None:
        features.query_id = fields.text(features, "query_id", answer.id)
    if features.model_reported is None and answer.model is not None:
        features.model_reported = fields.text(features, "model_reported", answer.model)
    usage = answer.usage
    if is_object(usage):
        asked = usage.get("prompt_tokens", usage.get("input_tokens"))
        answered = usage.get("completion_tokens", usage.get("output_tokens"))
        features.prompt_tokens = fields.count(features, "prompt_tokens", asked)
        features.completion_tokens = fields.count(features, "completion_tokens", answered)


def _choices(features: Features, choices: object) -> None:
    """The first of the answers asked for: its text, and why it ended."""
    if not isinstance(choices, list) or not choices or not is_object(choices[0]):
        return
    choice = choices[0]
    if choice.get("index") not in (0, None):  # a piece of another answer
        return
    said = choice.get("message", choice.get("delta"))
    if is_object(said):
        _said(features, said.get("content"))
        if said.get("refusal"):
            features.refused = True
            _said(features, said["refusal"])
    else:
        _said(features, choice.get("text"))
    reason = choice.get("finish_reason")
    if reason is not None:
        _ended(features, reason)


def _said(features: Features, value: object) -> None:
    if isinstance(value, str):
        features.answer_chars = (features.answer_chars or 0) + len(value)


def _ended(features: Features, reason: object) -> None:
    features.finish_reason = fields.text(features, "finish_reason", reason)
    if reason == _FILTERED:
        features.refused = True


# ---- responses --------------------------------------------------------------------------------


def _response(features: Features, answer: Answered) -> Answered:
    """An answer of `/responses`, or the one inside the event that ends its stream."""
    if answer.output is None:
        inside = answer.response
        if not is_object(inside):
            return _NOTHING
        if inside.get("status") in ("queued", "in_progress"):  # it has only begun
            return Answered(id=inside.get("id"), model=inside.get("model"))
        answer = Answered(
            id=inside.get("id"),
            model=inside.get("model"),
            usage=inside.get("usage"),
            output=inside.get("output"),
            status=inside.get("status"),
            incomplete_details=inside.get("incomplete_details"),
        )
    _output(features, answer.output)
    details = answer.incomplete_details
    reason = details.get("reason") if is_object(details) else None
    if reason or answer.status:
        _ended(features, reason or answer.status)
    return answer


def _output(features: Features, output: object) -> None:
    """Its messages; calls of tools and reasoning say nothing to the user."""
    if not isinstance(output, list):
        return
    parts = [
        part
        for item in output
        if is_object(item) and isinstance(item.get("content"), list)
        for part in item["content"]  # type: ignore[attr-defined]  # a list, as just seen
        if is_object(part)
    ]
    for part in parts:
        _said(features, part.get("text", part.get("refusal")))
        if part.get("type") == "refusal":
            features.refused = True


_NOTHING = Answered()


# ---- what was asked ---------------------------------------------------------------------------


def _asked_text(asked: Asked) -> object:
    """The last thing the user said, the prompt, or the input."""
    if isinstance(asked.messages, list):
        return _last_said(asked.messages)
    for value in (asked.prompt, asked.input):
        if isinstance(value, list) and any(is_object(item) for item in value):
            return _last_said(value)  # `/responses` takes messages as its input
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # noqa: PLW2901 - a list of one is that one
        if isinstance(value, str):
            return value
    return None


def _last_said(messages: list[object]) -> object:
    for message in reversed(messages):
        if is_object(message) and message.get("role") == "user":
            return _content_text(message.get("content"))
    return None


def _content_text(content: object) -> object:
    """A message is a text, or parts of which some are text."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if is_object(part)]
    return "\n".join(text for text in texts if isinstance(text, str)) or None


def _embedding(features: Features, data: object) -> None:
    """The vector of a request for one; a request for many is not one query."""
    if not isinstance(data, list) or len(data) != 1 or not is_object(data[0]):
        return
    vector = data[0].get("embedding")
    if isinstance(vector, str):  # encoding_format=base64, the official client's own default
        try:
            raw = base64.b64decode(vector, validate=True)
            vector = list(struct.unpack(f"<{len(raw) // 4}f", raw))
        except (binascii.Error, struct.error, ValueError):
            vector = ""
    features.embedding = fields.numbers(features, "embedding", vector)
