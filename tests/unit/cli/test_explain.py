"""`rag-mlops explain`: the same answer as a worker gives, without one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from gateway.plan_store import PlanStore
from gateway.plans import StoredPlan
from gateway.routing import LivePlan, decide
from mlops.contracts.plan import RoutePlan, Slot, bucket_of

FILE = """
state: STATE
admin: {tokens: {operator: {env: NOT_SET}, viewer: {env: NOT_SET_EITHER}}}
tls: {cert: none.pem, key: none.key}
routes:
  - name: rag
    match: {prefix: /rag}
    stable: {version: "1", endpoints: ["http://h:1"], headers: {authorization: {env: NOT_SET}}}
    canary: {version: "2", endpoints: ["http://h:2"], weight: 25}
    sticky: {header: x-user-id}
    override: true
    max_canary: 60
    never_canary: {keys: [vip], header: x-tenant, values: [acme]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE.replace("STATE", str(tmp_path / "state")))
    return path


def run(file: Path, *arguments: str):
    return CliRunner().invoke(main, ["explain", "--config", str(file), *arguments])


def explained(file: Path, *arguments: str):
    result = run(file, *arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_every_key_gets_the_arm_that_a_worker_gives_it(file: Path) -> None:
    plan = RoutePlan(
        route="rag", generation=1, salt="rag",
        stable=Slot(version="1", endpoints=("http://h:1",)),
        canary=Slot(version="2", endpoints=("http://h:2",)), canary_share_bp=2500,
    )  # fmt: skip
    live = LivePlan(plan)
    for number in range(50):
        key = f"user{number}"
        found = explained(file, "--key", key)
        way = decide(live, key.encode(), 0.0)
        assert (found["arm"], found["version"]) == (way.arm, way.slot.version)
        assert found["bucket"] == bucket_of("rag", key.encode())
        assert (found["plan"], found["kind"], found["canary_below"]) == ("file", "served", 2500)


def test_weights_can_be_tried_and_are_checked_as_the_gateway_would(file: Path) -> None:
    keys = [f"user{number}" for number in range(40)]
    tried = [explained(file, "--key", key, "--weights", "40,60") for key in keys]
    assert {found["arm"] for found in tried} == {"stable", "canary"}
    assert all((found["bucket"] < 6000) == (found["arm"] == "canary") for found in tried)
    assert tried[0]["plan"] == "weights"
    for weights, expected in (
        ("39,61", "above max_canary, 60 %"),
        ("40,50", "sum to 90"),
        ("many", "expected two like 90,10"),
    ):
        result = run(file, "--key", "k", "--weights", weights)
        assert result.exit_code == 1
        assert expected in result.output


def test_who_is_kept_off_and_what_a_request_asks_for(file: Path) -> None:
    assert explained(file, "--key", "vip", "--weights", "40,60")["why"].startswith("never_canary")
    asks = ("--header", "x-canary=always")
    tenant = explained(file, "--key", "u", "--header", "X-Tenant=acme", *asks)
    assert (tenant["arm"], tenant["kind"]) == ("stable", "override")
    asked = explained(file, "--key", "u", *asks)
    assert (asked["arm"], asked["kind"]) == ("canary", "override")
    assert "x-canary: always" in asked["why"]


def test_the_stored_plan_wins_over_the_file_and_nothing_is_written(file: Path) -> None:
    state = file.parent / "state"
    assert explained(file, "--key", "u")["plan"] == "file"
    assert not state.exists()
    slot = Slot(version="3", endpoints=("unix:/run/model.sock",))
    plan = RoutePlan(
        route="rag", generation=9, salt="release", stable=slot, previous=slot,
        holdback_share_bp=9000, lease_s=30,
    )  # fmt: skip
    asyncio.run(PlanStore(state).save(StoredPlan(plan=plan)))
    found = explained(file, "--key", "u")
    assert (found["plan"], found["generation"], found["salt"]) == ("stored", 9, "release")
    assert (found["holdback_from"], found["lease_s"]) == (1000, 30)
    assert found["bucket"] == bucket_of("release", b"u")
    text = run(file, "--key", "u").output
    assert "plan: stored by the gateway; route rag, generation 9" in text
    assert "lease of 30 s" in text


def test_a_route_must_be_named_where_there_are_several(file: Path) -> None:
    text = file.read_text()
    other = text[text.index("  - name") :].replace("name: rag", "name: other")
    file.write_text(text + other)
    assert "expected --route; the file's routes: rag, other" in run(file, "--key", "u").output
    assert "no route 'nope'" in run(file, "--key", "u", "--route", "nope").output
    assert explained(file, "--key", "u", "--route", "other")["route"] == "other"
