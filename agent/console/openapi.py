"""The console's part of the agent's OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from agent.console.alerts import Alerts
from agent.console.api import (
    MAX_PAIR_MINUTES,
    MAX_TRAFFIC_MINUTES,
    ByHand,
    EffectivePolicy,
    LiveRoutes,
    ShownPair,
)
from agent.console.history import EvidencePoint
from agent.console.replays import MAX_POLICY_CHARS, Replayed
from agent.console.series import Traffic
from mlops.contracts.api import RollbackRequest, Weights
from mlops.deployment.strategies import strategies
from mlops.feature_store.queries import ARMS, MAX_MINUTES, ORDERS, LoggedQuery

KINDS: Final = (
    Alerts, ByHand, EffectivePolicy, EvidencePoint, LiveRoutes, LoggedQuery, Replayed,
    RollbackRequest, ShownPair, Traffic, Weights,
)  # fmt: skip

_JSON = "application/json"
_UNCONFIRMED: Final = {
    "409": "Every gateway refused.",
    "502": "Not every gateway confirmed.",
}
_ROUTE = {"name": "route", "in": "path", "required": True, "schema": {"type": "string"}}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def paths() -> dict[str, Any]:
    """By path, as the document has them."""
    order = _query("order", {"type": "string", "enum": list(ORDERS)})
    arm = _query("arm", {"type": "string", "enum": ["", *ARMS]})
    return {
        "/v1/routes": {"get": _operation("What every gateway has of every route.", "LiveRoutes")},
        "/v1/alerts": {"get": _operation("What fires now.", "Alerts")},
        "/v1/routes/{route}/traffic": {
            "parameters": [_ROUTE, _minutes(MAX_TRAFFIC_MINUTES)],
            "get": _operation("Requests, errors and latencies of the last minutes.", "Traffic"),
        },
        "/v1/routes/{route}/queries": {
            "parameters": [_ROUTE, _minutes(MAX_MINUTES), order, arm],
            "get": _operation("Single queries: newest, slowest, worst, failed.", "LoggedQuery[]"),
        },
        "/v1/routes/{route}/weights": {
            "parameters": [_ROUTE],
            "put": _operation("Set weights by hand, on every gateway.", "ByHand", body="Weights"),
        },
        "/v1/routes/{route}/rollback": {
            "parameters": [_ROUTE],
            "post": _operation(
                "Send everything to stable, on every gateway.",
                "ByHand",
                body="RollbackRequest",
                needs_body=False,
            ),
        },
        "/v1/releases/{id}/evidence": {
            "parameters": [_ID],
            "get": _operation("How its evidence came to be, since this agent looks.",
                              "EvidencePoint[]"),
        },
        "/v1/releases/{id}/traffic": {
            "parameters": [_ID],
            "get": _operation("Traffic of its route, from its beginning to its end.", "Traffic"),
        },
        "/v1/releases/{id}/replay": {
            "parameters": [
                _ID,
                _query("strategy", {"type": "string", "enum": ["", *strategies()]}),
                _query("policy", {"type": "string", "maxLength": MAX_POLICY_CHARS}),
            ],
            "get": _operation("Judged again from the log, by its own policy or another (YAML).",
                              "Replayed"),
        },
        "/v1/releases/{id}/policy": {
            "parameters": [_ID],
            "get": _operation("Its policy in words, and the e-values that decide.",
                              "EffectivePolicy"),
        },
        "/v1/routes/{route}/pairs": {
            "parameters": [_ROUTE, _minutes(MAX_PAIR_MINUTES)],
            "get": _operation("Mirrored queries with both answers.", "ShownPair[]"),
        },
        "/v1/settings": {"get": _operation("Policies and rules in force.", "")},
    }  # fmt: skip


def _minutes(most: int) -> dict[str, Any]:
    return _query("minutes", {"type": "integer", "minimum": 1, "maximum": most})


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _operation(
    summary: str, kind: str, *, body: str = "", needs_body: bool = True
) -> dict[str, Any]:
    answers = {"200": summary, **_UNCONFIRMED} if body else {"200": summary}
    refused = {"description": "Refused.", "content": {_JSON: {"schema": _schema("Problem")}}}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {"description": said, "content": {_JSON: {"schema": _schema(kind)}}}
            for status, said in answers.items()
        }
        | {"default": refused},
    }
    if body:
        content = {_JSON: {"schema": _schema(body)}}
        found["requestBody"] = {"required": needs_body, "content": content}
    return found


def _schema(kind: str) -> dict[str, Any]:
    if not kind:
        return {"type": "object"}
    if kind.endswith("[]"):
        return {"type": "array", "items": _schema(kind.removesuffix("[]"))}
    return {"$ref": f"#/components/schemas/{kind}"}
