"""Features taken from where the route's configuration points to, by JSON pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.features import fields
from gateway.features.bodies import ANY, Unreadable, events_of, is_event_stream, value_of
from gateway.features.model import Body, Features

REQUEST = "request:"
ANSWER = "answer:"
RETRIEVED = "retrieved"
"""In place of `retrieved_ids`, `_scores` and `_count`: a list of documents has all three."""

_MISSING = object()


class Pointer(msgspec.Struct, frozen=True):
    """Where one feature stands. In neither body's name it is looked for in the request first."""

    feature: str
    tokens: tuple[str, ...]
    in_request: bool = True
    in_answer: bool = True


def pointer_of(feature: str, text: str) -> Pointer:
    """What stands in the file: `/input/0`, `request:/user` or `answer:/hits`.

    Raises:
        ValueError: no such feature can be pointed at, or the text is no pointer.
    """
    if feature not in _TAKEN:
        raise ValueError(f"expected one of {', '.join(sorted(_TAKEN))}, got {feature!r}")
    path = text.removeprefix(REQUEST).removeprefix(ANSWER)
    if not path.startswith("/"):
        raise ValueError(
            f"{feature}: expected a JSON pointer such as /input/0, {REQUEST}/user or "
            f"{ANSWER}/hits, got {text!r}"
        )
    tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:])
    return Pointer(
        feature,
        tokens,
        in_request=not text.startswith(ANSWER),
        in_answer=not text.startswith(REQUEST),
    )


def read(features: Features, pointers: Sequence[Pointer], request: Body, response: Body) -> None:
    """What is pointed at goes before what a profile found; where nothing is there, that stays."""
    asked: object = _MISSING
    answers: Sequence[object] = ()
    if any(pointer.in_request for pointer in pointers):
        asked = next(iter(_values(request)), _MISSING)
    if any(pointer.in_answer for pointer in pointers):
        answers = _values(response)
    for pointer in pointers:
        value = found_at(asked, pointer.tokens) if pointer.in_request else _MISSING
        if value is _MISSING and pointer.in_answer:
            value = next(
                (
                    found
                    for answer in reversed(answers)  # of a stream, the last event that has it
                    if (found := found_at(answer, pointer.tokens)) is not _MISSING
                ),
                _MISSING,
            )
        if value is not _MISSING and value is not None:
            _TAKEN[pointer.feature](features, pointer.feature, value)


def found_at(value: object, tokens: Sequence[str]) -> object:
    """The value that the tokens lead to (RFC 6901 §4); `_MISSING` where they lead nowhere."""
    for token in tokens:
        if fields.is_object(value):
            value = value.get(token, _MISSING)
        elif isinstance(value, list) and token.isascii() and token.isdigit():
            value = value[int(token)] if int(token) < len(value) else _MISSING
        else:
            return _MISSING
    return value


def _values(body: Body) -> Sequence[object]:
    """Empty where there is nothing to be read; the profile has said why."""
    if not body.data:
        return ()
    try:
        return events_of(body, ANY)[0] if is_event_stream(body) else (value_of(body, ANY),)
    except Unreadable:
        return ()


def _text(features: Features, name: str, value: object) -> None:
    setattr(features, name, fields.text(features, name, value))


def _number(features: Features, name: str, value: object) -> None:
    setattr(features, name, fields.number(features, name, value))


def _count(features: Features, name: str, value: object) -> None:
    setattr(features, name, fields.count(features, name, value))


def _numbers(features: Features, name: str, value: object) -> None:
    setattr(features, name, fields.numbers(features, name, value))


def _flag(features: Features, name: str, value: object) -> None:
    if isinstance(value, bool):
        setattr(features, name, value)
    else:
        fields.unusable(features, name)


def _retrieved(features: Features, name: str, value: object) -> None:
    features.retrieved_ids, features.retrieved_scores = [], []
    fields.retrieved(features, value)


_TAKEN: Mapping[str, Callable[[Features, str, object], None]] = {
    "query_id": _text,
    "query_text": _text,
    "user_id": _text,
    "session_id": _text,
    "model_reported": _text,
    "finish_reason": _text,
    "response_time_ms": _number,
    "relevance_score": _number,
    "prompt_tokens": _count,
    "completion_tokens": _count,
    "answer_chars": _count,
    "refused": _flag,
    "embedding": _numbers,
    RETRIEVED: _retrieved,
}
