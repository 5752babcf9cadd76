"""What people do to a release: commands, and plans by hand."""

from __future__ import annotations

from dataclasses import replace as amended

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.policy import Pause, Policy, SetMirror, SetWeight
from agent.policy_file import to_document
from agent.release import (
    Asked,
    PauseKind,
    Phase,
    Remember,
    Verb,
)
from agent.standing import missing
from agent.stepper import reconcile
from agent.verbs import Conflict, ask, found_running
from mlops.contracts.plan import RoutePlan, rolled_back, with_weight


def by_hand(plan: RoutePlan, share_bp: int) -> RoutePlan:
    return with_weight(
        plan,
        generation=plan.generation + 1,
        canary_share_bp=share_bp,
        set_by="bob",
        reason="careful",
        hold=True,
    )


def test_weights_set_by_hand_are_adopted_and_nothing_is_published_until_resume(world):
    release, plan = world.begun()
    hand = by_hand(plan, 100)
    (noted,) = reconcile(release, world.POLICY, world.picture(hand, verdict=Verdict.REGRESSED))
    assert noted.release.paused.kind is PauseKind.HAND
    said = "weights were changed by hand by bob (generation 3): careful; `resume` goes on"
    assert noted.change.reason == said
    for verdict in Verdict:
        seen = world.picture(hand, now_s=99_999, verdict=verdict)
        assert reconcile(noted.release, world.POLICY, seen) == ()
    asked = replace(noted.release, asked=Asked(verb=Verb.RESUME, by="bob", reason=""))
    remember, publish = reconcile(asked, world.POLICY, world.picture(hand))
    assert remember.release.paused is None
    assert publish.plan.canary_share_bp == 500
    assert publish.plan.generation == hand.generation + 1
    assert publish.plan.hold is False


def test_another_plan_by_hand_is_adopted_too(world):
    release, plan = world.begun()
    hand = by_hand(plan, 100)
    (noted,) = reconcile(release, world.POLICY, world.picture(hand))
    again = replace(hand, generation=hand.generation + 5, set_by="eve")
    (noted,) = reconcile(noted.release, world.POLICY, world.picture(again))
    assert (noted.release.paused.by, noted.release.paused.generation) == ("eve", again.generation)
    assert reconcile(noted.release, world.POLICY, world.picture(again)) == ()


def test_a_second_hold_after_resume_pauses_again(world):
    release, plan = world.begun()
    hand = by_hand(plan, 100)
    resumed = replace(release, lifted={world.ONE: hand.generation})
    again = replace(hand, generation=hand.generation + 5)
    (noted,) = reconcile(resumed, world.POLICY, world.picture(again))
    assert noted.release.paused.kind is PauseKind.HAND


def test_a_rollback_by_hand_ends_the_release_and_is_never_undone(world):
    release, plan = world.begun()
    hand = rolled_back(
        plan, generation=plan.generation + 1, set_by="bob", reason="bad", hold=True,
        to_previous=False,
    )  # fmt: skip
    (noted,) = reconcile(release, world.POLICY, world.picture(hand, verdict=Verdict.HEALTHY))
    assert noted.release.phase is Phase.ROLLED_BACK
    assert noted.release.plan is None
    assert noted.release.generation_floor == hand.generation
    assert noted.release.why == "b was rolled back by bob (generation 3): bad"
    for verdict in Verdict:
        seen = world.picture(hand, plan, verdict=verdict)
        assert reconcile(noted.release, world.POLICY, seen) == ()


def test_a_rollback_by_hand_wins_over_a_command_that_came_before(world):
    release, plan = world.begun()
    hand = rolled_back(
        plan, generation=plan.generation + 1, set_by="bob", reason="bad", hold=True,
        to_previous=False,
    )  # fmt: skip
    for verb in (Verb.RESUME, Verb.PROMOTE):
        asked = replace(release, asked=Asked(verb=verb, by="ann", reason=""))
        writes = reconcile(asked, world.POLICY, world.picture(hand))
        assert [type(write) for write in writes] == [Remember]
        assert writes[0].release.phase is Phase.ROLLED_BACK


def test_a_release_on_a_held_route_waits_for_resume(world):
    held = world.seeded(3, hold=True)
    (noted,) = reconcile(world.started(), world.POLICY, world.picture(held))
    assert noted.release.paused.kind is PauseKind.HAND
    asked = replace(noted.release, asked=Asked(verb=Verb.RESUME, by="bob", reason=""))
    (freed,) = reconcile(asked, world.POLICY, world.picture(held))
    _, publish = reconcile(freed.release, world.POLICY, world.picture(held))
    assert publish.plan.canary_share_bp == 500


