"""Freeze windows: hours that come back, spans that do not, zones and daylight saving."""

from __future__ import annotations

from datetime import datetime

import pytest
import yaml

from agent.freeze import freeze_document, frozen, parse_freeze
from agent.policy_values import Place, PolicyError

WEEKEND = (
    "[{days: [fri, sat, sun], from: 18:00, to: '08:00', timezone: Europe/Berlin, reason: rest}]"
)


def windows(text: str) -> tuple[object, ...]:
    return parse_freeze(yaml.safe_load(text), Place("policy", "freeze"))


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-27T17:59:00+01:00", ""),  # a Friday
        ("2026-11-27T18:00:00+01:00", "frozen until 2026-11-28T08:00+01:00 (rest)"),
        ("2026-11-28T07:59:59+01:00", "frozen until 2026-11-28T08:00+01:00 (rest)"),
        ("2026-11-28T08:00:00+01:00", ""),
        ("2026-11-30T07:00:00+01:00", "frozen until 2026-11-30T08:00+01:00 (rest)"),  # Sunday's
        ("2026-11-30T19:00:00+01:00", ""),  # Monday
        ("2026-11-27T17:30:00+00:00", "frozen until 2026-11-28T08:00+01:00 (rest)"),
        ("2026-07-03T16:00:00+00:00", "frozen until 2026-07-04T08:00+02:00 (rest)"),  # summer
    ],
)
def test_hours_that_come_back_are_the_zones_own(moment: str, expected: str) -> None:
    assert frozen(windows(WEEKEND), at(moment)) == expected


def test_a_span_ends_once_and_the_last_end_is_told() -> None:
    two = windows(
        "[{from: 2026-12-20T00:00:00Z, to: 2027-01-03T00:00:00Z}, {from: '00:00', to: '24:00'}]"
    )
    assert frozen(two, at("2026-12-24T12:00:00Z")) == "frozen until 2027-01-03T00:00+00:00"
    assert frozen(two, at("2027-02-01T12:00:00Z")) == "frozen until 2027-02-02T00:00+00:00"


def test_the_document_is_read_back_as_the_same() -> None:
    both = windows(WEEKEND) + windows("[{from: 2026-12-20T00:00:00Z, to: 2027-01-03T00:00:00Z}]")
    assert parse_freeze(freeze_document(both), Place("policy")) == both


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{from: 18:00}]", "both hours"),
        ("[{from: 18:00, to: 2026-12-20T00:00:00Z}]", "both hours"),
        ("[{from: 2026-12-20T00:00:00, to: 2026-12-21T00:00:00Z}]", "with its zone"),
        ("[{from: 2026-12-21T00:00:00Z, to: 2026-12-20T00:00:00Z}]", "a moment after `from`"),
        ("[{from: 18:00, to: 19:00, days: [friday]}]", "a list of mon, tue"),
        ("[{from: 18:00, to: 19:00, timezone: Mars/Olympus}]", "a time zone such as"),
        ("[{from: 18:00, to: 19:00, zone: UTC}]", "freeze[0].zone"),
        ('[{from: "18:00+02:00", to: 19:00}]', "an hour's zone stands in timezone"),
        ('[{from: "18:00Z", to: 19:00}]', "an hour's zone stands in timezone"),
        ("{}", "a list"),
    ],
)
def test_what_is_not_understood_is_refused_by_place(text: str, expected: str) -> None:
    with pytest.raises(PolicyError) as refused:
        windows(text)
    assert str(refused.value).startswith("policy: freeze")
    assert expected in str(refused.value)
