"""A version that was taken back, and gateways that serve it all the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import Cycle, Phase, Release, Remember
from agent.sentence import sentence
from agent.status import status_of
from agent.stepper import reconcile
from mlops.contracts.plan import RoutePlan, rolled_back
from mlops.contracts.release import ReleaseStatus


def shown(world: SimpleNamespace, release: Release, *plans: RoutePlan, **more: float):
    """Two cycles after it ended."""
    now_s = (release.ended_at_s or 0.0) + 2.0
    picture = world.picture(*plans, now_s=now_s, verdict=None, **more)
    said = sentence(release, world.POLICY, picture, ())
    cycle = Cycle(picture, None, said, canary_requests=0)
    return status_of(release, world.POLICY, cycle, now_s)


def ended_by_hand(world: SimpleNamespace) -> tuple[Release, RoutePlan, RoutePlan]:
    """A baking release that a person rolled back on one of two gateways; both plans."""
    release, plan = world.baking()
    hand = rolled_back(
        plan, generation=plan.generation + 1, set_by="bob", reason="slow", hold=True,
        to_previous=True,
    )  # fmt: skip
    (ended,) = reconcile(release, world.POLICY, world.picture(hand, plan, now_s=1200))
    assert isinstance(ended, Remember)
    assert ended.release.phase is Phase.ROLLED_BACK
    return ended.release, hand, plan


def test_a_rollback_that_reached_one_gateway_of_two_names_the_other(world: SimpleNamespace) -> None:
    release, hand, plan = ended_by_hand(world)
    status: ReleaseStatus = shown(world, release, hand, plan)
    assert status.still_served_by == (world.TWO,)
    assert f"NOT everybody gets a: {world.TWO} still serves b" in status.summary
    assert "`rag-mlops rollback rag` takes it back there." in status.summary
    assert status.sentence.endswith(f"still served by {world.TWO}")
    assert status.phase == "rolled_back"


def test_nothing_is_named_once_it_has_reached_all(world: SimpleNamespace) -> None:
    release, hand, _ = ended_by_hand(world)
    status = shown(world, release, hand, hand)
    assert status.still_served_by == ()
    assert status.summary.endswith("Everybody gets a.")


@pytest.mark.parametrize(("left_s", "serves"), [(10.0, True), (0.0, False)])
def test_a_canary_is_served_until_its_lease_has_ended(
    world: SimpleNamespace, left_s: float, *, serves: bool
) -> None:
    release, plan = world.begun()
    worse = world.picture(plan, now_s=1100, verdict=Verdict.REGRESSED)
    ended, _ = reconcile(release, world.POLICY, worse)
    status = shown(world, ended.release, plan, left_s=left_s)
    assert (status.still_served_by == (world.ONE,)) is serves


def test_what_was_seen_before_it_ended_is_no_more(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    worse = world.picture(plan, now_s=1100, verdict=Verdict.REGRESSED)
    ended = reconcile(release, world.POLICY, worse)[0].release
    cycle = Cycle(worse, worse.judgement, "", canary_requests=0)
    assert status_of(ended, world.POLICY, cycle, 1100.0).still_served_by == ()


def test_a_promoted_version_is_meant_to_be_served(world: SimpleNamespace) -> None:
    release, plan = world.baking()
    settled = replace(release, phase=Phase.SETTLED, ended_at_s=1200.0)
    assert shown(world, settled, plan).still_served_by == ()
