"""From a run of Airflow to a step's request: names, intervals, parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

HOUR = timedelta(hours=1)


def moment(value: str | datetime | None) -> datetime | None:
    """A parameter as a time with a zone; UTC where it names none.

    Raises:
        ValueError: it is no ISO 8601 time.
    """
    if value is None:
        return None
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def partition_name(until: datetime, run_id: str) -> str:
    """The same for every try of a run, another for every other run."""
    digest = blake2b(run_id.encode(), digest_size=4).hexdigest()
    return f"{until.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{digest}"


def retraining_request(
    *, run_id: str, interval_end: datetime | None, run_after: datetime, params: Mapping[str, Any]
) -> dict[str, Any]:
    """What `dags.steps retrain` takes.

    The window ends with the data interval and is `lookback_days` long, unless parameters say
    otherwise; a run by hand without an interval ends where it was asked for.
    """
    given = {name: value for name, value in params.items() if value is not None}
    until = moment(given.pop("until", None)) or moment(interval_end) or moment(run_after)
    assert until is not None, "every run has a time after which it may run"
    days = float(given.pop("lookback_days", 30))
    since = moment(given.pop("since", None)) or until - timedelta(days=days)
    as_of = moment(given.pop("as_of", None)) or until
    return given | {
        "partition": partition_name(until, run_id),
        "since": since.isoformat(),
        "until": until.isoformat(),
        "as_of": as_of.isoformat(),
    }


def monitoring_request(
    *,
    run_type: str,
    interval_end: datetime | None,
    run_after: datetime,
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """What `dags.steps monitor` takes: one whole hour, the last one that is over."""
    given = {name: value for name, value in params.items() if value is not None}
    asked = moment(given.pop("hour", None))
    if asked is None:
        end = moment(interval_end) or moment(run_after)
        assert end is not None, "every run has a time after which it may run"
        asked = end.replace(minute=0, second=0, microsecond=0) - HOUR
    hour = asked.replace(minute=0, second=0, microsecond=0)
    return given | {"hour": hour.isoformat(), "is_backfill": run_type == "backfill"}
