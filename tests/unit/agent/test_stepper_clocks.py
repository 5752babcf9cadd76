"""Moments that a clock ahead of ours has noted, and what a person takes back in time."""

from __future__ import annotations

from dataclasses import replace as amended

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import MOMENTS, Phase, Publish, Remember, Verb
from agent.standing import AHEAD_S
from agent.stepper import reconcile
from agent.verbs import Conflict, ask


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_that_a_clock_noted_ahead_of_ours_is_now(world, name):
    release, plan = world.begun()
    ahead = replace(release, **{name: 90_000.0})
    live = world.picture(plan, now_s=1100, verdict=Verdict.HEALTHY)
    (noted,) = reconcile(ahead, world.POLICY, live)
    assert getattr(noted.release, name) == 1100
    assert noted.release == replace(ahead, **{name: 1100.0}, why=noted.change.reason)
    assert noted.change.kind == "release.redated"
    assert "88900 s ahead" in noted.change.reason
    near = replace(release, **{name: 1100.0 + AHEAD_S})
    kinds = [one.change.kind for one in reconcile(near, world.POLICY, live)
             if isinstance(one, Remember)]  # fmt: skip
    assert "release.redated" not in kinds


def test_a_lapse_that_was_noted_ahead_is_over_after_a_block(world):
    release, plan = world.begun()
    release = replace(release, lapsed_since_s=90_000.0, in_force_since_s=90_000.0)
    lapsed = world.picture(plan, now_s=1100, left_s=0.0, verdict=Verdict.HEALTHY)
    (noted,) = reconcile(release, world.POLICY, lapsed)
    assert (noted.release.lapsed_since_s, noted.release.in_force_since_s) == (1100, 1100)
    later = world.picture(plan, now_s=1106, left_s=0.0, verdict=Verdict.HEALTHY)
    _, publish = reconcile(noted.release, world.POLICY, later)
    assert publish.plan.reason == "evidence is back"


def test_a_regression_is_not_kept_waiting_by_a_clock_longer_than_a_cycle(world):
    release, plan = world.begun()
    ahead = replace(release, in_force_since_s=90_000.0)
    bad = world.picture(plan, now_s=1100, verdict=Verdict.REGRESSED)
    (noted,) = reconcile(ahead, world.POLICY, bad)
    remember, _ = reconcile(noted.release, world.POLICY, bad)
    assert remember.release.phase is Phase.ROLLED_BACK


def test_a_pause_takes_back_a_promote_that_waits(world):
    release, plan = world.begun()
    frozen = amended(world.picture(plan, now_s=1010), frozen="weekend")
    asked = ask(release, Verb.PROMOTE, "ann", "known good", 1001.0).release
    assert not any(isinstance(one, Publish) for one in reconcile(asked, world.POLICY, frozen))
    with pytest.raises(Conflict, match="promote by ann is being carried out"):
        ask(asked, Verb.RESUME, "bob", "", 1002.0)
    paused = ask(asked, Verb.PAUSE, "bob", "not on Monday morning", 1002.0).release
    assert (paused.asked, paused.paused.by) == (None, "bob")
    resumed = ask(paused, Verb.RESUME, "bob", "", 1003.0).release
    (freed,) = reconcile(resumed, world.POLICY, world.picture(plan, now_s=1010))
    writes = reconcile(freed.release, world.POLICY, world.picture(plan, now_s=1011))
    assert not any(isinstance(one, Publish) for one in writes), "the promote is gone"
