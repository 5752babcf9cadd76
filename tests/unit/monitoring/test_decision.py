"""When a retraining is asked for, and how often."""

from __future__ import annotations

from mlops.monitoring.anomalies import anomalies
from mlops.monitoring.decision import REASON_CHARS, NotAsked, RetrainingAsked, decide, window_start
from mlops.monitoring.figures import HOUR_S, HourFigures, collected
from mlops.monitoring.findings import Finding, Severity

NOON = 1_767_268_800  # 2026-01-01 12:00 UTC
DRIFT = Finding(
    look="drift", name="embedding", severity=Severity.WARNING, sentence="moved", retrain=True
)
ERRORS = Finding(look="anomalies", name="error_rate", severity=Severity.CRITICAL, sentence="5 %")


def decided(hour: int = NOON, findings: tuple[Finding, ...] = (DRIFT,), **changed: object):
    options: dict[str, object] = {"window_hours": 24, "may_retrain": True, "parameters": {}}
    return decide(hour, findings, **(options | changed))


def test_every_hour_of_a_window_asks_for_the_same_run() -> None:
    asked = {decided(hour).run_id for hour in range(NOON - 12 * HOUR_S, NOON + 12 * HOUR_S, HOUR_S)}
    assert asked == {"monitoring__2026-01-01T0000Z_24h"}
    assert decided(NOON + 12 * HOUR_S).run_id == "monitoring__2026-01-02T0000Z_24h"


def test_it_learns_up_to_the_end_of_the_hour_and_says_why() -> None:
    found = decided(parameters={"route": "rag"})
    assert isinstance(found, RetrainingAsked)
    assert found.conf == {"until": "2026-01-01T13:00:00+00:00", "reason": "moved", "route": "rag"}


def test_answers_that_decay_ask_for_one_run_in_a_window() -> None:
    """Figures to findings to the run's id, hour after hour of a day in which scores fall."""
    asked = []
    for hour in range(NOON, NOON + 24 * HOUR_S, HOUR_S):
        look = anomalies(collected(hour, hour - 24 * HOUR_S, scored_hours(hour), []))
        (finding,) = look.findings
        assert finding.name == "relevance_score"
        asked.append(decided(hour, (finding,)))
    runs = [one.run_id for one in asked if isinstance(one, RetrainingAsked)]
    assert (
        runs
        == ["monitoring__2026-01-01T0000Z_24h"] * 12 + ["monitoring__2026-01-02T0000Z_24h"] * 12
    )


def scored_hours(until: int) -> list[HourFigures]:
    """A day of answers that score 0.8, and an hour of those that score 0.5."""
    return [
        HourFigures(
            route="rag",
            hour=until - ago * HOUR_S,
            requests=1_000,
            errors=5,
            latency_p50_ms=20.0,
            latency_p95_ms=50.0,
            scored=500,
            score_total=500 * mean,
            score_squares=500 * (mean**2 + 0.04),
            without_text=0,
            without_embedding=0,
        )
        for ago, mean in [(0, 0.5), *((ago, 0.8) for ago in range(1, 24))]
    ]


def test_errors_are_no_reason_to_train_again() -> None:
    assert isinstance(decided(findings=(ERRORS,)), NotAsked)


def test_an_hour_that_is_filled_in_later_asks_for_nothing() -> None:
    found = decided(may_retrain=False)
    assert isinstance(found, NotAsked)
    assert "filled in later" in found.sentence


def test_a_long_reason_is_cut() -> None:
    found = decided(findings=(DRIFT,) * 100)
    assert isinstance(found, RetrainingAsked)
    assert len(found.conf["reason"]) == REASON_CHARS


def test_windows_begin_at_whole_multiples_of_their_length() -> None:
    assert window_start(NOON + HOUR_S, 6) == NOON
    assert window_start(NOON - 1, 6) == NOON - 6 * HOUR_S
