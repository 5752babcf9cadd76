"""When a retraining is asked for, and how often."""

from __future__ import annotations

from mlops.monitoring.decision import REASON_CHARS, NotAsked, RetrainingAsked, decide, window_start
from mlops.monitoring.figures import HOUR_S
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
    assert asked == {"drift__2026-01-01T0000Z_24h"}
    assert decided(NOON + 12 * HOUR_S).run_id == "drift__2026-01-02T0000Z_24h"


def test_it_learns_up_to_the_end_of_the_hour_and_says_why() -> None:
    found = decided(parameters={"route": "rag"})
    assert isinstance(found, RetrainingAsked)
    assert found.conf == {"until": "2026-01-01T13:00:00+00:00", "reason": "moved", "route": "rag"}


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
