"""The agent's API as OpenAPI 3.1, with the bodies taken from the types themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.console import openapi as console
from agent.release import Verb
from mlops.contracts.api import Problem
from mlops.contracts.drift import DriftAcknowledgement, DriftStatus
from mlops.contracts.release import (
    EvaluationRequest,
    EvaluationsTaken,
    ReleaseEvent,
    ReleaseRequest,
    ReleaseStatus,
    VerbRequest,
)

_KINDS = (
    DriftAcknowledgement,
    DriftStatus,
    EvaluationRequest,
    EvaluationsTaken,
    Problem,
    ReleaseEvent,
    ReleaseRequest,
    ReleaseStatus,
    VerbRequest,
)
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_ROUTE = {"name": "route", "in": "path", "required": True, "schema": {"type": "string"}}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "First what came after this event: at most the last 10,000; `gap` says if more.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}
_JSON = "application/json"


def document() -> dict[str, Any]:
    """The whole document, ready to be encoded."""
    kinds = (*_KINDS, *console.KINDS)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Agent API",
            "version": "1",
            "description": "Releases. Roles: viewer reads, operator changes.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _paths() -> dict[str, Any]:
    status, event = _ref("ReleaseStatus"), _ref("ReleaseEvent")
    evaluation = _ref("EvaluationRequest")
    scores = {"oneOf": [evaluation, {"type": "array", "items": evaluation}]}
    paths: dict[str, Any] = {
        "/livez": {"get": _public("The process runs.", {200: "text/plain"})},
        "/readyz": {"get": _public("Cycles run.", {200: "text/plain", 503: "text/plain"})},
        "/healthz": {
            "get": _public("The same as /readyz.", {200: "text/plain", 503: "text/plain"})
        },
        "/metrics": {"get": _public("Prometheus text.", {200: "text/plain"})},
        "/openapi.json": {"get": _public("This document.", {200: _JSON})},
        "/v1/releases": {
            "get": _operation("Every release, newest first.", 200, _array(status)),
            "post": _operation(
                "Bring a version to a route.", 201, status, body=_ref("ReleaseRequest")
            ),
        },
        "/v1/releases/{id}": {
            "parameters": [_ID],
            "get": _operation("One release.", 200, status),
        },
        "/v1/releases/{id}/events": {
            "parameters": [_ID],
            "get": _operation("Its history, oldest first.", 200, _array(event)),
        },
        "/v1/evaluations": {
            "post": _operation(
                "Late scores, by request id.", 202, _ref("EvaluationsTaken"), body=scores
            )
        },
        "/v1/events": {
            "get": _public("Server-sent events, live.", {200: "text/event-stream"})
            | {"security": [{"token": []}], "parameters": [_LAST_EVENT_ID]}
        },
    }
    paths |= _drift_paths() | console.paths()
    for verb in Verb:
        paths[f"/v1/releases/{{id}}/{verb.value}"] = {
            "parameters": [_ID],
            "post": _operation(
                f"Ask for {verb.value}; the next cycle carries it out.",
                201 if verb is Verb.RETRY else 202,
                status,
                body=_ref("VerbRequest"),
                body_required=False,
            ),
        }
    return paths


def _drift_paths() -> dict[str, Any]:
    drift = _ref("DriftStatus")
    return {
        "/v1/drift": {"get": _operation("Drift of every route.", 200, _array(drift))},
        "/v1/routes/{route}/drift": {
            "parameters": [_ROUTE],
            "get": _operation("Have the route's queries changed?", 200, drift),
        },
        "/v1/routes/{route}/drift/acknowledge": {
            "parameters": [_ROUTE],
            "post": _operation(
                "Take what queries are now as the new reference.",
                200,
                drift,
                body=_ref("DriftAcknowledgement"),
                body_required=False,
            ),
        },
    }


def _operation(
    summary: str,
    status: int,
    schema: dict[str, Any],
    *,
    body: dict[str, Any] | None = None,
    body_required: bool = True,
) -> dict[str, Any]:
    problem = {"description": "Refused.", "content": {_JSON: {"schema": _ref("Problem")}}}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            str(status): {"description": summary, "content": {_JSON: {"schema": schema}}},
            "default": problem,
        },
    }
    if body is not None:
        content = {_JSON: {"schema": body}}
        found["requestBody"] = {"required": body_required, "content": content}
    return found


def _public(summary: str, answers: dict[int, str]) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [],
        "responses": {
            str(status): {"description": summary, "content": {kind: {}}}
            for status, kind in answers.items()
        },
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
