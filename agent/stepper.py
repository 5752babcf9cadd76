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

from agent import changes
from agent.changes import AGENT, reasons
from agent.foreign import decided_by, foreign_plan
from agent.judge import Verdict
from agent.policy import Policy
from agent.release import (
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
    stages,
)
from mlops.contracts.plan import RoutePlan

FRESH_S = 15.0
"""Evidence older than this is no evidence: three default blocks."""

AHEAD_S = 5.0
"""A log further ahead than this of our own clock has another clock: its age cannot be told."""

INVALID_LIMIT_S = 30 * 60.0
"""Longest time on evidence that cannot be trusted, before the release ends without blame."""

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


def _begin(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """The first plan; but whoever paused the release before it wants nothing of it published."""
    if release.plan is not None:
        return None
    return () if release.paused is not None else changes.begin(release, policy, picture)


def _converge(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Publish the remembered plan wherever an older one is live."""
    plan = release.plan
    if plan is None:
        return None
    behind = tuple(
        gateway for gateway, live in picture.answering if live.generation < plan.generation
    )
    return (Publish(plan, behind),) if behind else None


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


def _regressed(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    if picture.judgement is None or picture.judgement.verdict is not Verdict.REGRESSED:
        return None
    return changes.withdraw(release, picture, Phase.ROLLED_BACK, AGENT, reasons(picture))


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
    change = Change(kind="release.lapsed", actor=AGENT, reason=why)
    assert release.plan is not None, "_begin comes before"
    after = replace(
        release,
        lapsed_since_s=picture.now_s,
        lapsed_generations=(*release.lapsed_generations, release.plan.generation),
    )
    return changes.remember(release, after, change)


def _validity(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Keep the time since evidence cannot be trusted; end the release when it is too long.

    During bake the new version stays: nothing speaks against it, and the old one must not return.
    The bake then waits, until evidence can be trusted or a person promotes.
    """
    if picture.judgement is None:
        return None
    since_s = release.invalid_since_s
    if (picture.judgement.verdict is Verdict.INVALID) != (since_s is not None):
        if since_s is None:
            change = Change(kind="release.invalid", actor=AGENT, reason=reasons(picture))
            return changes.remember(
                release, replace(release, invalid_since_s=picture.now_s), change
            )
        change = Change(kind="release.valid", actor=AGENT, reason="evidence can be trusted again")
        return changes.remember(release, replace(release, invalid_since_s=None), change)
    if since_s is None or release.phase is Phase.BAKING:
        return None
    if picture.now_s - since_s <= INVALID_LIMIT_S:
        return None
    minutes = INVALID_LIMIT_S / 60
    why = f"evidence could not be trusted for {minutes:g} minutes: {reasons(picture)}"
    return changes.withdraw(release, picture, Phase.ABORTED, AGENT, why)


def _advance(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    if release.asked is not None and release.asked.verb is Verb.PROMOTE:
        return changes.advance(release, policy, picture, release.asked)
    if not missing(release, policy, picture):
        return changes.advance(release, policy, picture)
    return None


def _renew(release: Release, _policy: Policy, picture: Picture) -> tuple[Write, ...] | None:
    """Only while evidence is fresh: a lease is what bounds an exposure that nobody watches."""
    plan = release.plan
    if plan is None or plan.lease_s is None or not is_fresh(picture):
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
    _begin,
    _converge,
    _arrive,
    _without_memory,
    _regressed,
    _lapsed,
    _validity,
    _advance,
    _renew,
)


# ---- what is missing ---------------------------------------------------------------------------


def missing(release: Release, policy: Policy, picture: Picture) -> str:
    """What still keeps the release from advancing, as a phrase; empty if nothing does."""
    if release.paused is not None:
        return f"paused by {release.paused.by}: {release.paused.why}"
    if not is_fresh(picture):
        return age(picture)
    silent = blocking(release, picture)
    if silent:
        return f"no answer from {', '.join(silent)}, whose lease may still run"
    if release.phase is Phase.BAKING:
        return _missing_in_bake(release, policy, picture)
    return _missing_at_weight(release, policy, picture)


def _missing_in_bake(release: Release, policy: Policy, picture: Picture) -> str:
    """UNDECIDED may settle, the new version is stable already; INVALID may not, nobody saw."""
    left_s = policy.bake_s - observed_s(release, picture)
    judgement = picture.judgement
    if left_s > 0:
        return f"{left_s:.0f} s of bake left"
    if judgement is None or judgement.verdict is Verdict.INVALID:
        return reasons(picture)
    return ""


def _missing_at_weight(release: Release, policy: Policy, picture: Picture) -> str:
    stage = stages(policy)[release.stage]
    left_s = stage.duration_s - observed_s(release, picture)
    judgement = picture.judgement
    if stage.waits:
        return "waits for a person's promote"
    if left_s > 0:
        return f"{left_s:.0f} s of this weight left"
    if judgement is None or judgement.verdict is not Verdict.HEALTHY:
        return reasons(picture)
    return ""


def is_fresh(picture: Picture) -> bool:
    """Is there evidence, up to a few seconds ago?"""
    age_s = picture.now_s - picture.closed_through_s
    return picture.judgement is not None and -AHEAD_S <= age_s <= FRESH_S


def age(picture: Picture) -> str:
    """How old the evidence is, as a phrase."""
    if picture.judgement is None or not picture.closed_through_s:
        return "there is no evidence"
    age_s = picture.now_s - picture.closed_through_s
    if age_s < -AHEAD_S:
        return f"clocks apart: the log is {-age_s:.0f} s ahead of this agent's clock"
    return f"no evidence for {age_s:.0f} s"


def observed_s(release: Release, picture: Picture) -> float:
    """How long the plan has been in force and watched. Time without evidence does not count.

    A lapse starts this again, also in bake: the return to the weight is another plan.
    """
    since_s = release.in_force_since_s
    if since_s is None:
        return 0.0
    return max(0.0, min(picture.now_s, picture.closed_through_s) - since_s)


def blocking(release: Release, picture: Picture) -> tuple[str, ...]:
    """Gateways that are silent, but whose lease may still send traffic to the canary."""
    lease_s = release.plan.lease_s if release.plan is not None else None
    if lease_s is None:
        return ()
    return tuple(
        sight.gateway
        for sight in picture.sights
        if sight.plan is None and sight.silent_for_s <= lease_s
    )


def _said(reason: str) -> str:
    return f": {reason}" if reason else ""
