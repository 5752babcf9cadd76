"""The features of one exchange, by the profile of its route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from gateway.features import kserve, native, openai, pointers, tei
from gateway.features.bodies import ANY, Decoder, Unreadable, events_of, is_event_stream, value_of
from gateway.features.model import TRUNCATED, UNKNOWN_SHAPE, Body, Features
from gateway.features.pointers import Pointer
from gateway.features.shapes import NO_ANSWER, NOTHING_ASKED, Answered, Asked

NATIVE = "native"
"""The fields by their own names, in the request or the answer."""
OPENAI = "openai"
"""Chat completions, completions, embeddings and responses, whole or streamed."""
KSERVE = "kserve-v2"
"""Tensors by name, as JSON or in binary."""
TEI = "tei"
"""`/embed` and `/rerank`."""
AUTO = "auto"
"""One of the above, by path and shape."""
PROFILES = frozenset({NATIVE, OPENAI, KSERVE, TEI, AUTO})

Value = TypeVar("Value")

_ASKED: Decoder[Asked] = msgspec.json.Decoder(Asked)
_ANSWERED: Decoder[Answered] = msgspec.json.Decoder(Answered)


def extract(
    profile: str,
    target: str,
    request: Body,
    response: Body,
    pointed: Sequence[Pointer] = (),
) -> Features:
    """Everything that the bodies say. Never fails: what cannot be read is named in `missing`."""
    features = Features()
    path = target.partition("?")[0].rstrip("/")
    has_tensors = profile == KSERVE or (profile == AUTO and kserve.is_infer(path))
    elements = kserve.MAX_NUMBERS if has_tensors else 0
    asked = _read(request, _ASKED, features, elements) if request.data else None
    if profile == TEI or (profile == AUTO and tei.is_tei(path, asked or NOTHING_ASKED)):
        answer = _read(response, ANY, features) if response.data else None
        tei.read(features, asked or NOTHING_ASKED, answer)
    else:
        answers = _answers(response, features, elements) if response.data else ()
        if asked is not None or answers:
            _by_shape(features, profile, path, asked or NOTHING_ASKED, answers)
        elif not features.missing and (request.data or response.data):
            features.miss(UNKNOWN_SHAPE)
    if pointed:
        pointers.read(features, pointed, request, response)
        if features.missing == [UNKNOWN_SHAPE] and features != _ONLY_UNKNOWN:
            features.missing = []  # the pointers know the shape
    return features


_ONLY_UNKNOWN = Features(missing=[UNKNOWN_SHAPE])


def _by_shape(
    features: Features, profile: str, path: str, asked: Asked, answers: Sequence[Answered]
) -> None:
    last = answers[-1] if answers else NO_ANSWER
    if profile == KSERVE or (profile == AUTO and kserve.is_kserve(path, asked, last)):
        kserve.read(features, asked, last)
        return
    if profile == OPENAI or (profile == AUTO and openai.is_openai(path, asked, answers)):
        openai.read(features, asked, answers)
    elif not native.is_native(asked, last):
        features.miss(UNKNOWN_SHAPE)
        return
    native.read(features, asked, last)


def _read(
    body: Body, decoder: Decoder[Value], features: Features, elements: int = 0
) -> Value | None:
    try:
        return value_of(body, decoder, elements)
    except Unreadable as exc:
        features.miss(str(exc))
        return None


def _answers(body: Body, features: Features, elements: int) -> Sequence[Answered]:
    """The answer as one object, or as the objects of its stream."""
    if not is_event_stream(body):
        answer = _read(body, _ANSWERED, features, elements)
        return () if answer is None else (answer,)
    try:
        values, is_cut = events_of(body, _ANSWERED)
    except Unreadable as exc:
        features.miss(str(exc))
        return ()
    if is_cut:
        features.miss(TRUNCATED)
    return values