def test_a_plan_newer_than_remembered_is_somebody_elses(world):
    release, plan = world.begun()
    newer = replace(plan, generation=3, canary_share_bp=5000, set_by="", reason="")
    (noted,) = reconcile(release, world.POLICY, world.picture(newer))
    assert noted.release.paused.kind is PauseKind.HAND
    said = "weights were changed not by this release by somebody (generation 3); `resume` goes on"
    assert noted.change.reason == said


def test_abort_takes_the_canary_away_without_blame(world):
    release, plan = world.begun()
    asked = replace(release, asked=Asked(verb=Verb.ABORT, by="ann", reason="wrong build"))
    remember, publish = reconcile(asked, world.POLICY, world.picture(plan))
    assert remember.release.phase is Phase.ABORTED
    assert (publish.plan.canary, publish.plan.stable) == (None, world.A)
    assert remember.release.why == "wrong build"


def test_a_release_paused_before_its_first_plan_begins_with_resume(world):
    release = ask(world.started(), Verb.PAUSE, "ann", "wait for lunch", 990.0).release
    seen = world.picture(world.seeded(), verdict=None)
    assert reconcile(release, world.POLICY, seen) == ()
    assert missing(release, world.POLICY, seen) == "paused by ann: wait for lunch"
    resumed = ask(release, Verb.RESUME, "ann", "", 1010.0).release
    (freed,) = reconcile(resumed, world.POLICY, seen)
    assert (freed.release.paused, freed.release.asked) == (None, None)
    assert freed.change.kind == "release.resumed"
    _, publish = reconcile(freed.release, world.POLICY, seen)
    assert publish.plan.canary_share_bp == 500


def test_resume_begins_nothing_within_a_freeze_window(world):
    release = ask(world.started(), Verb.PAUSE, "ann", "wait for lunch", 990.0).release
    resumed = ask(release, Verb.RESUME, "ann", "", 1010.0).release
    frozen = amended(world.picture(world.seeded()), frozen="frozen until Monday")
    (freed,) = reconcile(resumed, world.POLICY, frozen)
    assert isinstance(freed, Remember)
    assert reconcile(freed.release, world.POLICY, frozen) == ()


def test_a_promote_before_the_first_plan_is_carried_out_after_it(world):
    release = ask(world.started(), Verb.PROMOTE, "ann", "known good", 990.0).release
    remember, publish = reconcile(release, world.POLICY, world.picture(world.seeded()))
    assert publish.plan.canary_share_bp == 500
    live = world.picture(publish.plan)
    (arrived,) = reconcile(remember.release, world.POLICY, live)
    remember, publish = reconcile(arrived.release, world.POLICY, live)
    assert publish.plan.canary_share_bp == 2500
    assert (remember.change.actor, remember.change.reason) == ("ann", "known good")
    assert remember.release.asked is None


def test_a_promote_that_met_an_ended_lease_is_carried_out_after_the_return(world):
    release, plan = world.begun()
    asked = ask(release, Verb.PROMOTE, "ann", "known good", 1099.0).release
    (noted,) = reconcile(asked, world.POLICY, world.picture(plan, now_s=1100, left_s=0.0))
    lapsed = world.picture(plan, now_s=1106, left_s=0.0)
    remember, publish = reconcile(noted.release, world.POLICY, lapsed)
    assert publish.plan.canary_share_bp == 500
    live = world.picture(publish.plan, now_s=1107)
    (arrived,) = reconcile(remember.release, world.POLICY, live)
    remember, publish = reconcile(arrived.release, world.POLICY, live)
    assert publish.plan.canary_share_bp == 2500
    assert remember.change.actor == "ann"


def test_no_command_outlives_the_release(world):
    release, plan = world.begun()
    asked = ask(release, Verb.PROMOTE, "ann", "", 1000.0).release
    seen = world.picture(plan, verdict=Verdict.REGRESSED)
    remember, _ = reconcile(asked, world.POLICY, seen)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert remember.release.asked is None


