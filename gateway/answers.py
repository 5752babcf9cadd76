"""Answers that the gateway gives in its own name: a short problem in JSON."""

from __future__ import annotations

import msgspec

from gateway.framing import STATUS_LINES
from mlops.contracts.api import Problem

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

RETRY_AFTER = b"retry-after: 1\r\n"
"""What is full or refuses is tried again after a second."""

CODES = {
    400: "bad_request",
    404: "not_found",
    408: "request_timeout",
    413: "body_too_large",
    414: "target_too_long",
    417: "expectation_failed",
    431: "head_too_large",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
    505: "version_not_supported",
}


def problem(status: int, message: str) -> bytes:
    """The body: what went wrong, as the admin API says it too."""
    return msgspec.json.encode(Problem(error=message, code=CODES.get(status, "error")))


def answer(
    status: int, body: bytes, *, close: bool, head_only: bool = False, headers: bytes = b""
) -> bytes:
    """A whole answer. `headers` are complete lines."""
    return b"".join(
        (
            STATUS_LINES[status],
            b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            headers,
            b"connection: close\r\n\r\n" if close else b"\r\n",
            b"" if head_only else body,
        )
    )
