"""The span of data that a run was trained on, as its tags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlops.mlflow_tracker import _window_tags

JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
SOMEWHERE = timezone(timedelta(hours=-5))


def test_both_ends_are_kept_with_their_zone() -> None:
    assert _window_tags(None) == {}
    assert _window_tags((JANUARY, FEBRUARY.astimezone(SOMEWHERE))) == {
        "data.since": "2026-01-01T00:00:00+00:00",
        "data.until": "2026-01-31T19:00:00-05:00",
    }


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((FEBRUARY, JANUARY), "ends before"),
        ((JANUARY.replace(tzinfo=None), FEBRUARY), "no time zone"),
        ((JANUARY.replace(tzinfo=None), FEBRUARY.replace(tzinfo=None)), "no time zone"),
    ],
)
def test_a_window_that_is_none_is_refused(window: tuple[datetime, datetime], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _window_tags(window)
