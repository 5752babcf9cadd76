"""The policy's `checks`: what is judged, as the file says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.policy import Checks, ErrorsCheck, LatencyCheck, ScoreCheck
from agent.policy_values import Parser, Place, chance, mapping, margin, text


def checks_document(checks: Checks) -> dict[str, Any]:
    """The checks as `parse_checks` reads them."""
    document: dict[str, Any] = {}
    if checks.errors is not None:
        document["errors"] = {"margin": checks.errors.margin}
    for name, check in (("latency", checks.latency), ("ttft", checks.ttft)):
        if check is not None:
            document[name] = {"quantiles": list(check.quantiles), "margin": check.margin}
    if checks.score is not None:
        score = checks.score
        document["score"] = {"field": score.field, "margin": score.margin}
    return document


def _quantiles(value: object, place: Place) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise place.error("a list of quantiles such as [0.5, 0.95]", value)
    found = tuple(chance(item, place / index) for index, item in enumerate(value))
    if len(set(found)) != len(found):
        raise place.error("quantiles that differ", value)
    return found


def _check(kind: Callable[..., Any], known: Mapping[str, Parser]) -> Parser:
    def parse(value: object, place: Place) -> object:
        return kind(**mapping({} if value is None else value, place, known))

    return parse


def parse_checks(value: object, place: Place) -> Checks:
    """What the file lists is judged, and nothing else."""
    latency = {"quantiles": _quantiles, "margin": margin}
    given = mapping(
        value,
        place,
        {
            "errors": _check(ErrorsCheck, {"margin": margin}),
            "latency": _check(LatencyCheck, latency),
            "ttft": _check(LatencyCheck, latency),
            "score": _check(ScoreCheck, {"field": text, "margin": margin}),
        },
    )
    if not given:
        raise place.error("at least one of 'errors', 'latency', 'ttft', 'score'", value)
    return Checks(**({"errors": None, "latency": None} | given))
