"""Defaults that the pages name are those of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.policy import Policy
from agent.policy_file import parse_policy
from gateway.config import parse
from gateway.settings import GatewaySettings

DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMES = {
    "OPERATOR": "one",
    "GATEWAY_OPERATOR_TOKEN": "one",
    "GATEWAY_VIEWER_TOKEN": "two",
    "KEY": "k",
}
SHOWN = {"listen", "admin", "tls", "state_dir", "routes", "spool"}
"""Keys of a gateway's file that have no default, or one that an example has to differ from."""
OF_A_ROUTE = {
    "name",
    "model",
    "match",
    "stable",
    "canary",
    "canary_share_bp",
    "sticky",
    "never_canary",
}
"""The same, of a route."""


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def gateway(route: dict[str, Any] | None = None, **more: Any) -> GatewaySettings:
    """Of a file that says nothing but what it must."""
    least = {"name": "r", "match": {"prefix": "/"},
             "stable": {"version": "1", "endpoints": ["http://127.0.0.1:1"]}}  # fmt: skip
    file = {"listen": "127.0.0.1:0", "admin": {"listen": "127.0.0.1:0"}, "state": "s"}
    return parse(yaml.safe_dump(file | {"routes": [least | (route or {})]} | more), {})


def rows(page: str, title: str) -> dict[str, str]:
    """Key to the second column, of the table whose first heading begins so."""
    found = re.search(
        rf"^\| {re.escape(title)}[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text(page), re.M
    )
    assert found, f"{page} has a table {title}"
    cells = ([cell.strip() for cell in line[1:-1].split("|")] for line in found[1].splitlines())
    made: dict[str, str] = {}
    for first, second, *_ in cells:
        names, values = re.findall(r"`([^`]+)`", first), second.split(", ")
        made |= dict(zip(names, values if len(names) > 1 else [second], strict=True))
    return made


def test_the_gateways_file_as_it_is_shown_says_the_defaults() -> None:
    block = re.search(r"```yaml\n(listen:.*?)```", text("gateway.md"), re.DOTALL)
    assert block
    shown, bare = parse(block[1], NAMES), gateway(spool={"dir": "var/spool"})
    for field in fields(GatewaySettings):
        if field.name not in SHOWN:
            assert getattr(shown, field.name) == getattr(bare, field.name), field.name
    assert shown.spool == bare.spool
    (route,), (least,) = shown.routes, bare.routes
    for field in fields(route):
        if field.name not in OF_A_ROUTE:
            assert getattr(route, field.name) == getattr(least, field.name), field.name


@pytest.mark.parametrize(
    ("section", "needed"),
    [
        ("pool", {}),
        ("timeouts", {}),
        ("health_check", {"path": "/healthz"}),
        ("outlier_detection", {}),
    ],
)
def test_upstreams_defaults(section: str, needed: dict[str, str]) -> None:
    given = {
        name: yaml.safe_load(value)
        for name, value in rows("upstreams.md", f"`{section}:`").items()
        if value not in {"", "none"}
    }
    assert given
    assert gateway({section: needed | given}) == gateway({section: needed})


def test_a_policys_defaults() -> None:
    told = rows("policy.md", "key")
    steps = [{"setWeight": int(weight)} for weight in told.pop("steps").split(", ")]
    bake = {"duration": told.pop("bake.duration")}
    given = {
        name: yaml.safe_load(value)
        for name, value in told.items()
        if value not in {"none", "see below"} and name != "checks"
    }
    assert len(given) > 10
    said = parse_policy(given | {"steps": steps, "bake": bake}, source="policy.md")
    assert said == Policy()


def test_the_defaults_of_checks() -> None:
    table = re.findall(r"^\| (`[a-z_`, ]+`) \| (`[a-z]+: .*?`) \| ", text("policy.md"), re.M)
    checks = [
        (name, yaml.safe_load("{" + ", ".join(re.findall(r"`([^`]+)`", keys)) + "}"))
        for names, keys in table
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(checks) == 11
    nothing: dict[str, Any] = {}
    for name, keys in checks:
        said, bare = (
            parse_policy({"checks": {name: one}}, source="policy.md") for one in (keys, nothing)
        )
        assert said == bare, name


def test_the_defaults_of_pairs() -> None:
    block = re.search(r"```yaml\n(pairs: .*?)```", text("policy.md"), re.DOTALL)
    assert block
    assert parse_policy(yaml.safe_load(block[1]), source="policy.md") == Policy()