def test_a_step_of_copies_says_its_share_and_keeps_it_through_a_hand_s_pause(world):
    policy = Policy(steps=(SetMirror(2000), Pause(600.0), SetWeight(500)))
    remember, publish = reconcile(world.started(policy), policy, world.picture(world.seeded()))
    assert remember.change.reason == "20 % copied to b"
    assert (publish.plan.mirror_share_bp, publish.plan.canary_share_bp) == (2000, 0)
    hand = replace(publish.plan, generation=9, hold=True, mirror_share_bp=None)
    (noted,) = reconcile(remember.release, policy, world.picture(hand))
    asked = replace(noted.release, asked=Asked(verb=Verb.RESUME, by="bob", reason=""))
    _, again = reconcile(asked, policy, world.picture(hand))
    assert (again.plan.mirror_share_bp, again.plan.canary_share_bp) == (2000, 0)


def test_resume_after_a_person_s_pause_changes_no_plan(world):
    release, plan = world.begun()
    paused = ask(release, Verb.PAUSE, "ann", "lunch", 1010.0).release
    resumed = ask(paused, Verb.RESUME, "ann", "", 1020.0).release
    writes = reconcile(resumed, world.POLICY, world.picture(plan, now_s=1021.0))
    assert [type(write) for write in writes] == [Remember]
    assert writes[0].release.paused is None
    assert writes[0].change.kind == "release.resumed"


# ---- REGRESSED, and the policy leaves it to a person -------------------------------------------


def test_a_promote_said_before_the_regression_was_known_does_not_count(world):
    policy = amended(world.POLICY, rolls_back=False)
    release, plan = world.begun(policy)
    asked = ask(release, Verb.PROMOTE, "ann", "", 1090.0).release
    worse = world.picture(plan, now_s=1100.0, verdict=Verdict.REGRESSED)
    (paused,) = reconcile(asked, policy, worse)
    assert paused.change.kind == "release.paused"
    assert reconcile(paused.release, policy, worse) == ()


def test_a_person_who_knows_may_promote_step_by_step_to_the_end(world):
    policy = amended(world.POLICY, rolls_back=False)
    release, plan = world.begun(policy)
    walked = []
    for now_s in (1100.0, 1200.0, 1300.0, 1400.0):
        worse = world.picture(plan, now_s=now_s, verdict=Verdict.REGRESSED)
        (paused,) = reconcile(release, policy, worse)
        assert paused.change.reason.endswith("`promote` goes on anyway")
        asked = ask(paused.release, Verb.PROMOTE, "ann", "a bot", now_s).release
        remember, publish = reconcile(asked, policy, worse)
        assert remember.release.paused is None
        release, plan = replace(remember.release, in_force_since_s=now_s), publish.plan
        walked.append((release.phase, plan.canary_share_bp))
    assert walked == [
        (Phase.PROGRESSING, 2500),
        (Phase.PROGRESSING, 5000),
        (Phase.BAKING, 0),
        (Phase.SETTLED, 0),
    ]


def test_a_promote_passes_over_no_pause_that_a_person_asked_for(world):
    release, _ = world.begun()
    paused = ask(release, Verb.PAUSE, "ann", "lunch", 1000.0).release
    with pytest.raises(Conflict, match="paused by ann; `resume` it first"):
        ask(paused, Verb.PROMOTE, "bob", "", 1010.0)


@pytest.mark.parametrize("verdict", [Verdict.REGRESSED, Verdict.INVALID, Verdict.HEALTHY])
def test_what_was_found_running_waits_for_a_person_whatever_is_seen(world, verdict):
    _, plan = world.begun()
    found = found_running(world.picture(plan), to_document(Policy()), 0).release
    arrived = replace(found, in_force_since_s=1000.0)
    seen = world.picture(found.plan, now_s=9000.0, verdict=verdict)
    assert reconcile(arrived, Policy(), seen) == ()


def test_what_was_found_running_comes_back_within_the_cap_of_its_route(world):
    """An agent that lost its database knows no policy of it; the agent's own file still holds."""
    _, plan = world.begun()
    found = found_running(world.picture(plan), to_document(Policy()), 0)
    assert found.release.paused.kind is PauseKind.MEMORY
    assert found.release.plan.canary_share_bp == 0
    resumed = ask(found.release, Verb.RESUME, "ann", "", 1010.0).release
    seen = amended(world.picture(found.release.plan), max_share_bp=100)
    _, publish = reconcile(resumed, Policy(), seen)
    assert publish.plan.canary_share_bp == 100
