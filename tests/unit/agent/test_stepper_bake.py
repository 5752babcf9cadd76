"""The bake: what counts for it, what ends it, and what brings the previous version back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import Phase, Publish, Release, Sight, Verb
from agent.standing import missing
from agent.stepper import reconcile
from agent.verbs import Conflict, ask
from mlops.contracts.plan import RoutePlan, Slot, rolled_back


def test_a_bake_that_is_over_settles_and_keeps_the_previous_version(world):
    release, plan = world.baking()
    early = world.picture(plan, now_s=1600, verdict=Verdict.UNDECIDED)
    assert reconcile(release, world.POLICY, early) == ()
    late = world.picture(plan, now_s=1702, verdict=Verdict.UNDECIDED)
    remember, publish = reconcile(release, world.POLICY, late)
    assert remember.release.phase is Phase.SETTLED
    assert publish.plan.holdback_share_bp == 0
    assert publish.plan.previous == world.A
    assert publish.plan.lease_s is None


def test_servers_of_the_version_before_both_are_told_to_be_free(world):
    """Three versions: what was previous when the release began lost its slot at the promotion."""
    older = Slot(version="older", endpoints=("http://127.0.0.1:8010",))
    seen = world.picture(world.seeded(previous=older))
    begun, publish = reconcile(world.started(), world.POLICY, seen)
    assert publish.plan.previous == older
    assert begun.release.before_base == older
    release, plan = world.begun()
    kept = replace(plan, previous=older)
    back = world.picture(kept, verdict=Verdict.REGRESSED)
    taken_back, _ = reconcile(replace(release, plan=kept, before_base=older), world.POLICY, back)
    assert taken_back.change.detail["endpoints_in_no_slot"] == list(world.B.endpoints)
    release, plan = world.baking()
    late = world.picture(plan, now_s=1702, verdict=Verdict.UNDECIDED)
    settled, _ = reconcile(replace(release, before_base=older), world.POLICY, late)
    assert settled.change.detail["endpoints_in_no_slot"] == list(older.endpoints)
    taken, _ = reconcile(replace(release, before_base=world.B), world.POLICY, late)
    assert taken.change.detail["endpoints_in_no_slot"] == []


def returned(world: SimpleNamespace, *, away_s: float) -> tuple[Release, RoutePlan, float]:
    """A baking release whose agent was away: its lease ended, and it is back at its holdback."""
    release, plan = world.baking()
    now_s = 1100.0 + away_s
    (noted,) = reconcile(release, world.POLICY, world.picture(plan, now_s=now_s, left_s=0.0))
    now_s += 7
    lapsed = world.picture(plan, now_s=now_s, left_s=0.0)
    remember, publish = reconcile(noted.release, world.POLICY, lapsed)
    (arrived,) = reconcile(remember.release, world.POLICY, world.picture(publish.plan, now_s=now_s))
    return arrived.release, publish.plan, now_s


def test_time_that_nobody_watched_does_not_count_for_a_bake(world):
    release, plan, back_s = returned(world, away_s=3600.0)
    for after_s, settles in ((3, False), (600, False), (602, True)):
        seen = world.picture(plan, now_s=back_s + after_s)
        writes = reconcile(release, world.POLICY, seen)
        assert any(isinstance(write, Publish) for write in writes) is settles
    early = world.picture(plan, now_s=back_s + 101)
    assert missing(release, world.POLICY, early) == "8 min of bake left"


def test_a_bake_does_not_count_before_its_plan_is_in_force(world):
    release, plan = world.baking()
    seen = world.picture(plan, now_s=9000)
    (arrived,) = reconcile(replace(release, in_force_since_s=None), world.POLICY, seen)
    assert arrived.release.phase is Phase.BAKING
    assert reconcile(arrived.release, world.POLICY, seen) == ()


@pytest.mark.parametrize(
    ("verdict", "evidence_age_s", "settles"),
    [
        (Verdict.HEALTHY, 1, True),
        (Verdict.UNDECIDED, 1, True),
        (Verdict.INVALID, 1, False),
        (Verdict.UNDECIDED, 16, False),
        (None, 1, False),
    ],
)
def test_a_bake_settles_only_on_fresh_evidence_that_can_be_trusted(
    world, verdict, evidence_age_s, settles
):
    release, plan = world.baking()
    if verdict is Verdict.INVALID:
        release = replace(release, invalid_since_s=1100.0)
    seen = world.picture(plan, now_s=9000, verdict=verdict, evidence_age_s=evidence_age_s)
    writes = reconcile(release, world.POLICY, seen)
    assert any(isinstance(write, Publish) for write in writes) is settles


def test_a_regression_in_bake_brings_the_previous_version_back(world):
    release, plan = world.baking()
    seen = world.picture(plan, now_s=1200, verdict=Verdict.REGRESSED)
    remember, publish = reconcile(release, world.POLICY, seen)
    assert remember.release.phase is Phase.ROLLED_BACK
    assert publish.plan.stable == world.A
    assert world.B not in (publish.plan.canary, publish.plan.previous)


def test_evidence_that_stays_invalid_in_bake_keeps_the_new_version_and_waits(world):
    release, plan = world.baking()
    release = replace(release, invalid_since_s=1100.0)
    past = world.picture(plan, now_s=1101 + 1800.0, verdict=Verdict.INVALID)
    assert reconcile(release, world.POLICY, past) == ()
    assert missing(release, world.POLICY, past) == "drawn invalid"
    valid = world.picture(plan, now_s=1102 + 1800.0, verdict=Verdict.UNDECIDED)
    (noted,) = reconcile(release, world.POLICY, valid)
    remember, publish = reconcile(noted.release, world.POLICY, valid)
    assert remember.release.phase is Phase.SETTLED
    assert publish.plan.stable == world.B


def test_a_person_may_end_a_bake_whose_evidence_cannot_be_trusted(world):
    release, plan = world.baking()
    with pytest.raises(Conflict, match="promoted already"):
        ask(release, Verb.PROMOTE, "ann", "", 1200.0)
    invalid = replace(release, invalid_since_s=1100.0)
    asked = ask(invalid, Verb.PROMOTE, "ann", "sticky robots", 1200.0).release
    seen = world.picture(plan, now_s=1200, verdict=Verdict.INVALID)
    remember, publish = reconcile(asked, world.POLICY, seen)
    assert remember.release.phase is Phase.SETTLED
    assert remember.change.actor == "ann"
    assert "sticky robots" in remember.release.why
    assert (publish.plan.stable, publish.plan.set_by) == (world.B, "ann")


def test_a_rollback_by_hand_during_bake_ends_the_release(world):
    release, plan = world.baking()
    hand = rolled_back(
        plan, generation=plan.generation + 1, set_by="bob", reason="bad", hold=True,
        to_previous=True,
    )  # fmt: skip
    (noted,) = reconcile(release, world.POLICY, world.picture(hand, verdict=Verdict.HEALTHY))
    assert noted.release.phase is Phase.ROLLED_BACK


def test_a_bake_that_holds_is_told_of_a_minute_after_its_time(world):
    release, plan = world.baking()
    away = (Sight(gateway=world.TWO, silent_for_s=1.0),)
    for over_s, told in ((59.5, []), (60.0, ["release.held"])):
        now_s = 1100.0 + world.POLICY.bake_s + over_s
        seen = world.picture(plan, now_s=now_s, evidence_age_s=0.0, silent=away)
        writes = reconcile(release, world.POLICY, seen)
        assert [write.change.kind for write in writes] == told


def test_resume_in_bake_goes_on_with_the_holdback_and_without_a_canary(world):
    release, plan = world.baking()
    hand = replace(plan, generation=plan.generation + 1, hold=True, set_by="bob")
    (noted,) = reconcile(release, world.POLICY, world.picture(hand))
    asked = ask(noted.release, Verb.RESUME, "bob", "", 1200.0).release
    remember, publish = reconcile(asked, world.POLICY, world.picture(hand))
    assert (publish.plan.canary_share_bp, publish.plan.holdback_share_bp) == (0, 500)
    assert publish.plan.generation == hand.generation + 1
    assert remember.release.phase is Phase.BAKING
