"""Decide what a release should be now, and which writes make it so. Pure.

A full picture goes in, writes come out, to be made in order. The rules are a table: the first one
that applies decides the cycle. Three of them carry the safety:

* Intent is remembered before it is published, so a crash between the two is finished by the next
  cycle, and a generation, once remembered, never means anything else.
* While what is live differs from the intent, the cycle only converges: its evidence is about
  another split.
* A plan that is newer than what is remembered, or held, is somebody else's. It is never undone: the
  release pauses, or ends where that plan has already decided it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from agent import changes, gates
from agent.changes import reasons
from agent.foreign import decided_by, foreign_plan
from agent.judge import Verdict
from agent.policy import Policy
from agent.release import (
    MOMENTS,
    Change,
    PauseKind,
    Phase,
    Picture,
    Publish,
    Release,
    Remember,
    Renew,
    Verb,
    Write,
    stage_of,
)
from agent.standing import AHEAD_S, age, is_fresh, missing, observed_s, unproved
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.plan import RoutePlan

HELD_AFTER_S = 60.0
"""A step whose time passed this long ago and that still holds is told of, once."""

RENEW_BELOW = 2 / 3
"""A lease is renewed once no more than this is left of it, so at the latest after a third."""

Rule = Callable[[Release, Policy, Picture], tuple[Write, ...] | None]
"""None: does not apply. The empty tuple: applies, and nothing is to be done."""


def reconcile(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...]:
    """The writes of one cycle, in order. Nothing to do is the empty tuple."""
    for rule in RULES:
        writes = rule(release, policy, picture)
        if writes is not None:
            return writes
    return ()


# ---- before judging ----------------------------------------------------------------------------


def _ended(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """An ended release still brings its last plan to gateways that were away."""
    if not release.phase.is_ended:
        return None
    if foreign_plan(release, picture) is not None:
        return ()
    return _converge(release, policy, picture) or ()


def _nobody_answers(
    _release: Release, _policy: Policy, picture: Picture
) -> tuple[Write, ...] | None:
    return None if picture.answering else ()


def _decided_elsewhere(
    release: Release, _policy: Policy, picture: Picture
) -> tuple[Write, ...] | None:
    """Somebody else's plan has rolled back, promoted or replaced what this release brings."""
    live = foreign_plan(release, picture)
    verdict = decided_by(release, live) if live is not None else None
    if live is None or verdict is None:
        return None
    phase, what = verdict
    by = live.set_by or "somebody"
    why = f"{what} by {by} (generation {live.generation}){_said(live.reason)}"
    return changes.end(release, picture, phase, by, why)


