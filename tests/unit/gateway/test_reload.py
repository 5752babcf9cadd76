"""A changed file while the gateway runs: applied whole, or refused whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config import parse
from gateway.reload import changes, overruled
from gateway.settings import GatewaySettings
from mlops.contracts.plan import RoutePlan, Slot

FILE = """
listen: 127.0.0.1:8000
routes:
  - name: rag
    match: {prefix: /v1}
    stable: {version: A, endpoints: ["http://127.0.0.1:8011"]}
  - name: rest
    match: {prefix: /}
    stable: {version: A, endpoints: ["http://127.0.0.1:8011"]}
"""


def settings(old: str = "", new: str = "") -> GatewaySettings:
    assert old in FILE
    return parse(FILE.replace(old, new) if old else FILE, {})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8009", "listen changed"),
        ("routes:", "spool: {dir: s}\nroutes:", "spool changed"),
        ("routes:", "admin: {listen: 127.0.0.1:8005}\nroutes:", "admin changed"),
        ("routes:", "state: elsewhere\nroutes:", "state changed"),
        ("routes:", "limits: {body: 1KiB}\nroutes:", "limits or forwarded changed"),
        ("routes:", "workers: 3\nroutes:", "workers changed"),
    ],
)
def test_what_needs_a_restart_is_refused_and_named(old: str, new: str, said: str) -> None:
    with pytest.raises(ValueError, match="needs an upgrade or a restart") as caught:
        changes(settings(), settings(old, new))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("prefix: /v1", "prefix: /v2", "route 'rag': match changed"),
        ("name: rest", "name: more", "route 'more' is new; route 'rest' is gone"),
    ],
)
def test_what_changes_is_named(old: str, new: str, said: str) -> None:
    assert said == changes(settings(), settings(old, new))


def test_the_order_of_routes_matters_because_the_first_match_wins() -> None:
    old = settings()
    new = replace(old, routes=tuple(reversed(old.routes)))
    assert changes(old, new) == "the order of the routes changed"


def test_weights_and_versions_of_the_file_change_nothing_that_is_stored() -> None:
    assert changes(settings(), settings()) == "nothing changed"
    assert "stored plans" in changes(settings(), settings("version: A", "version: B"))


def test_a_file_that_contradicts_the_stored_plan_is_told_apart() -> None:
    route = settings().routes[0]
    stored = RoutePlan(route="rag", generation=4, salt="s", stable=route.stable)
    assert overruled(route, stored) == []
    other = Slot(version="C", endpoints=("http://127.0.0.1:8013",))
    (said,) = overruled(route, RoutePlan(route="rag", generation=4, salt="s", stable=other))
    assert "'A'" in said
    assert "'C'" in said
