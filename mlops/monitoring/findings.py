"""What a look at an hour found. Pure values."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How soon a person should look. The order is that of urgency."""

    CRITICAL = "critical"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was, or not as it should be."""

    look: str
    """`anomalies`, `drift` or `quality`."""
    name: str
    """Of the figure or feature."""
    route: str = ""
    """Empty: of no route alone."""
    severity: Severity
    sentence: str
    value: float | None = None
    expected: float | None = None
    retrain: bool = False
    """A reason to train again: the queries have moved, or answers have become worse."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at an hour: what it found, and what it could not tell."""

    findings: list[Finding]
    not_judged: list[str]
    """A sentence for each figure without enough to go by; no finding is not a clean bill."""
    sentence: str

    @classmethod
    def of(cls, findings: list[Finding], not_judged: list[str]) -> Look:
        """With the sentence that follows from both."""
        found = "; ".join(one.sentence for one in findings) or "nothing found"
        silent = f"; {len(not_judged)} not judged" if not_judged else ""
        return cls(findings=findings, not_judged=not_judged, sentence=found + silent)


def in_order(findings: list[Finding]) -> list[Finding]:
    """The most urgent first."""
    order = list(Severity)
    return sorted(findings, key=lambda one: (order.index(one.severity), one.route, one.name))