def _asked(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """A person's word. `promote` comes later: it needs the intended plan in force."""
    asked = release.asked
    if asked is None or _unknown(release, foreign_plan(release, picture)):
        return None
    if asked.verb is Verb.ABORT:
        why = asked.reason or f"{asked.by} said abort"
        return changes.withdraw(release, picture, Phase.ABORTED, asked.by, why)
    if asked.verb is Verb.RESUME:
        return changes.resume(release, policy, picture, asked)
    return None


def _give_way(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Weights were changed by somebody else: publish nothing until `resume`."""
    live = foreign_plan(release, picture)
    is_paused = release.paused is not None and release.paused.kind is PauseKind.HAND
    if live is None or (is_paused and not _unknown(release, live)):
        return () if is_paused else None
    by = live.set_by or "somebody"
    how = "by hand" if live.hold else "not by this release"
    why = (
        f"weights were changed {how} by {by} (generation {live.generation}){_said(live.reason)}; "
        "`resume` goes on"
    )
    return changes.give_way(release, picture, live, by, why)


def _unknown(release: Release, live: RoutePlan | None) -> bool:
    """A foreign plan that came after whatever was adopted, so after a person's last command."""
    if live is None:
        return False
    return release.paused is None or live.generation > release.paused.generation


def _dated_ahead(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Moments that a clock ahead of ours has noted: the release would wait until they come."""
    latest_s = picture.now_s + AHEAD_S
    ahead = {
        name: at for name in MOMENTS if (at := getattr(release, name)) is not None and at > latest_s
    }
    return changes.redate(release, picture, ahead) if ahead else None


def _begin(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """The first plan; but whoever paused the release before it wants nothing of it published."""
    if release.plan is not None:
        return None
    if release.paused is not None:
        return ()
    if gates.held_by(release, policy, picture):
        return () if picture.frozen else gates.consult(release, picture)
    return changes.begin(release, policy, picture)


def _converge(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Publish the remembered plan wherever an older one is live."""
    plan = release.plan
    if plan is None:
        return None
    behind = tuple(
        gateway for gateway, live in picture.answering if live.generation < plan.generation
    )
    if not behind:
        return None
    is_told = release.held_generation == plan.generation
    told = () if is_told or not _is_over(picture, plan) else changes.refused(release, behind)
    return (*told, Publish(plan, behind))


def _is_over(picture: Picture, plan: RoutePlan) -> bool:
    """Has the lease of those that took the plan ended, while others still do not take it?"""
    return any(
        sight.plan is not None
        and sight.plan.generation == plan.generation
        and sight.lease_remaining_s == 0
        for sight in picture.sights
    )


def _arrive(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Note when the plan came into force: stays are counted from here."""
    if release.in_force_since_s is not None:
        return None
    return (Remember(replace(release, in_force_since_s=picture.now_s), None),)


# ---- judging -----------------------------------------------------------------------------------


def _without_memory(
    release: Release, _policy: Policy, _picture: Picture
) -> tuple[Write, ...] | None:
    """A release found running, but not remembered, waits for a person."""
    is_found = release.paused is not None and release.paused.kind is PauseKind.MEMORY
    return () if is_found else None


def _refused(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """A gate has found that the version must get no traffic: not a regression, but an end."""
    why = gates.refusal(picture)
    if not why or release.phase is not Phase.PROGRESSING:
        return None
    return changes.withdraw(release, picture, Phase.ABORTED, AGENT_ACTOR, why)


def _regressed(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    if picture.judgement is None or picture.judgement.verdict is not Verdict.REGRESSED:
        return None
    if not policy.rolls_back:
        if release.paused is not None:
            return None
        return changes.leave_to_a_person(release, picture)
    return changes.withdraw(release, picture, Phase.ROLLED_BACK, AGENT_ACTOR, reasons(picture))


def _lapsed(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """After a lease has ended: wait for a whole block that began afterwards, then return."""
    since_s = release.lapsed_since_s
    if since_s is not None:
        is_back = is_fresh(picture) and picture.closed_through_s >= since_s + policy.block_s
        return changes.return_to_weight(release, picture) if is_back else ()
    ended = [sight.gateway for sight in picture.sights if sight.lease_remaining_s == 0]
    if not ended:
        return None
    cause = "the agent or the gateway was away" if is_fresh(picture) else age(picture)
    why = f"the lease ended at {', '.join(ended)}: {cause}"
    change = Change(kind="release.lapsed", actor=AGENT_ACTOR, reason=why)
    assert release.plan is not None, "_begin comes before"
    after = replace(
        release,
        lapsed_since_s=picture.now_s,
        lapsed_generations=(*release.lapsed_generations, release.plan.generation),
    )
    return changes.remember(release, after, change)


def _validity(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Keep the time since evidence cannot be trusted; end the release when it is too long.

    During bake the new version stays: nothing speaks against it, and the old one must not return.
    The bake then waits, until evidence can be trusted or a person promotes.
    """
    if picture.judgement is None:
        return None
    since_s = release.invalid_since_s
    if (picture.judgement.verdict is Verdict.INVALID) != (since_s is not None):
        if since_s is None:
            change = Change(kind="release.invalid", actor=AGENT_ACTOR, reason=reasons(picture))
            return changes.remember(
                release, replace(release, invalid_since_s=picture.now_s), change
            )
        change = Change(
            kind="release.valid", actor=AGENT_ACTOR, reason="evidence can be trusted again"
        )
        return changes.remember(release, replace(release, invalid_since_s=None), change)
    if since_s is None or release.phase is Phase.BAKING:
        return None
    if picture.now_s - since_s <= policy.invalid_limit_s:
        return None
    minutes = policy.invalid_limit_s / 60
    why = f"evidence could not be trusted for {minutes:g} minutes: {reasons(picture)}"
    return changes.withdraw(release, picture, Phase.ABORTED, AGENT_ACTOR, why)


def _advance(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    asked = release.asked if release.asked and release.asked.verb is Verb.PROMOTE else None
    if asked is None and unproved(release, policy, picture):
        return None
    if gates.held_by(release, policy, picture):
        return None
    return changes.advance(release, policy, picture, asked)


def _held(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Tell once that a step's time is over and something still holds it."""
    plan = release.plan
    assert plan is not None, "_begin comes before"
    is_told = release.held_generation == plan.generation or release.invalid_since_s is not None
    if is_told or release.paused is not None:
        return None
    if release.phase is Phase.BAKING:
        over_s, waits = observed_s(release, picture) - policy.bake_s, False
    else:
        stage = stage_of(release, policy)
        over_s, waits = observed_s(release, picture) - stage.duration_s, stage.waits
    if over_s < (0 if waits else HELD_AFTER_S):
        return None
    if not unproved(release, policy, picture) and gates.consult(release, picture):
        return None  # what the gates say comes first
    why = missing(release, policy, picture)
    change = Change(kind="release.held", actor=AGENT_ACTOR, reason=why)
    after = replace(release, held_generation=plan.generation)
    return changes.remember(release, after, change)


def _consult(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Ask the gates once nothing else holds, and renew meanwhile."""
    is_asked = release.asked is not None and release.asked.verb is Verb.PROMOTE
    if not is_asked and unproved(release, policy, picture):
        return None
    asked = gates.consult(release, picture)
    return (*asked, *(_renew(release, policy, picture) or ())) if asked else None


def _renew(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Only while evidence is fresh: a lease is what bounds an exposure that nobody watches."""
    plan = release.plan
    assert plan is not None, "_begin comes before"
    if plan.lease_s is None or not is_fresh(picture):
        return None
    due_s = plan.lease_s * RENEW_BELOW
    left_s = [s.lease_remaining_s for s in picture.sights if s.lease_remaining_s is not None]
    if not left_s or min(left_s) > due_s:
        return None
    gateways = tuple(gateway for gateway, _ in picture.answering)
    return (Renew(plan.route, plan.generation, plan.lease_s, gateways),)


RULES: Final[tuple[Rule, ...]] = (
    _ended,
    _nobody_answers,
    _decided_elsewhere,
    _asked,
    _give_way,
    _refused,
    _dated_ahead,
    _begin,
    _converge,
    _arrive,
    _without_memory,
    _regressed,
    _lapsed,
    _validity,
    _advance,
    _held,
    _consult,
    _renew,
)


def _said(reason: str) -> str:
    return f": {reason}" if reason else ""
