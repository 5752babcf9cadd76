"""The `checks` of a policy file: what is judged, with which margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from agent.policy import Checks, Direction, QuantileCheck, RateCheck, ScoreCheck
from agent.policy_values import (
    Parser,
    Place,
    chance,
    listed,
    mapping,
    margin,
    margin_or_none,
    odds_tolerance,
    text,
)

LISTED = Checks(
    errors=RateCheck(),
    client_errors=RateCheck(margin=0.01),
    refusals=RateCheck(margin=0.02),
    empty_retrievals=RateCheck(margin=0.02),
    latency=QuantileCheck(),
    ttft=QuantileCheck(),
    first_event=QuantileCheck(),
    gaps=QuantileCheck(quantiles=(0.5, 0.95), margin=0.2),
    answer_length=QuantileCheck(quantiles=(0.5,), margin=0.2, direction=Direction.BOTH),
    tokens=QuantileCheck(quantiles=(0.5, 0.95), margin=0.2),
    score=ScoreCheck(),
)
"""What each check means where the file names it and says no more."""

NAMES = tuple(one.name for one in fields(Checks))


def parse_checks(value: object, place: Place) -> Checks:
    """What the file lists is judged, and nothing else."""
    given = mapping(value, place, {name: _check(name) for name in NAMES})
    if not given:
        raise place.error(f"at least one of {listed(NAMES)}", value)
    return Checks(**({"errors": None, "latency": None} | given))


def checks_document(found: Checks) -> dict[str, Any]:
    """The same as it is written."""
    document: dict[str, Any] = {}
    for name in NAMES:
        match getattr(found, name):
            case RateCheck() as rate:
                document[name] = {"margin": rate.margin, "tolerance": rate.tolerance}
            case QuantileCheck() as one:
                document[name] = {
                    "quantiles": list(one.quantiles),
                    "margin": one.margin,
                    "direction": one.direction.value,
                }
            case ScoreCheck() as score:
                document[name] = {
                    "field": score.field,
                    "margin": score.margin,
                    "comparable": score.comparable,
                }
            case _:  # not listed
                pass
    return document


def _check(name: str) -> Parser:
    default = getattr(LISTED, name)
    keys: Mapping[str, Parser]
    if isinstance(default, RateCheck):
        keys = {"margin": margin_or_none, "tolerance": odds_tolerance}
    elif isinstance(default, QuantileCheck):
        keys = {"quantiles": _quantiles, "margin": margin, "direction": _direction}
    else:
        keys = {"field": text, "margin": margin, "comparable": _truth}

    def parse(value: object, place: Place) -> object:
        return replace(default, **mapping({} if value is None else value, place, keys))

    return parse


def _quantiles(value: object, place: Place) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise place.error("a list of quantiles such as [0.5, 0.95]", value)
    found = tuple(chance(item, place / index) for index, item in enumerate(value))
    if len(set(found)) != len(found):
        raise place.error("quantiles that differ", value)
    return found


def _direction(value: object, place: Place) -> Direction:
    try:
        return Direction(str(value))
    except ValueError:
        raise place.error(f"one of {listed(one.value for one in Direction)}", value) from None


def _truth(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.error("true or false", value)
    return value
