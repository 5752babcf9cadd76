"""The rules of a release, one situation at a time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import (
    Asked,
    Paused,
    PauseKind,
    Phase,
    Publish,
    Remember,
    Renew,
    Sight,
    Verb,
)
from agent.standing import missing
from agent.stepper import reconcile

# ---- going forward -----------------------------------------------------------------------------


def test_the_first_plan_is_remembered_before_it_is_published(world):
    writes = reconcile(world.started(), world.POLICY, world.picture(world.seeded(7)))
    remember, publish = writes
    assert isinstance(remember, Remember)
    assert isinstance(publish, Publish)
    assert remember.release.plan == publish.plan
    assert publish.plan.generation == 8
    assert (publish.plan.canary, publish.plan.canary_share_bp) == (world.B, 500)
    assert publish.plan.salt == "rel-1"
    assert publish.plan.lease_s == world.POLICY.lease_s
    assert remember.release.shares == {8: 500}
    assert remember.change.reason == "5 % to b"


@pytest.mark.parametrize(
    ("verdict", "now_s", "steps"),
    [
        (Verdict.HEALTHY, 1061, True),
        (Verdict.HEALTHY, 1059, False),  # the dwell is 60 s, counted on evidence
        (Verdict.UNDECIDED, 5000, False),
        (Verdict.INVALID, 1061, False),
        (None, 5000, False),
    ],
)
def test_a_step_ends_when_its_time_has_passed_and_the_verdict_is_healthy(
    world, verdict, now_s, steps
):
    release, plan = world.begun()
    writes = reconcile(release, world.POLICY, world.picture(plan, now_s=now_s, verdict=verdict))
    published = [write.plan.canary_share_bp for write in writes if isinstance(write, Publish)]
    assert published == ([2500] if steps else [])


def test_steps_follow_each_other_to_the_promotion(world):
    release, plan = world.begun()
    walked = []
    for now_s in (1100.0, 1200.0, 1300.0):
        healthy = world.picture(plan, now_s=now_s, verdict=Verdict.HEALTHY)
        remember, publish = reconcile(release, world.POLICY, healthy)
        release, plan = replace(remember.release, in_force_since_s=now_s), publish.plan
        walked.append((release.phase, release.stage, plan.canary_share_bp))
    assert walked == [
        (Phase.PROGRESSING, 1, 2500),
        (Phase.PROGRESSING, 2, 5000),
        (Phase.BAKING, 2, 0),
    ]


def test_time_without_evidence_does_not_count_for_a_step(world):
    release, plan = world.begun()
    seen = world.picture(plan, now_s=1070, verdict=Verdict.HEALTHY, evidence_age_s=14)
    assert "4 s of this weight left" in missing(release, world.POLICY, seen)


def test_stale_evidence_neither_steps_nor_renews(world):
    release, plan = world.begun()
    seen = world.picture(plan, now_s=1100, verdict=Verdict.HEALTHY, evidence_age_s=16, left_s=5)
    assert reconcile(release, world.POLICY, seen) == ()


def test_the_last_step_promotes_with_one_plan(world):
    release, plan = world.baking()
    assert release.phase is Phase.BAKING
    assert plan.stable == world.B
    assert plan.previous == world.A
    assert plan.canary is None
    assert plan.holdback_share_bp == 500
    assert plan.lease_s == world.POLICY.lease_s
    assert release.shares == {plan.generation: 500}


def test_a_pause_without_duration_waits_for_promote(world):
    release, plan = world.begun(world.WAITING)
    seen = world.picture(plan, now_s=9000, verdict=Verdict.HEALTHY)
    assert missing(release, world.WAITING, seen) == "waits for a person's promote"
    assert not any(isinstance(write, Publish) for write in reconcile(release, world.WAITING, seen))
    asked = replace(release, asked=Asked(verb=Verb.PROMOTE, by="ann", reason="looks good"))
    remember, publish = reconcile(asked, world.WAITING, seen)
    assert publish.plan.canary_share_bp == 2500
    assert remember.release.asked is None
    assert remember.change.actor == "ann"


# ---- going back --------------------------------------------------------------------------------


@pytest.mark.parametrize("age_s", [1, 600])
def test_a_regression_rolls_back_at_any_time_also_on_old_evidence(world, age_s):
    release, plan = world.begun()
    seen = world.picture(plan, verdict=Verdict.REGRESSED, evidence_age_s=age_s)
    remember, publish = reconcile(release, world.POLICY, seen)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert (publish.plan.stable, publish.plan.canary) == (world.A, None)
    assert remember.change.detail["endpoints_in_no_slot"] == list(world.B.endpoints)


def test_evidence_that_stays_invalid_ends_the_release_without_blame(world):
    release, plan = world.begun()
    (noted,) = reconcile(release, world.POLICY, world.picture(plan, verdict=Verdict.INVALID))
    assert noted.release.invalid_since_s == 1000.0
    at_limit = world.picture(plan, now_s=1000 + 1800.0, verdict=Verdict.INVALID)
    assert reconcile(noted.release, world.POLICY, at_limit) == ()
    past = world.picture(plan, now_s=1001 + 1800.0, verdict=Verdict.INVALID)
    remember, publish = reconcile(noted.release, world.POLICY, past)
    assert remember.release.phase is Phase.ABORTED
    assert remember.release.why == "evidence could not be trusted for 30 minutes: drawn invalid"
    assert publish.plan.canary is None


# ---- converging --------------------------------------------------------------------------------


def test_while_live_differs_from_the_intent_the_cycle_only_converges(world):
    release, plan = world.begun()
    seen = world.picture(plan, world.seeded(), verdict=Verdict.REGRESSED)
    assert reconcile(release, world.POLICY, seen) == (Publish(plan, (world.TWO,)),)


def test_an_ended_release_still_brings_its_plan_to_a_gateway_that_was_away(world):
    release, plan = world.baking()
    ended = replace(release, phase=Phase.SETTLED)
    seen = world.picture(plan, world.seeded(), verdict=None)
    assert reconcile(ended, world.POLICY, seen) == (Publish(plan, (world.TWO,)),)
    assert reconcile(ended, world.POLICY, world.picture(plan, plan, verdict=None)) == ()


def test_a_silent_gateway_blocks_until_its_lease_is_over(world):
    release, plan = world.begun()
    for silent_for_s, steps in ((30.0, False), (31.0, True)):
        away = (Sight(gateway=world.TWO, silent_for_s=silent_for_s),)
        seen = world.picture(plan, now_s=1100, verdict=Verdict.HEALTHY, silent=away)
        writes = reconcile(release, world.POLICY, seen)
        assert any(isinstance(write, Publish) for write in writes) is steps


def test_a_silent_gateway_does_not_block_a_rollback(world):
    release, plan = world.begun()
    away = (Sight(gateway=world.TWO, silent_for_s=1.0),)
    seen = world.picture(plan, verdict=Verdict.REGRESSED, silent=away)
    remember, publish = reconcile(release, world.POLICY, seen)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert publish.gateways == (world.ONE,)


def test_the_next_generation_is_above_everything_remembered_or_seen(world):
    release = world.started(generation_floor=40)
    _, publish = reconcile(release, world.POLICY, world.picture(world.seeded(7), world.seeded(9)))
    assert publish.plan.generation == 41


# ---- leases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left_s", "renews"), [(20.1, False), (20.0, True), (1.0, True)])
def test_a_lease_is_renewed_after_a_third_at_the_latest(world, left_s, renews):
    release, plan = world.begun()
    writes = reconcile(release, world.POLICY, world.picture(plan, now_s=1001, left_s=left_s))
    expected = (Renew("rag", plan.generation, plan.lease_s, (world.ONE,)),)
    assert writes == (expected if renews else ())


def test_a_plan_without_a_lease_has_none_to_renew(world):
    release, plan = world.begun()
    endless = replace(plan, lease_s=None)
    release = replace(release, plan=endless)
    assert reconcile(release, world.POLICY, world.picture(endless, now_s=1001)) == ()


def test_a_lapsed_release_returns_to_its_weight_after_one_whole_block(world):
    release, plan = world.begun()
    lapsed = world.picture(plan, now_s=1100, left_s=0.0, verdict=Verdict.HEALTHY)
    (noted,) = reconcile(release, world.POLICY, lapsed)
    assert noted.release.lapsed_since_s == 1100
    assert noted.release.lapsed_generations == (plan.generation,)
    assert noted.change.reason.endswith(": the agent or the gateway was away")
    soon = world.picture(plan, now_s=1105, left_s=0.0, verdict=Verdict.HEALTHY)
    assert reconcile(noted.release, world.POLICY, soon) == ()
    later = world.picture(plan, now_s=1106, left_s=0.0, verdict=Verdict.HEALTHY)
    remember, publish = reconcile(noted.release, world.POLICY, later)
    assert publish.plan.canary_share_bp == plan.canary_share_bp
    assert publish.plan.generation == plan.generation + 1
    assert remember.release.stage == release.stage
    assert remember.release.lapsed_since_s is None


def test_a_pause_by_a_person_survives_a_lapse(world):
    release, plan = world.begun()
    paused = Paused(kind=PauseKind.PERSON, by="ann", why="lunch", since_s=1000.0)
    release = replace(release, paused=paused, lapsed_since_s=1000.0)
    back = world.picture(plan, now_s=1100, left_s=0.0, verdict=Verdict.HEALTHY)
    remember, _ = reconcile(release, world.POLICY, back)
    assert remember.release.paused == paused
