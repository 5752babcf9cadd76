"""The team's rules: gates, freeze windows, blast radius; and what is told when a step holds."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from agent.gates import ASK_AGAIN_S, PASSED_FOR_S
from agent.judge import Verdict
from agent.policy import Pause, Policy, SetMirror, SetWeight
from agent.release import (
    Asked,
    Consult,
    GateAnswer,
    PauseKind,
    Phase,
    Picture,
    Publish,
    Remember,
    Verb,
)
from agent.standing import missing
from agent.stepper import reconcile

PROMOTE = Asked(verb=Verb.PROMOTE, by="ann", reason="")


def said(passed: bool, at_s: float = 1100.0, **more: Any) -> GateAnswer:
    return GateAnswer(passed=passed, why="yes" if passed else "too hot", at_s=at_s, **more)


def ready(world: SimpleNamespace, **changes: Any) -> tuple[Any, Picture]:
    """A release whose first weight has proved itself, and the picture that says so."""
    release, plan = world.begun()
    picture = world.picture(plan, now_s=1100.0, verdict=Verdict.HEALTHY)
    return release, amended(picture, **changes)


def test_a_step_waits_for_every_gate_and_asks_only_when_nothing_else_is_missing(
    world: SimpleNamespace,
) -> None:
    release, picture = ready(world, gates={"load": None, "calm": said(passed=True)})
    early = amended(picture, now_s=1010.0, gates={"load": None})
    assert not any(isinstance(w, Consult) for w in reconcile(release, world.POLICY, early))
    (consult,) = reconcile(release, world.POLICY, picture)
    assert consult == Consult(release, ("load",))
    assert missing(release, world.POLICY, picture) == "gate 'load' is being asked"
    passed = amended(picture, gates={"load": said(passed=True), "calm": said(passed=True)})
    _, publish = reconcile(release, world.POLICY, passed)
    assert publish.plan.canary_share_bp == 2500


@pytest.mark.parametrize("asked", [None, PROMOTE])
def test_a_gate_that_says_no_holds_a_person_too_and_is_asked_again_later(
    world: SimpleNamespace, asked: Asked | None
) -> None:
    release, picture = ready(world, gates={"load": said(passed=False)})
    release = replace(release, asked=asked)
    assert reconcile(release, world.POLICY, picture) == ()
    assert "too hot" in missing(release, world.POLICY, picture)
    later = amended(picture, now_s=1100.0 + ASK_AGAIN_S, closed_through_s=1109.0)
    assert reconcile(release, world.POLICY, later) == (Consult(release, ("load",)),)


def test_for_a_person_the_gates_are_asked_before_the_step_has_proved_itself(
    world: SimpleNamespace,
) -> None:
    release, picture = ready(world, now_s=1010.0, closed_through_s=1009.0, gates={"load": None})
    assert reconcile(release, world.POLICY, picture) == ()
    asked = replace(release, asked=PROMOTE)
    assert reconcile(asked, world.POLICY, picture) == (Consult(asked, ("load",)),)


def test_a_yes_does_not_count_for_ever(world: SimpleNamespace) -> None:
    at_s = 1100.0 - PASSED_FOR_S
    release, picture = ready(world, gates={"load": said(passed=True, at_s=at_s)})
    assert reconcile(release, world.POLICY, picture) == (Consult(release, ("load",)),)


def test_gates_come_before_the_first_weight_and_before_the_end(world: SimpleNamespace) -> None:
    first = amended(world.picture(world.seeded()), gates={"load": None})
    release = world.started()
    assert reconcile(release, world.POLICY, first) == (Consult(release, ("load",)),)
    baking, plan = world.baking()
    over = world.picture(plan, now_s=1100.0 + 700, verdict=Verdict.HEALTHY)
    held = amended(over, gates={"load": said(passed=False, at_s=1800.0)})
    assert not any(isinstance(w, Publish) for w in reconcile(baking, world.POLICY, held))


def test_a_version_that_must_get_no_traffic_is_aborted_wherever_it_is(
    world: SimpleNamespace,
) -> None:
    no = {"embedding space": said(passed=False, refuses=True)}
    begun, picture = ready(world, gates=no)
    remember, publish = reconcile(begun, world.POLICY, picture)
    assert remember.release.phase is Phase.ABORTED
    assert publish.plan.canary is None
    (remember,) = reconcile(
        world.started(), world.POLICY, amended(world.picture(world.seeded()), gates=no)
    )
    assert remember.release.phase is Phase.ABORTED
    assert "too hot" in remember.change.reason


def test_nothing_advances_in_a_freeze_but_a_rollback_does(world: SimpleNamespace) -> None:
    release, picture = ready(world, frozen="frozen until monday")
    assert reconcile(release, world.POLICY, picture) == ()
    assert reconcile(replace(release, asked=PROMOTE), world.POLICY, picture) == ()
    assert missing(release, world.POLICY, picture) == "frozen until monday"
    waiting = amended(world.picture(world.seeded()), frozen="frozen until monday")
    assert reconcile(world.started(), world.POLICY, waiting) == ()
    worse = amended(picture, judgement=world.judged(Verdict.REGRESSED))
    remember, publish = reconcile(release, world.POLICY, worse)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert publish.plan.canary is None
    abort = Asked(verb=Verb.ABORT, by="ann", reason="")
    remember, _ = reconcile(replace(release, asked=abort), world.POLICY, picture)
    assert remember.release.phase is Phase.ABORTED


def test_no_step_goes_above_the_routes_cap(world: SimpleNamespace) -> None:
    release, picture = ready(world, max_share_bp=1000)
    assert reconcile(release, world.POLICY, picture) == ()
    assert "above the route's 10 %" in missing(release, world.POLICY, picture)
    assert reconcile(replace(release, asked=PROMOTE), world.POLICY, picture) == ()


def test_a_step_that_holds_is_told_of_once(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    picture = world.picture(plan, now_s=1000 + 60 + 62, verdict=Verdict.UNDECIDED)
    (remember,) = reconcile(release, world.POLICY, picture)
    assert isinstance(remember, Remember)
    assert remember.change.kind == "release.held"
    assert "drawn undecided" in remember.change.reason
    assert reconcile(remember.release, world.POLICY, picture) == ()


def test_a_step_that_only_its_gates_hold_asks_them_before_it_tells(
    world: SimpleNamespace,
) -> None:
    release, picture = ready(world, now_s=1200.0, closed_through_s=1199.0, gates={"load": None})
    assert reconcile(release, world.POLICY, picture) == (Consult(release, ("load",)),)
    refused = amended(picture, gates={"load": said(passed=False, at_s=1195.0)})
    (remember,) = reconcile(release, world.POLICY, refused)
    assert remember.change.reason == "gate 'load': too hot"


def test_a_step_that_waits_for_a_person_says_so_as_soon_as_its_time_is_over(
    world: SimpleNamespace,
) -> None:
    release, plan = world.begun(world.WAITING)
    early = world.picture(plan, now_s=1059.5, verdict=Verdict.HEALTHY, evidence_age_s=0.0)
    assert reconcile(release, world.WAITING, early) == ()
    picture = world.picture(plan, now_s=1060.0, verdict=Verdict.HEALTHY, evidence_age_s=0.0)
    (remember,) = reconcile(release, world.WAITING, picture)
    assert remember.change.kind == "release.held"
    assert "promote" in remember.change.reason


def test_where_the_policy_leaves_the_rollback_to_a_person_the_release_pauses(
    world: SimpleNamespace,
) -> None:
    policy = amended(world.POLICY, rolls_back=False)
    release, plan = world.begun()
    picture = world.picture(plan, now_s=1100.0, verdict=Verdict.REGRESSED)
    (remember,) = reconcile(release, policy, picture)
    assert remember.release.paused.kind is PauseKind.PERSON
    assert "leaves the rollback to a person" in remember.change.reason
    left = world.picture(plan, now_s=1100.0, verdict=Verdict.REGRESSED, left_s=1.0)
    assert [type(w).__name__ for w in reconcile(remember.release, policy, left)] == ["Renew"]


# ---- mirroring and standing ready ---------------------------------------------------------------


def test_a_step_that_mirrors_gives_users_nothing_of_the_candidate(world: SimpleNamespace) -> None:
    policy = Policy(steps=(SetMirror(2000), SetWeight(500)), dwell_s=60.0)
    remember, publish = reconcile(world.started(policy), policy, world.picture(world.seeded()))
    assert (publish.plan.canary_share_bp, publish.plan.mirror_share_bp) == (0, 2000)
    assert publish.plan.canary == world.B
    assert publish.plan.lease_s is not None
    begun = replace(remember.release, in_force_since_s=1000.0)
    healthy = world.picture(publish.plan, now_s=1100.0, verdict=Verdict.HEALTHY)
    _, onward = reconcile(begun, policy, healthy)
    assert (onward.plan.canary_share_bp, onward.plan.mirror_share_bp) == (500, None)
    worse = world.picture(publish.plan, now_s=1100.0, verdict=Verdict.REGRESSED)
    remember, back = reconcile(begun, policy, worse)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert (back.plan.canary, back.plan.mirror_share_bp) == (None, None)


def test_blue_green_stands_ready_until_a_person_promotes(world: SimpleNamespace) -> None:
    policy = Policy(steps=(SetWeight(0), Pause()), dwell_s=60.0, holdback_share_bp=1000)
    remember, publish = reconcile(world.started(policy), policy, world.picture(world.seeded()))
    assert publish.plan.canary == world.B
    assert publish.plan.canary_share_bp == 0
    begun = replace(remember.release, in_force_since_s=1000.0, asked=PROMOTE)
    remember, publish = reconcile(begun, policy, world.picture(publish.plan, now_s=1100.0))
    assert remember.release.phase is Phase.BAKING
    assert publish.plan.stable == world.B
    assert publish.plan.holdback_share_bp == 1000
