"""Plans on disk: what is stored is found, what is damaged stops the start."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.plan_store import BadPlanFile, NotStored, PlanStore
from gateway.plans import Origin, StoredPlan
from mlops.contracts.plan import RoutePlan, Slot

A = Slot(version="A", endpoints=("http://127.0.0.1:8011",), headers={"x-key": "s3cret"})
STORED = StoredPlan(
    plan=RoutePlan(route="rag", generation=3, salt="r", stable=A), origin=Origin.WEIGHTS
)


async def test_what_is_stored_is_found_by_the_next_process(tmp_path: Path) -> None:
    store = PlanStore(tmp_path / "deep" / "state")
    assert store.load("rag") is None
    await store.save(STORED)
    assert PlanStore(tmp_path / "deep" / "state").load("rag") == STORED


async def test_only_the_owner_may_read_a_plan(tmp_path: Path) -> None:
    await PlanStore(tmp_path).save(STORED)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


DAMAGE = [
    (b"", "not a stored plan"),
    (b"{", "not a stored plan"),
    (b'{"format": 2, "stored": {"plan": PLAN}}', "expected format 1, got 2"),
    (b'{"format": 1, "stored": {"plan": OTHER}}', "expected a plan of route 'rag', got 'tag'"),
    (b'{"format": 1, "stored": {"plan": {"route": "rag"}}}', "generation"),
]
PLAN = b'{"route": "rag", "generation": 1, "salt": "s", "stable": ' + (
    b'{"version": "A", "endpoints": ["http://h:1"]}}'
)


@pytest.mark.parametrize(("data", "said"), DAMAGE)
def test_a_damaged_plan_stops_the_start_and_is_named(
    tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "plan-rag.json"
    path.write_bytes(data.replace(b"PLAN", PLAN).replace(b"OTHER", PLAN.replace(b"rag", b"tag")))
    with pytest.raises(BadPlanFile) as caught:
        PlanStore(tmp_path).load("rag")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    newer = b'{"format": 1, "by": 2, "stored": {"plan": %s, "x": 1}}' % PLAN
    (tmp_path / "plan-rag.json").write_bytes(newer)
    stored = PlanStore(tmp_path).load("rag")
    assert stored is not None
    assert stored.plan.generation == 1


async def test_a_plan_that_cannot_be_stored_leaves_the_one_before(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    await store.save(STORED)
    (tmp_path / "plan-rag.json.new").mkdir()
    with pytest.raises(NotStored, match=str(tmp_path)):
        await store.save(StoredPlan(plan=STORED.plan, origin=Origin.RESTORED))
    assert store.load("rag") == STORED


async def test_a_disk_that_hangs_is_not_waited_for_and_gets_no_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named pipe that nobody reads: opening it for writing blocks like a dead network disk."""
    monkeypatch.setattr("gateway.plan_store.STORE_TIMEOUT_S", 0.05)
    pipe = tmp_path / "plan-rag.json.new"
    os.mkfifo(pipe)
    store = PlanStore(tmp_path)
    with pytest.raises(NotStored, match="did not take the plan within"):
        await store.save(STORED)
    with pytest.raises(NotStored, match="has not taken an earlier plan"):
        await store.save(STORED)
    reader = os.open(pipe, os.O_RDONLY)  # lets the blocked thread go on
    pipe.unlink()
    async with asyncio.timeout(10):
        while True:
            try:
                await store.save(STORED)
                break
            except NotStored:
                await asyncio.sleep(0.01)
    os.close(reader)
    assert store.load("rag") == STORED
