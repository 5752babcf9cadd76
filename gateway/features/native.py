"""The fields of a row by their own names, in the request or the answer."""

from __future__ import annotations

from gateway.features import fields
from gateway.features.model import Features
from gateway.features.shapes import Answered, Asked

_NAMES = ("query_id", "embedding", "relevance_score", "user_id", "session_id")


def is_native(asked: Asked, answered: Answered) -> bool:
    """Whether either says something by a name of ours."""
    return (
        asked.query_text is not None
        or answered.documents is not None
        or any(
            getattr(asked, name) is not None or getattr(answered, name) is not None
            for name in _NAMES
        )
    )


def read(features: Features, asked: Asked, answered: Answered) -> None:
    """Fill what is still empty. The answer's word goes before the request's, but for who asked."""
    if features.query_id is None:
        features.query_id = fields.text(features, "query_id", answered.query_id, asked.query_id)
    if features.query_text is None:
        features.query_text = fields.text(features, "query_text", asked.query_text)
    if not features.embedding:
        features.embedding = fields.numbers(
            features, "embedding", answered.embedding, asked.embedding
        )
    if features.user_id is None:
        features.user_id = fields.text(features, "user_id", asked.user_id, answered.user_id)
    if features.session_id is None:
        features.session_id = fields.text(
            features, "session_id", asked.session_id, answered.session_id
        )
    features.response_time_ms = fields.number(
        features, "response_time_ms", answered.response_time_ms
    )
    features.relevance_score = fields.number(
        features, "relevance_score", answered.relevance_score, asked.relevance_score
    )
    if isinstance(answered.refused, bool):
        features.refused = answered.refused
    if isinstance(answered.answer, str):
        features.answer_chars = len(answered.answer)
    fields.retrieved(features, answered.documents)
