"""The admin API's contract as OpenAPI 3.1, with the bodies taken from the types themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from mlops.contracts.api import (
    AGENT_ACTOR,
    LeaseRenewal,
    Problem,
    RollbackRequest,
    RouteStatus,
    Weights,
)
from mlops.contracts.plan import RoutePlan

_ROUTE = {
    "name": "route",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "Name of a route in the gateway's file.",
}
_ACTOR = {
    "name": "x-actor",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Who does it; the first 128 characters are kept as the plan's `set_by`, "
    "together with the token's role. "
    f"Only `{AGENT_ACTOR}` publishes plans as they are; a plan from anybody else is held.",
}
_OF_ANY_TOKEN = (401, 429, 503)
"""No known token, too many wrong ones from this address, keys to check it with are away."""
_OF_A_ROUTE = (403, 404)
"""The token may not touch it, or it is not there."""
_OF_A_CHANGE = (400, 403, 404, 409, 413)
_ROUTES = "RouteStatusList"
_RELOADED = "Reloaded"


class RouteStatusList(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes`."""

    routes: list[RouteStatus]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/reload`."""

    reloaded: bool
    changes: str


def openapi_document() -> dict[str, Any]:
    """The whole document, ready to be encoded."""
    kinds = (
        LeaseRenewal, Problem, Reloaded, RollbackRequest, RoutePlan, RouteStatus, RouteStatusList,
        Weights,
    )  # fmt: skip
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gateway admin API",
            "version": "1",
            "description": "Weights, plans, leases and rollback of each route. Roles: viewer "
            "reads, operator changes. Without configured tokens the port is loopback only "
            "and open.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    at_route = "/v1/routes/{route}"
    routed = {"parameters": [_ROUTE]}
    return {
        "/livez": {"get": _text("The process answers.")},
        "/readyz": {"get": _text("Ready for traffic.", not_ready=True)},
        "/healthz": {"get": _text("The same as /readyz.", not_ready=True)},
        "/metrics": {"get": _text("Prometheus text.")},
        "/openapi.json": {"get": _document()},
        "/v1/routes": {"get": _operation("Every route that the token may see.", answer=_ROUTES)},
        at_route: routed | {"get": _operation("What is live, and why.", refusals=_OF_A_ROUTE)},
        f"{at_route}/weights": routed
        | {
            "get": _operation("Weights asked for.", answer="Weights", refusals=_OF_A_ROUTE),
            "put": _operation(
                "Set weights by hand: the next generation, held, without a lease.",
                body="Weights",
                refusals=(*_OF_A_CHANGE, 507),
                actor=True,
            ),
        },
        f"{at_route}/plan": routed
        | {
            "put": _operation(
                "Put a whole plan in force; its generation must be above the live one.",
                body="RoutePlan",
                refusals=(*_OF_A_CHANGE, 507),
                actor=True,
            )
        },
        f"{at_route}/lease": routed
        | {
            "put": _operation(
                "Renew the lease of the live generation.",
                body="LeaseRenewal",
                refusals=_OF_A_CHANGE,
            )
        },
        f"{at_route}/rollback": routed
        | {
            "post": _operation(
                "Everything to stable, now; repeating it changes nothing.",
                body="RollbackRequest",
                refusals=(*_OF_A_CHANGE, 507),
                actor=True,
                body_required=False,
            )
        },
        "/v1/reload": {
            "post": _operation(
                "Read the file again; a bad file is refused whole.",
                answer=_RELOADED,
                refusals=(403, 422),
            )
        },
    }


def _operation(
    summary: str,
    *,
    answer: str = "RouteStatus",
    refusals: tuple[int, ...] = (),
    body: str | None = None,
    body_required: bool = True,
    actor: bool = False,
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": _content(answer)}}
    for status in sorted({*_OF_ANY_TOKEN, *refusals}):
        responses[str(status)] = {"description": "Refused.", "content": _content("Problem")}
    operation: dict[str, Any] = {
        "summary": summary,
        "security": [{"bearer": []}, {}],
        "responses": responses,
    }
    if body is not None:
        operation["requestBody"] = {"required": body_required, "content": _content(body)}
    if actor:
        operation["parameters"] = [_ACTOR]
    return operation


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _document() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"summary": "This document.", "responses": {"200": _described(content)}}


def _text(summary: str, *, not_ready: bool = False) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": _described(content)}
    if not_ready:
        responses["503"] = {"description": "Not ready; says why.", "content": content}
    return {"summary": summary, "responses": responses}


def _described(content: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Done.", "content": content}
