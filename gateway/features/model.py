"""The values that extraction takes and gives."""

from __future__ import annotations

import msgspec

TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
NOT_JSON = "not_json"
UNKNOWN_SHAPE = "unknown_shape"
UNKNOWN_ROUTE = "unknown_route"


class Body(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One body as it went over the wire, up to the bound that the gateway keeps."""

    content_type: str = ""
    content_encoding: str = ""
    data: bytes = b""
    is_cut: bool = False


class Features(msgspec.Struct, kw_only=True, gc=False):
    """The features of `mlops.contracts.record.Row`. Absent is None or empty."""

    query_id: str | None = None
    query_text: str | None = None
    embedding: list[float] = []
    response_time_ms: float | None = None
    relevance_score: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model_reported: str | None = None
    finish_reason: str | None = None
    refused: bool | None = None
    answer_chars: int | None = None
    retrieved_ids: list[str] = []
    retrieved_scores: list[float] = []
    retrieved_count: int | None = None
    missing: list[str] = []
    """Reasons, in the order found: one of the words above, or `unusable FIELD`."""

    def miss(self, reason: str) -> None:
        """Note a reason, once."""
        if reason not in self.missing:
            self.missing.append(reason)


TEXT_FEATURES = frozenset(
    {"query_id", "query_text", "user_id", "session_id", "model_reported", "finish_reason"}
    | {"retrieved_ids"}
)
"""Features made of text: what can be hashed and masked."""

FEATURES = frozenset(Features.__struct_fields__) - {"missing"}
