"""What each change of a release remembers and publishes, where its rule does not say it."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.policy import SetMirror, SetWeight
from agent.release import Phase, Verb
from agent.stepper import reconcile
from agent.verbs import ask


@pytest.mark.parametrize(
    ("bake_s", "phase", "ended_at_s", "holdback_share_bp"),
    [(600.0, Phase.BAKING, None, 500), (0.0, Phase.SETTLED, 1100.0, 0)],
)
def test_without_a_bake_the_promotion_is_the_end(
    world: SimpleNamespace,
    bake_s: float,
    phase: Phase,
    ended_at_s: float | None,
    holdback_share_bp: int,
) -> None:
    policy = amended(world.POLICY, bake_s=bake_s)
    release, plan = world.begun(policy)
    healthy = world.picture(plan, now_s=1100.0, verdict=Verdict.HEALTHY)
    remember, publish = reconcile(replace(release, stage=2), policy, healthy)
    assert (remember.release.phase, remember.release.ended_at_s) == (phase, ended_at_s)
    assert remember.release.promoted_at_s == 1100.0
    assert publish.plan.stable == world.B
    assert publish.plan.holdback_share_bp == holdback_share_bp


@pytest.mark.parametrize(("said", "why"), [("", "bob said resume"), ("all clear", "all clear")])
def test_a_resume_gives_its_reason_or_says_who_it_was(
    world: SimpleNamespace, said: str, why: str
) -> None:
    release, plan = world.begun()
    hand = replace(plan, generation=plan.generation + 1, hold=True, set_by="bob")
    (noted,) = reconcile(release, world.POLICY, world.picture(hand))
    asked = ask(noted.release, Verb.RESUME, "bob", said, 1010.0).release
    remember, publish = reconcile(asked, world.POLICY, world.picture(hand))
    assert (remember.change.reason, publish.plan.reason) == (why, why)


def test_a_previous_version_keeps_its_slot_unless_the_candidate_took_its_endpoints(
    world: SimpleNamespace,
) -> None:
    apart = replace(world.A, version="0", endpoints=("http://127.0.0.1:8010",))
    for previous, kept in ((apart, apart), (replace(world.B, version="0"), None)):
        seen = world.picture(world.seeded(previous=previous))
        _, publish = reconcile(world.started(), world.POLICY, seen)
        assert publish.plan.previous == kept


def test_a_lease_that_ended_without_evidence_says_so(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    seen = world.picture(plan, now_s=1100, left_s=0.0, evidence_age_s=60.0)
    (noted,) = reconcile(release, world.POLICY, seen)
    assert noted.change.reason == f"the lease ended at {world.ONE}: no evidence for 60 s"


def test_one_share_of_copies_follows_the_other(world: SimpleNamespace) -> None:
    policy = amended(world.POLICY, steps=(SetMirror(1000), SetMirror(2000), SetWeight(500)))
    release, plan = world.begun(policy)
    shares = [plan.mirror_share_bp]
    for now_s in (1100.0, 1200.0):
        healthy = world.picture(plan, now_s=now_s, verdict=Verdict.HEALTHY)
        remember, publish = reconcile(release, policy, healthy)
        release, plan = replace(remember.release, in_force_since_s=now_s), publish.plan
        shares.append(plan.mirror_share_bp)
    assert shares == [1000, 2000, None]


def test_servers_are_told_to_be_free_only_at_the_end(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    healthy = world.picture(plan, now_s=1100.0, verdict=Verdict.HEALTHY)
    step = reconcile(release, world.POLICY, healthy)[0].change
    assert step.kind == "release.step"
    assert "endpoints_in_no_slot" not in step.detail
    worse = world.picture(plan, now_s=1100.0, verdict=Verdict.REGRESSED)
    ended = reconcile(release, world.POLICY, worse)[0].change
    assert ended.detail["endpoints_in_no_slot"] == list(world.B.endpoints)
