"""How the exchanges of each route become features, but for the profile, which they bring. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.features.extract import extract
from gateway.features.model import UNKNOWN_ROUTE, Body, Features
from gateway.features.pointers import Pointer
from gateway.features.redaction import Redaction, redact


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRules:
    """Where else features stand on a route, and what of them is taken out."""

    pointers: tuple[Pointer, ...] = ()
    redaction: Redaction = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of every route that a file names."""

    routes: Mapping[str, RouteRules]
    """By route."""
    others: RouteRules | None = None
    """For any other route; None where a route that is not named here is one we know nothing of."""

    def features(
        self, route: str, profile: str, target: str, request: Body, response: Body
    ) -> Features:
        """What the bodies say and the route lets through.

        Of an unknown route that is nothing: what it would have redacted is not known.
        """
        rules = self.routes.get(route, self.others)
        if rules is None:
            return Features(missing=[UNKNOWN_ROUTE])
        features = extract(profile, target, request, response, rules.pointers)
        if rules.redaction:
            redact(features, rules.redaction)
        return features


AS_THEY_COME = Rules({}, RouteRules())
"""Nothing is pointed at, nothing redacted, on any route."""
