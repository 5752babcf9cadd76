"""Names and windows of runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dags.run_values import moment, monitoring_request, partition_name, retraining_request

END = datetime(2026, 1, 2, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 0, 3, 7, tzinfo=UTC)


def test_a_scheduled_run_learns_from_the_days_before_its_interval_ends() -> None:
    found = retraining_request(
        run_id="scheduled__1", interval_end=END, run_after=LATER, params={"lookback_days": 2}
    )
    assert found["until"] == found["as_of"] == "2026-01-02T00:00:00+00:00"
    assert found["since"] == "2025-12-31T00:00:00+00:00"
    assert "lookback_days" not in found


def test_parameters_win_and_what_is_not_given_is_left_out() -> None:
    params = {"until": "2026-01-01T12:00:00Z", "since": "2026-01-01", "route": None, "seed": 3}
    found = retraining_request(run_id="r", interval_end=END, run_after=LATER, params=params)
    assert found["until"] == "2026-01-01T12:00:00+00:00"
    assert found["since"] == "2026-01-01T00:00:00+00:00"
    assert found["seed"] == 3
    assert "route" not in found


def test_a_run_by_hand_without_an_interval_ends_where_it_was_asked_for() -> None:
    found = retraining_request(run_id="r", interval_end=None, run_after=LATER, params={})
    assert found["until"] == LATER.isoformat()


def test_tries_of_a_run_share_a_partition_and_runs_do_not() -> None:
    assert partition_name(END, "one") == partition_name(END, "one")
    assert partition_name(END, "one") != partition_name(END, "two")
    assert partition_name(END, "one").startswith("2026-01-02T000000Z-")


@pytest.mark.parametrize("end", [END, None])
def test_monitoring_looks_at_the_last_whole_hour(end: datetime | None) -> None:
    found = monitoring_request(run_type="scheduled", interval_end=end, run_after=LATER, params={})
    assert found == {"hour": "2026-01-01T23:00:00+00:00", "is_backfill": False}


def test_a_back_fill_says_that_it_is_one() -> None:
    params = {"hour": "2026-01-01T05:40:00Z"}
    found = monitoring_request(
        run_type="backfill", interval_end=END, run_after=LATER, params=params
    )
    assert found == {"hour": "2026-01-01T05:00:00+00:00", "is_backfill": True}


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment("2026-01-01T05:00:00") == datetime(2026, 1, 1, 5, tzinfo=UTC)
    with pytest.raises(ValueError, match="Invalid isoformat"):
        moment("yesterday")
