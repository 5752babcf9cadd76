"""What whoever was just woken up is told of a release."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.judge import Verdict
from agent.release import Asked, Cycle, Paused, PauseKind, Phase, Picture, Release, Verb
from agent.status import status_of
from agent.stepper import reconcile
from agent.verbs import Conflict, ask


def said(release: Release, policy: object, picture: Picture | None) -> str:
    cycle = None
    if picture is not None:
        cycle = Cycle(picture, picture.judgement, sentence="", canary_requests=0)
    return status_of(release, policy, cycle, now_s=1000.0).summary


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (
            Verdict.HEALTHY,
            "b is all right so far: no worse than a by its margins. "
            "It stays at 5 % (step 1 of 3): 60 s of this weight left.",
        ),
        (
            Verdict.UNDECIDED,
            "Not known yet whether b is all right. "
            "It stays at 5 % (step 1 of 3): 60 s of this weight left.",
        ),
        (Verdict.REGRESSED, "b is worse than a: drawn regressed. It is being rolled back."),
        (
            Verdict.INVALID,
            "Nothing can be said of b, the evidence cannot be trusted: drawn invalid. "
            "It stays at 5 % (step 1 of 3): 60 s of this weight left.",
        ),
    ],
)
def test_both_questions_are_answered(
    world: SimpleNamespace, verdict: Verdict, expected: str
) -> None:
    release, plan = world.begun()
    assert said(release, world.POLICY, world.picture(plan, verdict=verdict)) == expected


def test_what_is_waited_for_is_said_once(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    late = world.picture(plan, now_s=1100, verdict=Verdict.UNDECIDED)
    found = said(release, world.POLICY, late)
    assert found.endswith("It stays at 5 % (step 1 of 3) until that is known.")
    assert "drawn undecided" not in found


def test_old_evidence_is_no_verdict(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    old = world.picture(plan, now_s=1400, verdict=Verdict.HEALTHY, evidence_age_s=300)
    assert said(release, world.POLICY, old) == (
        "Not known now whether b is all right: no evidence for 5 min. "
        "It stays at 5 % (step 1 of 3) until that is known."
    )


def test_a_step_that_waits_names_whom_it_waits_for(world: SimpleNamespace) -> None:
    release, plan = world.begun(world.WAITING)
    seen = world.picture(plan, now_s=1100, verdict=Verdict.HEALTHY)
    assert "until a person says promote." in said(release, world.WAITING, seen)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            PauseKind.PERSON,
            "It stays at 5 % (step 1 of 3), paused by ann: lunch. "
            "A regression is rolled back all the same.",
        ),
        (PauseKind.HAND, "Paused: lunch."),
        (PauseKind.MEMORY, "Paused with nobody on it: lunch."),
    ],
)
def test_a_pause_says_who_and_why(world: SimpleNamespace, kind: PauseKind, expected: str) -> None:
    release, plan = world.begun()
    held = replace(release, paused=Paused(kind=kind, by="ann", why="lunch", since_s=1000.0))
    assert said(held, world.POLICY, world.picture(plan)).endswith(expected)


def test_a_policy_without_rollback_promises_none(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    by_hand = amended(world.POLICY, rolls_back=False)
    regressed = world.picture(plan, verdict=Verdict.REGRESSED)
    assert "rolled back" not in said(release, by_hand, regressed)
    (remember,) = reconcile(release, by_hand, regressed)
    found = said(remember.release, by_hand, regressed)
    assert "leaves the rollback to a person" in found
    assert "all the same" not in found


def test_a_lapsed_lease_says_what_users_get(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    lapsed = replace(release, lapsed_since_s=1000.0)
    assert "Everybody gets a: the lease ended" in said(lapsed, world.POLICY, world.picture(plan))


def test_after_the_promotion_it_is_still_watched(world: SimpleNamespace) -> None:
    release, plan = world.baking()
    found = said(release, world.POLICY, world.picture(plan, now_s=1100))
    assert found.endswith("It is promoted, and still watched against a: 10 min of bake left.")


def test_before_the_first_plan_nobody_gets_it(world: SimpleNamespace) -> None:
    assert said(world.started(), world.POLICY, None).startswith("b gets no requests yet.")


def test_what_was_asked_for_is_said(world: SimpleNamespace) -> None:
    release, plan = world.begun()
    asked = replace(release, asked=Asked(verb=Verb.PROMOTE, by="ann", reason="seen enough"))
    found = said(asked, world.POLICY, world.picture(plan))
    assert found.endswith("Asked for: promote, carried out next.")


@pytest.mark.parametrize(
    ("phase", "why", "expected"),
    [
        (Phase.SETTLED, "", "b is promoted for good: everybody gets it."),
        (Phase.ROLLED_BACK, "too slow", "b was rolled back: too slow. Everybody gets a."),
        (
            Phase.ROLLED_BACK,
            "b was rolled back by ann: no",
            "b was rolled back by ann: no. Everybody gets a.",
        ),
        (
            Phase.ABORTED,
            "a drill",
            "The release of b was ended without blame: a drill. Everybody gets a.",
        ),
    ],
)
def test_how_it_ended_and_what_users_get(
    world: SimpleNamespace, phase: Phase, why: str, expected: str
) -> None:
    release, _ = world.begun()
    ended = replace(release, phase=phase, why=why, ended_at_s=1500.0)
    assert said(ended, world.POLICY, None) == expected


def test_a_release_that_never_began_reached_nobody(world: SimpleNamespace) -> None:
    ended = replace(world.started(), phase=Phase.ABORTED, why="no", ended_at_s=1500.0)
    assert said(ended, world.POLICY, None).endswith("Nobody ever got it.")


def test_only_what_is_possible_is_offered(world: SimpleNamespace) -> None:
    release, _ = world.begun()
    paused = Paused(kind=PauseKind.PERSON, by="ann", why="lunch", since_s=1000.0)
    baking, _ = world.baking()
    for one, expected in (
        (release, ("pause", "promote", "abort")),
        (replace(release, paused=paused), ("resume", "abort")),
        (baking, ("pause",)),
        (replace(baking, invalid_since_s=1200.0), ("pause", "promote")),
        (replace(release, phase=Phase.ABORTED, ended_at_s=1500.0), ("retry",)),
        (replace(release, phase=Phase.SETTLED, ended_at_s=1500.0), ()),
    ):
        found = status_of(one, world.POLICY, None, now_s=1000.0).verbs
        assert found == expected
        for verb in set(Verb) - {Verb.RETRY}:
            if verb in found:
                ask(one, verb, "ann", "why", 1.0)
            else:
                with pytest.raises(Conflict):
                    ask(one, verb, "ann", "why", 1.0)
