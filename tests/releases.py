"""A release that has just been started."""

from __future__ import annotations

from typing import Any

from agent.release import Release
from mlops.contracts.plan import Slot


def release(**changes: Any) -> Release:
    """Of version 2 on route `rag`, by Ann."""
    values: dict[str, Any] = {
        "id": "rel-1",
        "route": "rag",
        "candidate": Slot(version="2", endpoints=("http://127.0.0.1:9",)),
        "policy": {},
        "reason": "test",
        "started_by": "ann",
        "started_at_s": 0.0,
    }
    return Release(**{**values, **changes})
