"""Text Embeddings Inference: `/embed`, also as `/`, and `/rerank`, whose answers are lists."""

from __future__ import annotations

from gateway.features import fields
from gateway.features.fields import is_object
from gateway.features.model import UNKNOWN_SHAPE, Features
from gateway.features.shapes import Asked

PATHS = ("/embed", "/rerank")


def is_tei(path: str, asked: Asked) -> bool:
    """By the path, else by a query with texts, or texts sent to `/`."""
    return (
        path.endswith(PATHS)
        or (asked.query is not None and asked.texts is not None)
        or (not path and _is_texts(asked.inputs))
    )


def _is_texts(value: object) -> bool:
    """Not the tensors of KServe, which come under the same name."""
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    )


def read(features: Features, asked: Asked, answer: object) -> None:
    """`answer` is a list of vectors, or of documents by their place in what was asked.

    Scores of a reranker are not a relevance score: their scale is the model's own.
    """
    if asked.texts is not None:
        features.query_text = fields.text(features, "query_text", asked.query)
        _ranked(features, answer)
        return
    inputs = asked.inputs
    if isinstance(inputs, list) and len(inputs) == 1:
        inputs = inputs[0]
    if not isinstance(inputs, list):  # a request for many is not one query
        features.query_text = fields.text(features, "query_text", inputs)
        if isinstance(answer, list) and len(answer) == 1 and not is_object(answer[0]):
            features.embedding = fields.numbers(features, "embedding", answer[0])


def _ranked(features: Features, answer: object) -> None:
    if answer is None:
        return
    if not isinstance(answer, list) or not all(is_object(item) for item in answer):
        features.miss(UNKNOWN_SHAPE)
        return
    documents = [{"id": item.get("index"), "score": item.get("score")} for item in answer]
    fields.retrieved(features, documents)
