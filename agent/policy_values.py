"""The values a policy is made of, and how an error says where one stands.

Every error names the source, the key's path, what was expected and what came; an unknown key also
names the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class PolicyError(ValueError):
    """The policy says something that is not understood."""


class Place:
    """Where in which file we are, for errors."""

    __slots__ = ("path", "source")

    def __init__(self, source: str, path: str = "") -> None:
        self.source = source
        self.path = path

    def __truediv__(self, key: str | int) -> Place:
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.path else key
        return Place(self.source, f"{self.path}{step}")

    def error(self, expected: str, got: object) -> PolicyError:
        where = f"{self.source}: {self.path}" if self.path else self.source
        return PolicyError(f"{where}: expected {expected}, got {shown(got)}")


Parser = Callable[[object, Place], Any]


def mapping(value: object, place: Place, known: Mapping[str, Parser]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(f"a mapping with {listed(known)}", value)
    parsed = {}
    for key, item in value.items():
        parser = known.get(key) if isinstance(key, str) else None
        if parser is None:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise (place / str(key)).error(f"one of {listed(known)}", f"{key!s}{hint}")
        parsed[str(key)] = parser(item, place / str(key))
    return parsed


def text(value: object, place: Place) -> str:
    if not isinstance(value, str) or not value:
        raise place.error("a text that is not empty", value)
    return value


def number(value: object, place: Place, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise place.error(expected, value)
    return float(value)


def duration_s(value: object, place: Place) -> float:
    """`30s`, `10m`, `1h`, `1h30m`, `250ms`, or a number of seconds."""
    expected = "a duration such as 30s, 10m, 1h30m, or a number of seconds"
    if not isinstance(value, str):
        seconds = number(value, place, expected)
        if seconds < 0:
            raise place.error(expected, value)
        return seconds
    text = value.strip()
    if not text or _DURATION.sub("", text):
        raise place.error(expected, value)
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(text))


def chance(value: object, place: Place) -> float:
    chance = number(value, place, "a chance between 0 and 1, such as 0.05")
    if not 0 < chance < 1:
        raise place.error("a chance between 0 and 1, such as 0.05", value)
    return chance


def margin(value: object, place: Place) -> float:
    """`10%` or `0.005`."""
    expected = "a share above 0 and at most 100%, such as 10% or 0.005"
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            margin = float(value.strip()[:-1]) / 100
        except ValueError:
            raise place.error(expected, value) from None
    else:
        margin = number(value, place, expected)
    if not 0 < margin <= 1:
        raise place.error(expected, value)
    return margin


def percent_bp(value: object, place: Place, expected: str) -> int:
    text = value.strip().removesuffix("%") if isinstance(value, str) else value
    try:
        percent = float(text) if isinstance(text, str) else number(text, place, expected)
    except ValueError:
        raise place.error(expected, value) from None
    share_bp = percent * 100
    if not isfinite(share_bp) or abs(share_bp - round(share_bp)) > 1e-6:
        raise place.error(f"{expected}, in steps of 0.01", value)
    return round(share_bp)


def listed(known: Mapping[str, Parser]) -> str:
    return ", ".join(repr(key) for key in sorted(known))


def shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
