"""The policy's `pairs`: what is compared of two answers to one query, as the file says it."""

from __future__ import annotations

from typing import Any

from agent.policy import PairsCheck
from agent.policy_values import Place, PolicyError, mapping, margin, number

MAX_TOP = 100
"""Documents of one answer that are worth comparing."""


def parse_pairs(value: object, place: Place) -> PairsCheck:
    """Absent keys take the defaults of `PairsCheck`.

    Raises:
        PolicyError: unknown key, or a value that is not understood.
    """
    keys = {
        "margin": _part,
        "latency": margin,
        "length": margin,
        "score": margin,
        "top": _top,
        "overlap": _part,
    }
    return PairsCheck(**mapping({} if value is None else value, place, keys))


def pairs_document(pairs: PairsCheck) -> dict[str, Any]:
    """As `parse_pairs` reads it."""
    document: dict[str, Any] = {
        "margin": pairs.margin,
        "latency": pairs.latency,
        "length": pairs.length,
        "top": pairs.top,
    }
    optional = {"score": pairs.score, "overlap": pairs.overlap}
    return document | {name: one for name, one in optional.items() if one is not None}


def _part(value: object, place: Place) -> float:
    """Of all pairs. A mean that must be, or may be, the greatest there is cannot be bet on."""
    expected = "a share above 0 and below 100%, such as 2% or 0.5"
    try:
        found = margin(value, place)
    except PolicyError:
        raise place.error(expected, value) from None
    if found == 1:
        raise place.error(expected, value)
    return found


def _top(value: object, place: Place) -> int:
    expected = f"a whole number from 1 to {MAX_TOP}"
    count = number(value, place, expected)
    if count != int(count) or not 1 <= count <= MAX_TOP:
        raise place.error(expected, value)
    return int(count)
