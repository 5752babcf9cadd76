"""What a webhook is told of an hour's findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from mlops.monitoring.findings import Finding

KIND: Final = "monitoring.alerts"
"""`type` of the notice, beside `rollback.by_hand` and the agent's `release.*`."""

MAX_FINDINGS: Final = 20
"""The most urgent of them; `alerts.json` has all. A receiver's limit is often 64 KiB."""


class AlertNotice(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of one hour, the most urgent first."""

    identity: str
    """The same while the same things are found in an hour, whatever their exact figures: a receiver
    may drop a second one, and an hour that is looked at again tells nothing twice."""
    partition: str
    """Names the hour: `2026-01-31T0500Z`."""
    count: int
    """Of all findings, those left out too."""
    findings: tuple[Finding, ...]


def alert_notice(partition: str, findings: Sequence[Finding]) -> AlertNotice:
    """Of findings in the order of their urgency."""
    what = [(one.severity, one.look, one.route, one.name) for one in findings]
    digest = blake2b(msgspec.json.encode(what), digest_size=8).hexdigest()
    return AlertNotice(
        identity=f"monitoring.{partition}.{digest}",
        partition=partition,
        count=len(findings),
        findings=tuple(findings[:MAX_FINDINGS]),
    )
