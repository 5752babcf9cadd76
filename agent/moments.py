"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(unix_s: float) -> str:
    """ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def unix_s(moment: str) -> float:
    """What `iso` was given."""
    return datetime.fromisoformat(moment).timestamp()


def span(seconds: float) -> str:
    """How long something takes, or is left: `90 s`, `10 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
