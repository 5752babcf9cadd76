"""What passes between the HTTP front and the engine behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops.local.clickhouse_statement import InsertHead

DEFAULT_SESSION_TIMEOUT_S = 60.0
MAX_SESSION_TIMEOUT_S = 3600.0
"""ClickHouse's own defaults (`default_session_timeout`, `max_session_timeout`)."""

# ClickHouse's error codes.
BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
TOO_MANY_SIMULTANEOUS_QUERIES = 202
CANNOT_DECOMPRESS = 271
TOO_MANY_BYTES = 307
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002


class EngineError(Exception):
    """A statement was refused. `code` is ClickHouse's, and so is the form of `text`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def of(cls, code: int, sentence: str) -> EngineError:
        """One of ours, in ClickHouse's form; `sentence` has no full stop."""
        return cls(code, f"Code: {code}. DB::Exception: {sentence}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One statement with everything that came along with it."""

    sql: str
    insert: InsertHead | None = None
    data: bytes = b""
    """Rows of `insert`, inflated."""
    database: str = ""
    default_format: str = "TabSeparated"
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""
    session_timeout_s: float = DEFAULT_SESSION_TIMEOUT_S
    session_check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a statement answered."""

    body: bytes
    summary: dict[str, str]
    """As in `X-ClickHouse-Summary`."""
    output_format: str | None
    """None for a statement that answers with no table."""
