"""How the evidence of each running release came to be: a bounded series of its checks. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from agent.judge import Judgement

MAX_POINTS: Final = 400
"""Of one release; at that every second one goes, so that a release of any length fits."""
FIRST_EVERY_S: Final = 2.0


class CheckPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One check at one moment; as in the release's status."""

    e_value: float
    noninferiority_e_value: float
    effect: float | None
    interval: tuple[float | None, float | None] | None
    candidate_value: float | None
    control_value: float | None


class EvidencePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A release at one moment."""

    at: float
    """Unix time, seconds."""
    weight: float
    """Percent."""
    verdict: str
    e_value: float
    """All checks combined; at 1 / alpha it is rolled back."""
    checks: dict[str, CheckPoint]


class _Series:
    def __init__(self) -> None:
        self.points: list[EvidencePoint] = []
        self.every_s = FIRST_EVERY_S


class EvidenceHistory:
    """By release, as far as this process has seen it."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def note(self, release_id: str, weight: float, judgement: Judgement, at_s: float) -> None:
        """One look; those that come sooner than the series has room for are left out."""
        series = self._series.setdefault(release_id, _Series())
        points = series.points
        if points and at_s - points[-1].at < series.every_s:
            return
        points.append(_point(weight, judgement, at_s))
        if len(points) > MAX_POINTS:
            del points[1::2]
            series.every_s *= 2

    def of(self, release_id: str) -> list[EvidencePoint]:
        """In order of time; empty where this process has not looked after it."""
        series = self._series.get(release_id)
        return series.points if series is not None else []

    def forget(self, known: Collection[str]) -> None:
        """Keep only the releases named."""
        for release_id in self._series.keys() - set(known):
            del self._series[release_id]


def _point(weight: float, judgement: Judgement, at_s: float) -> EvidencePoint:
    return EvidencePoint(
        at=round(at_s, 1),
        weight=weight,
        verdict=judgement.verdict.value,
        e_value=judgement.e_value,
        checks={
            name: CheckPoint(
                e_value=check.e_value,
                noninferiority_e_value=check.noninferiority_e_value,
                effect=check.effect,
                interval=check.bounds,
                candidate_value=check.candidate_value,
                control_value=check.control_value,
            )
            for name, check in judgement.checks.items()
        },
    )
