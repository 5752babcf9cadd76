"""A gateway that answers and does not take its plan keeps all others waiting: somebody is told."""

from __future__ import annotations

from dataclasses import replace as amended

from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import Phase, Publish, Remember
from agent.stepper import reconcile


def seen(world, ours, theirs, left_s):
    """One gateway with the plan, of whose lease this is left, and one without."""
    both = world.picture(ours, theirs, now_s=1100, verdict=Verdict.HEALTHY)
    one, other = both.sights
    return amended(both, sights=(amended(one, lease_remaining_s=left_s), other))


def test_it_is_told_once_after_a_whole_lease_and_still_tried(world):
    release, plan = world.begun()
    old = world.seeded()
    (publish,) = reconcile(release, world.POLICY, seen(world, plan, old, 1.0))
    assert publish.gateways == (world.TWO,)

    remember, publish = reconcile(release, world.POLICY, seen(world, plan, old, 0.0))
    assert isinstance(remember, Remember)
    assert (remember.change.kind, remember.release.plan) == ("release.held", plan)
    assert remember.change.reason.startswith(f"{world.TWO}: generation {plan.generation} was not")
    assert publish == Publish(plan, (world.TWO,))

    again = reconcile(remember.release, world.POLICY, seen(world, plan, old, 0.0))
    assert again == (Publish(plan, (world.TWO,)),)


def test_once_it_takes_the_plan_the_release_returns_to_its_weight(world):
    release, plan = world.begun()
    told = reconcile(release, world.POLICY, seen(world, plan, world.seeded(), 0.0))[0].release
    (lapsed,) = reconcile(told, world.POLICY, seen(world, plan, plan, 0.0))
    assert lapsed.change.kind == "release.lapsed"


def test_a_plan_that_nobody_has_yet_is_only_published(world):
    release, plan = world.begun()
    old = replace(world.seeded(), lease_s=30.0)
    writes = reconcile(release, world.POLICY, seen(world, old, old, 0.0))
    assert writes == (Publish(plan, (world.ONE, world.TWO)),)


def test_an_ended_release_tells_nothing_more(world):
    release, plan = world.begun()
    ended = replace(release, phase=Phase.ABORTED, plan=replace(plan, canary=None, lease_s=None,
                    canary_share_bp=0))  # fmt: skip
    live = seen(world, ended.plan, world.seeded(), None)
    assert reconcile(ended, world.POLICY, live) == (Publish(ended.plan, (world.TWO,)),)
