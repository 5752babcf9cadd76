"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(unix_s: float) -> str:
    """ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def unix_s(moment: str) -> float:
    """What `iso` was given."""
    return datetime.fromisoformat(moment).timestamp()
