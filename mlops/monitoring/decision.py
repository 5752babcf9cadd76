"""Is there a reason to train again, and was it asked for in this window already? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mlops.monitoring.figures import HOUR_S
from mlops.monitoring.findings import Finding

REASON_CHARS = 200
"""The reason goes into the release's own, which a person reads in one line."""


class RetrainingAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the retraining pipeline to open. Its id is that of the window: whoever keeps runs
    apart by their ids opens one at most, however often it is asked."""

    run_id: str
    conf: dict[str, Any]
    sentence: str


class NotAsked(msgspec.Struct, frozen=True, kw_only=True):
    """No retraining, and why."""

    sentence: str


def window_start(hour: int, window_hours: int) -> int:
    """First second of the window of so many hours, counted from 1970, that the hour lies in."""
    window_s = window_hours * HOUR_S
    return hour - hour % window_s


def decide(
    hour: int,
    findings: Iterable[Finding],
    *,
    window_hours: int,
    may_retrain: bool,
    parameters: Mapping[str, Any],
) -> RetrainingAsked | NotAsked:
    """What the findings of an hour ask for.

    Args:
        hour: first second of the hour.
        findings: all of them.
        window_hours: at most one retraining is asked for in each such window.
        may_retrain: false where the hour is looked at long after, as in a back-fill.
        parameters: of the run that is asked for; win over ours.
    """
    reasons = [one.sentence for one in findings if one.retrain]
    if not reasons:
        return NotAsked(sentence="neither drift nor decay: nothing to train again for")
    if not may_retrain:
        return NotAsked(
            sentence=f"{'; '.join(reasons)}; but the hour was filled in later, and old hours "
            "open no retraining"
        )
    start = datetime.fromtimestamp(window_start(hour, window_hours), UTC)
    until = datetime.fromtimestamp(hour, UTC) + timedelta(hours=1)
    reason = "; ".join(reasons)
    if len(reason) > REASON_CHARS:
        reason = reason[: REASON_CHARS - 1] + "…"
    return RetrainingAsked(
        run_id=f"monitoring__{start:%Y-%m-%dT%H%MZ}_{window_hours}h",
        conf={"until": until.isoformat(), "reason": reason, **parameters},
        sentence=f"retraining for window {start:%Y-%m-%d %H:%M} of {window_hours} h: {reason}",
    )
