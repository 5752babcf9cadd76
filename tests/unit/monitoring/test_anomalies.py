"""An hour against the hours before it."""

from __future__ import annotations

import numpy as np
import pytest

from mlops.monitoring.anomalies import ERRORS, SCORE, Point, anomalies, compare
from mlops.monitoring.figures import HOUR_S, HourFigures, ScoreFigures, collected

HOUR = 500_000 * HOUR_S


def figures(hours_ago: int, **changed: float) -> HourFigures:
    values: dict[str, float] = {
        "requests": 1_000,
        "errors": 5,
        "latency_p50_ms": 20.0,
        "latency_p95_ms": 50.0,
        "scored": 500,
        "score_total": 400.0,
        "score_squares": 340.0,
        "without_text": 0,
        "without_embedding": 0,
    }
    return HourFigures(route="rag", hour=HOUR - hours_ago * HOUR_S, **(values | changed))


def look(now: HourFigures | None, hours: int = 24, scores: list[ScoreFigures] | None = None):
    past = [figures(ago, errors=5 + ago % 3) for ago in range(1, hours + 1)]
    all_hours = past + ([] if now is None else [now])
    return anomalies(collected(HOUR, HOUR - hours * HOUR_S, all_hours, scores or []))


def names(found) -> list[str]:
    return [one.name for one in found.findings]


def test_an_hour_like_the_others_is_none() -> None:
    assert names(look(figures(0))) == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"errors": 60}, "error_rate"),
        ({"latency_p50_ms": 30.0}, "latency_p50"),
        ({"latency_p95_ms": 80.0}, "latency_p95"),
        ({"score_total": 300.0, "score_squares": 190.0}, "relevance_score"),
    ],
)
def test_each_figure_that_is_worse_is_told(changed: dict[str, float], name: str) -> None:
    assert names(look(figures(0, **changed))) == [name]


@pytest.mark.parametrize(
    "changed", [{"errors": 0}, {"latency_p95_ms": 10.0}, {"score_total": 480.0}]
)
def test_better_is_no_anomaly(changed: dict[str, float]) -> None:
    assert names(look(figures(0, **changed))) == []


def test_a_certain_change_that_is_too_small_to_matter_is_not_told() -> None:
    past = [Point(value=0.001, error=0.0)] * 24
    assert compare(ERRORS, Point(value=0.004, error=1e-6), past) is None


def test_only_worse_answers_are_a_reason_to_retrain() -> None:
    worse = look(figures(0, errors=100, score_total=300.0, score_squares=190.0))
    assert {one.name: one.retrain for one in worse.findings} == {
        "error_rate": False,
        "relevance_score": True,
    }


@pytest.mark.parametrize(("hours", "requests"), [(5, 1_000), (24, 49)])
def test_too_little_to_go_by_is_said_and_not_judged(hours: int, requests: int) -> None:
    found = look(figures(0, errors=requests, requests=requests), hours)
    assert names(found) == []
    assert any("expected 50 requests and 6 hours" in one for one in found.not_judged)


def test_a_silent_hour_is_critical_where_earlier_days_had_traffic() -> None:
    found = look(None, hours=72)
    assert [(one.name, one.severity) for one in found.findings] == [("traffic", "critical")]


def test_three_times_the_traffic_of_that_hour_is_told_and_twice_is_not() -> None:
    assert names(look(figures(0, requests=2_000, errors=10), hours=72)) == []
    assert names(look(figures(0, requests=3_100, errors=15), hours=72)) == ["traffic"]


def test_late_scores_are_compared_by_name() -> None:
    def score(ago: int, mean: float) -> ScoreFigures:
        return ScoreFigures(
            name="thumbs",
            hour=HOUR - ago * HOUR_S,
            count=400,
            total=400 * mean,
            squares=400 * (mean**2 + 0.04),
        )

    past = [score(ago, 0.8) for ago in range(1, 10)]
    assert names(look(figures(0), scores=[*past, score(0, 0.79)])) == []
    (found,) = look(figures(0), scores=[*past, score(0, 0.6)]).findings
    assert (found.name, found.retrain) == ("thumbs", True)


def test_hours_without_a_change_hardly_ever_pass_the_limit() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(500):
        means = random.normal(0.8, 0.01, 169)
        noise = random.normal(0, 0.02, 169)
        points = [Point(value=float(value), error=0.02) for value in means + noise]
        alarms += compare(SCORE, points[0], points[1:]) is not None
    assert alarms == 0
