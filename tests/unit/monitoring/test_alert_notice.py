"""What of an hour's findings goes out."""

from __future__ import annotations

from msgspec.structs import replace

from mlops.monitoring.alert_notice import MAX_FINDINGS, alert_notice
from mlops.monitoring.findings import Finding, Severity

HOUR = "2026-01-31T0500Z"
SLOW = Finding(
    look="anomalies",
    name="latency_p95",
    route="rag",
    severity=Severity.WARNING,
    sentence="80 ms",
    value=80.0,
)


def test_the_identity_is_of_what_was_found_and_not_of_its_figures() -> None:
    first = alert_notice(HOUR, [SLOW]).identity
    assert first.startswith(f"monitoring.{HOUR}.")
    assert alert_notice(HOUR, [replace(SLOW, sentence="81 ms", value=81.0)]).identity == first
    for other in (
        alert_notice(HOUR, [replace(SLOW, route="chat")]),
        alert_notice(HOUR, [replace(SLOW, severity=Severity.CRITICAL)]),
        alert_notice(HOUR, [SLOW, SLOW]),
        alert_notice("2026-01-31T0600Z", [SLOW]),
    ):
        assert other.identity != first


def test_of_many_findings_the_first_go_out_and_all_are_counted() -> None:
    many = [replace(SLOW, route=f"route-{number}") for number in range(100)]
    found = alert_notice(HOUR, many)
    assert found.findings == tuple(many[:MAX_FINDINGS])
    assert found.count == 100
