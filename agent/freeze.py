"""Freeze windows: times in which no release advances. A rollback always works. Pure.

A window is either one span between two moments, or hours that come back every week.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from agent.policy_values import Place, PolicyError, mapping, text

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_WINDOWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Once, from one moment to another."""

    start: datetime
    end: datetime
    reason: str = ""

    def until(self, now: datetime) -> datetime | None:
        """The end, if `now` lies within."""
        return self.end if self.start <= now < self.end else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """From an hour on each of some days until an hour: of the next day where that is not later."""

    days: tuple[int, ...]
    """0 is Monday."""
    start: time
    end: time
    zone: ZoneInfo
    reason: str = ""

    def until(self, now: datetime) -> datetime | None:
        """The end of the window that `now` lies within."""
        here = now.astimezone(self.zone)
        for day in (here.date(), here.date() - timedelta(days=1)):
            if day.weekday() not in self.days:
                continue
            start = datetime.combine(day, self.start, self.zone)
            last = day if self.end > self.start else day + timedelta(days=1)
            end = datetime.combine(last, self.end, self.zone)
            if start <= here < end:
                return end
        return None


Window = Span | Weekly


def frozen(windows: Iterable[Window], now_s: float) -> str:
    """Why nothing may advance now, as a phrase; empty outside of every window."""
    now = datetime.fromtimestamp(now_s, UTC)
    found = [(end, one.reason) for one in windows if (end := one.until(now)) is not None]
    if not found:
        return ""
    end, reason = max(found)
    because = f" ({reason})" if reason else ""
    return f"frozen until {end.isoformat(timespec='minutes')}{because}"


# ---- the file's words --------------------------------------------------------------------------


def parse_freeze(value: object, place: Place) -> tuple[Window, ...]:
    """A list of `{from, to}` with moments, or `{days?, from, to, timezone?}` with hours.

    Raises:
        PolicyError: it says something that is not understood.
    """
    if not isinstance(value, list) or len(value) > MAX_WINDOWS:
        raise place.error(f"a list of at most {MAX_WINDOWS} windows", value)
    return tuple(_window(item, place / index) for index, item in enumerate(value))


def freeze_document(windows: tuple[Window, ...]) -> list[dict[str, Any]]:
    """As `parse_freeze` reads it."""
    return [_span_document(w) if isinstance(w, Span) else _weekly_document(w) for w in windows]


def _window(value: object, place: Place) -> Window:
    keys = {"from": _moment, "to": _moment, "days": _days, "timezone": _zone, "reason": text}
    given = mapping(value, place, keys)
    start, end = given.get("from"), given.get("to")
    if isinstance(start, datetime) and isinstance(end, datetime):
        if "days" in given or "timezone" in given:
            raise place.error("days and timezone only with hours such as 18:00", value)
        if end <= start:
            raise (place / "to").error("a moment after `from`", end.isoformat())
        return Span(start=start, end=end, reason=given.get("reason", ""))
    if not isinstance(start, time) or not isinstance(end, time):
        raise place.error("`from` and `to`, both hours (18:00) or both moments (2026-12-20T00:00Z)",
                          value)  # fmt: skip
    return Weekly(
        days=given.get("days", tuple(range(7))),
        start=start,
        end=end,
        zone=given.get("timezone", ZoneInfo("UTC")),
        reason=given.get("reason", ""),
    )


def _moment(value: object, place: Place) -> datetime | time:
    """YAML reads an unquoted 18:00 as a number of minutes and a date as a date; both are taken."""
    expected = "an hour such as 18:00, or a moment with its zone such as 2026-12-20T00:00:00Z"
    if isinstance(value, bool):
        raise place.error(expected, value)
    if isinstance(value, int) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str) and value == "24:00":
        return time(0, 0)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return _hour(value, place, expected)
    if moment.tzinfo is None:
        raise place.error(expected, value)
    return moment


def _hour(value: object, place: Place, expected: str) -> time:
    """Of the window's `timezone`: one with a zone of its own would be at another time."""
    try:
        hour = time.fromisoformat(str(value))
    except ValueError:
        raise place.error(expected, value) from None
    if hour.tzinfo is not None:
        raise place.error(f"{expected}; an hour's zone stands in timezone", value)
    return hour


def _days(value: object, place: Place) -> tuple[int, ...]:
    expected = f"a list of {', '.join(DAYS)}"
    if not isinstance(value, list) or not value:
        raise place.error(expected, value)
    if any(day not in DAYS for day in value):
        raise place.error(expected, value)
    return tuple(sorted({DAYS.index(day) for day in value}))


def _zone(value: object, place: Place) -> ZoneInfo:
    try:
        return ZoneInfo(text(value, place))
    except (PolicyError, OSError, ValueError, KeyError):
        raise place.error("a time zone such as Europe/Berlin (tzdata installed)", value) from None


def _span_document(one: Span) -> dict[str, Any]:
    said = {"from": one.start.isoformat(), "to": one.end.isoformat()}
    return said | ({"reason": one.reason} if one.reason else {})


def _weekly_document(one: Weekly) -> dict[str, Any]:
    said: dict[str, Any] = {
        "days": [DAYS[day] for day in one.days],
        "from": one.start.isoformat(timespec="minutes"),
        "to": one.end.isoformat(timespec="minutes"),
        "timezone": one.zone.key,
    }
    return said | ({"reason": one.reason} if one.reason else {})
