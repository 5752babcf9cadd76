"""The values that extraction takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field

TRUNCATED = "truncated"
UNDECODABLE = "undecodable"
NOT_JSON = "not_json"
UNKNOWN_SHAPE = "unknown_shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One body as it went over the wire, up to the bound that the gateway keeps."""

    content_type: str = ""
    content_encoding: str = ""
    data: bytes = b""
    is_cut: bool = False


@dataclass(slots=True, kw_only=True)
class Features:
    """The features of `mlops.contracts.record.Row`. Absent is None or empty."""

    query_id: str | None = None
    query_text: str | None = None
    embedding: list[float] = field(default_factory=list)
    response_time_ms: float | None = None
    relevance_score: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model_reported: str | None = None
    finish_reason: str | None = None
    retrieved_ids: list[str] = field(default_factory=list)
    retrieved_scores: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Reasons, in the order found: one of the words above, or `unusable FIELD`."""

    def miss(self, reason: str) -> None:
        if reason not in self.missing:
            self.missing.append(reason)
