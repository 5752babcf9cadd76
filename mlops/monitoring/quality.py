"""Is the log of an hour whole, and do its rows have their features? Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mlops.feature_store.completeness import Completeness
from mlops.monitoring.figures import Collected
from mlops.monitoring.findings import Finding, Look, Severity

COMPLETE = 0.999
"""Rows over answers: below, evidence is missing that nobody decided to leave out."""
MISSING_RISE = 0.05
"""Of the rows that lack a feature, over the hours before: an encoder or a client has changed."""
DEAD_SHARE = 0.001


def quality(collected: Collected, completeness: Iterable[Completeness], dead_letters: int) -> Look:
    """What is wrong with the rows of the hour.

    Args:
        collected: figures of the hour and of those before.
        completeness: of the hour, by route and arm.
        dead_letters: records of the hour that could not become rows.
    """
    findings, unknown = [], []
    for one in completeness:
        if one.ratio is None:
            unknown.append(f"{one.route} {one.arm}: no tally of the hour, completeness unknown")
        elif one.ratio < COMPLETE:
            findings.append(
                _finding(
                    "completeness",
                    one.route,
                    Severity.CRITICAL,
                    f"{one.route} {one.arm}: {one.stored:,} rows of {one.answered:,} answers "
                    f"({100 * one.ratio:.2f} %), {one.dropped:,} dropped by a gateway",
                    one.ratio,
                )
            )
    findings += _missing(collected)
    answered = sum(one.requests for one in collected.hours if one.hour == collected.hour)
    if dead_letters > DEAD_SHARE * max(1, answered):
        sentence = f"{dead_letters:,} dead letters beside {answered:,} requests of stable"
        findings.append(
            _finding("dead_letters", "", Severity.WARNING, sentence, float(dead_letters))
        )
    return Look.of(findings, unknown)


def _missing(collected: Collected) -> list[Finding]:
    findings = []
    for now in (one for one in collected.hours if one.hour == collected.hour):
        past = [
            one for one in collected.hours if one.route == now.route and one.hour < collected.hour
        ]
        before = sum(one.requests for one in past)
        if not before:
            continue
        for name in ("without_text", "without_embedding"):
            share = getattr(now, name) / now.requests
            expected = sum(getattr(one, name) for one in past) / before
            if share > expected + MISSING_RISE:
                sentence = (
                    f"{now.route}: {100 * share:.1f} % of the rows {name.replace('_', ' ')}, "
                    f"before {100 * expected:.1f} %"
                )
                findings.append(_finding(name, now.route, Severity.WARNING, sentence, share))
    return findings


def _finding(name: str, route: str, severity: Severity, sentence: str, value: float) -> Finding:
    return Finding(
        look="quality", name=name, route=route, severity=severity, sentence=sentence, value=value
    )
