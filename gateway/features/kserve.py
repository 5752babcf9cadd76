"""KServe's inference protocol, version 2 (Open Inference Protocol), with tensors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.features import fields
from gateway.features.fields import MAX_RETRIEVED, is_object
from gateway.features.model import Features
from gateway.features.shapes import Answered, Asked
from mlops.contracts.record import MAX_EMBEDDING_LENGTH

_FLOATS = ("FP16", "FP32", "FP64", "BF16")
MAX_NUMBERS = max(MAX_RETRIEVED, MAX_EMBEDDING_LENGTH) + 1
"""Read of one tensor: one more than any feature takes, so that a longer one is seen to be."""

Tensors = Mapping[str, list[object]]


def is_infer(path: str) -> bool:
    """Whether a path, without its query, is one of the protocol's."""
    return path.startswith("/v2/models/") and path.endswith("/infer")


def is_kserve(path: str, asked: Asked, answered: Answered) -> bool:
    """By the path, else by tensors in either body."""
    return is_infer(path) or _is_tensors(asked.inputs) or _is_tensors(answered.outputs)


def read(features: Features, asked: Asked, answered: Answered) -> None:
    """Tensors by the names of a row's features; else the only text asked, the only vector answered.

    A tensor of the answer goes before one of the request.
    """
    features.query_id = fields.text(features, "query_id", answered.id, asked.id)
    if answered.model_name is not None:
        parts = (answered.model_name, answered.model_version)
        name = ":".join(part for part in parts if isinstance(part, str) and part)
        features.model_reported = fields.text(features, "model_reported", name)
    inputs, outputs = _tensors(asked.inputs), _tensors(answered.outputs)
    named = {**inputs, **outputs}
    for name, take in _TAKEN.items():
        if name in named:
            take(features, name, named[name])
    if features.query_text is None:
        _only_text(features, asked.inputs)
    if not features.embedding and "embedding" not in named:
        _only_vector(features, answered.outputs)


def _one(values: list[object]) -> object:
    return values[0] if len(values) == 1 else values


def _text(features: Features, name: str, values: list[object]) -> None:
    setattr(features, name, fields.text(features, name, _one(values)))


def _number(features: Features, name: str, values: list[object]) -> None:
    setattr(features, name, fields.number(features, name, _one(values)))


def _count(features: Features, name: str, values: list[object]) -> None:
    setattr(features, name, fields.count(features, name, _one(values)))


def _numbers(features: Features, name: str, values: list[object]) -> None:
    setattr(features, name, fields.numbers(features, name, values))


def _ids(features: Features, name: str, values: list[object]) -> None:
    fields.retrieved(features, values)


def _scores(features: Features, name: str, values: list[object]) -> None:
    scores = fields.numbers(features, name, values)
    if features.retrieved_ids and len(scores) != len(features.retrieved_ids):
        fields.unusable(features, name)
        return
    features.retrieved_scores = scores


_TAKEN: dict[str, Callable[[Features, str, list[object]], None]] = {
    "query_id": _text,
    "query_text": _text,
    "user_id": _text,
    "session_id": _text,
    "finish_reason": _text,
    "response_time_ms": _number,
    "relevance_score": _number,
    "prompt_tokens": _count,
    "completion_tokens": _count,
    "embedding": _numbers,
    "retrieved_ids": _ids,
    "retrieved_scores": _scores,
}


def _is_tensors(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(is_object(item) and "name" in item and "datatype" in item for item in value)
    )


def _tensors(value: object) -> Tensors:
    found: dict[str, list[object]] = {}
    for item in value if isinstance(value, list) else []:
        if is_object(item) and isinstance(name := item.get("name"), str):
            found[name] = flat(item.get("data"))
    return found


def _only_text(features: Features, inputs: object) -> None:
    texts = [
        flat(item.get("data"))
        for item in (inputs if isinstance(inputs, list) else [])
        if is_object(item) and item.get("datatype") == "BYTES"
    ]
    if len(texts) == 1 and len(texts[0]) == 1:
        features.query_text = fields.text(features, "query_text", texts[0][0])


def _only_vector(features: Features, outputs: object) -> None:
    vectors = [
        item
        for item in (outputs if isinstance(outputs, list) else [])
        if is_object(item) and item.get("datatype") in _FLOATS
    ]
    if len(vectors) != 1:
        return
    shape = vectors[0].get("shape")
    if isinstance(shape, list) and len(shape) == 2 and shape[0] == 1:
        features.embedding = fields.numbers(features, "embedding", flat(vectors[0].get("data")))


def flat(data: object) -> list[object]:
    """A tensor's elements in order: it may come flat or as lists in lists."""
    if not isinstance(data, list):
        return []
    if not any(isinstance(item, list) for item in data[:1]):
        return data[:MAX_NUMBERS]
    found: list[object] = []
    waiting: list[object] = [data]
    while waiting and len(found) < MAX_NUMBERS:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
        else:
            found.append(item)
    return found
