"""Values of a policy file: each parser refuses what it does not understand, naming where it stands.

Every error names the source, the key's path, what was expected and what came; an unknown key also
names the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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
        """To be raised: what was expected here, and what came (cut to 120 characters)."""
        where = f"{self.source}: {self.path}" if self.path else self.source
        return PolicyError(f"{where}: expected {expected}, got {_shown(got)}")


Parser = Callable[[object, Place], Any]


def mapping(value: object, place: Place, known: Mapping[str, Parser]) -> dict[str, Any]:
    """Parse each key by its parser; an unknown one is an error."""
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
    """Not empty."""
    if not isinstance(value, str) or not value:
        raise place.error("a text that is not empty", value)
    return value


def number(value: object, place: Place, expected: str) -> float:
    """Finite, and no boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.error(expected, value)
    try:
        found = float(value)
    except OverflowError:  # a whole number of four hundred digits
        raise place.error(expected, value) from None
    if not isfinite(found):
        raise place.error(expected, value)
    return found


def duration_s(value: object, place: Place) -> float:
    """`30s`, `10m`, `1h`, `1h30m`, `250ms`, or a number of seconds."""
    expected = "a duration such as 30s, 10m, 1h30m, or a number of seconds"
    if not isinstance(value, str):
        seconds = number(value, place, expected)
        if seconds < 0:
            raise place.error(expected, value)
        return seconds
    written = value.strip()
    if not written or _DURATION.sub("", written):
        raise place.error(expected, value)
    seconds = sum(float(count) * _UNITS_S[unit] for count, unit in _DURATION.findall(written))
    if not isfinite(seconds):
        raise place.error(expected, value)
    return seconds


def chance(value: object, place: Place) -> float:
    """Strictly between 0 and 1."""
    expected = "a chance between 0 and 1, such as 0.05"
    given = number(value, place, expected)
    if not 0 < given < 1:
        raise place.error(expected, value)
    return given


def odds_tolerance(value: object, place: Place) -> float:
    """1 is none."""
    expected = "a ratio of odds from 1 to 10"
    ratio = number(value, place, expected)
    if not 1 <= ratio <= 10:
        raise place.error(expected, value)
    return ratio


def margin(value: object, place: Place) -> float:
    """`10%` or `0.005`."""
    found = _share(value, place, "a share above 0 and at most 100%, such as 10% or 0.005")
    if found == 0:
        raise place.error("a share above 0 and at most 100%, such as 10% or 0.005", value)
    return found


def margin_or_none(value: object, place: Place) -> float:
    """The same, or 0: no margin at all."""
    return _share(value, place, "a share from 0 to 100%, such as 0.5% or 0.005")


def _share(value: object, place: Place, expected: str) -> float:
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            found = float(value.strip()[:-1]) / 100
        except ValueError:
            raise place.error(expected, value) from None
    else:
        found = number(value, place, expected)
    if not 0 <= found <= 1:
        raise place.error(expected, value)
    return found


def percent_bp(value: object, place: Place, expected: str) -> int:
    """`5%` or `5`, in basis points."""
    bare = value.strip().removesuffix("%") if isinstance(value, str) else value
    try:
        percent = float(bare) if isinstance(bare, str) else number(bare, place, expected)
    except ValueError:
        raise place.error(expected, value) from None
    share_bp = percent * 100
    if not isfinite(share_bp) or abs(share_bp - round(share_bp)) > 1e-6:
        raise place.error(f"{expected}, in steps of 0.01", value)
    return round(share_bp)


def listed(known: Iterable[str]) -> str:
    """For people."""
    return ", ".join(repr(key) for key in sorted(known))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
