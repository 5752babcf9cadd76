"""Who brings a gateway that joins its first plan: the release, or nobody in particular."""

from __future__ import annotations

from types import SimpleNamespace

from msgspec.structs import replace

from agent.release import Phase
from agent.unreleased import converges, first_plan


def test_a_release_brings_its_own_plan_also_once_it_has_ended(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    waiting = world.picture(plan, world.seeded(0)).sights
    assert converges(release, waiting)
    assert converges(replace(release, phase=Phase.ABORTED), waiting)
    assert not converges(world.started(), waiting)


def test_where_it_gives_way_to_a_person_the_person_s_plan_is_brought(
    world: SimpleNamespace,
) -> None:
    release, plan = world.begun()
    hand = replace(plan, generation=plan.generation + 1, hold=True, set_by="bob")
    sights = world.picture(hand, world.seeded(0)).sights
    for one in (release, replace(release, phase=Phase.SETTLED, ended_at_s=1.0)):
        assert not converges(one, sights)
    publish = first_plan(sights)
    assert publish is not None
    assert (publish.plan, publish.gateways) == (hand, (world.TWO,))


def test_what_a_resume_let_go_of_is_no_hindrance(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    hand = replace(plan, generation=plan.generation + 1, hold=True)
    lifted = replace(release, lifted={world.ONE: hand.generation})
    assert converges(lifted, world.picture(hand, world.seeded(0)).sights)
