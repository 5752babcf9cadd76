"""From a request to a plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from mlops.pipelines.request import RetrainingRequest, plan_of

UNTIL = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = RetrainingRequest(
    partition="p", since=UNTIL - timedelta(days=1), until=UNTIL, as_of=UNTIL, reason="drift"
)


def test_the_setting_holds_unless_the_request_says_another_number() -> None:
    assert plan_of(REQUEST, min_samples=100, champion=None).min_samples == 100
    asked = msgspec.structs.replace(REQUEST, min_samples=5)
    assert plan_of(asked, min_samples=100, champion=None).min_samples == 5


def test_the_plan_names_its_champion_and_its_window() -> None:
    plan = plan_of(REQUEST, min_samples=100, champion="1.2.0")
    assert (plan.champion, plan.window.until) == ("1.2.0", UNTIL)


def test_a_window_without_length_is_refused() -> None:
    empty = msgspec.structs.replace(REQUEST, since=UNTIL)
    with pytest.raises(ValueError, match="expected since before until"):
        plan_of(empty, min_samples=100, champion=None)


def test_the_release_names_the_run_that_began_it() -> None:
    assert REQUEST.release_reason == "retraining p (drift)"
