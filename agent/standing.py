"""Where a release stands: how old its evidence is, and what still keeps it from advancing. Pure."""

from __future__ import annotations

from agent import gates
from agent.changes import reasons
from agent.judge import Verdict
from agent.moments import span
from agent.policy import Policy
from agent.release import Phase, Picture, Release, Sight, stage_of

FRESH_S = 15.0
"""Evidence older than this is no evidence: three default blocks."""

AHEAD_S = 5.0
"""A log further ahead than this of our own clock has another clock: its age cannot be told."""


def missing(release: Release, policy: Policy, picture: Picture) -> str:
    """What still keeps the release from advancing, as a phrase; empty if nothing does."""
    if release.paused is None and (picture.frozen or release.plan is None):
        return gates.held_by(release, policy, picture)
    return unproved(release, policy, picture) or gates.held_by(release, policy, picture)


def unproved(release: Release, policy: Policy, picture: Picture) -> str:
    """What is missing but the team's own rules: time, evidence, a verdict, a person."""
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
        return f"{span(left_s)} of bake left"
    if judgement is None or judgement.verdict is Verdict.INVALID:
        return reasons(picture)
    return ""


def _missing_at_weight(release: Release, policy: Policy, picture: Picture) -> str:
    stage = stage_of(release, policy)
    left_s = stage.duration_s - observed_s(release, picture)
    judgement = picture.judgement
    if stage.waits:
        return "waits for a person's promote"
    if left_s > 0:
        return f"{span(left_s)} of this weight left"
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
    return f"no evidence for {span(age_s)}"


def observed_s(release: Release, picture: Picture) -> float:
    """How long the plan has been in force and watched. Time without evidence does not count.

    A lapse starts this again, also in bake: the return to the weight is another plan.
    """
    since_s = release.in_force_since_s
    if since_s is None:
        return 0.0
    return max(0.0, min(picture.now_s, picture.closed_through_s) - since_s)


def still_served_by(release: Release, picture: Picture) -> tuple[str, ...]:
    """Gateways that give users a version that was taken back.

    A rollback by hand reaches those that were asked. One that was away then still has the plan
    before it, which nobody publishes over: a release that ended by hand intends nothing more.
    """
    is_taken_back = release.phase in {Phase.ROLLED_BACK, Phase.ABORTED}
    if not is_taken_back or picture.now_s <= (release.ended_at_s or 0.0):
        return ()  # what the cycle saw that ended it is no more
    return tuple(one.gateway for one in picture.sights if _serves(one, release.candidate.version))


def _serves(sight: Sight, version: str) -> bool:
    plan = sight.plan
    if plan is None:
        return False
    if plan.stable.version == version:
        return True
    is_canary = plan.canary is not None and plan.canary.version == version
    return is_canary and plan.canary_share_bp > 0 and sight.lease_remaining_s != 0


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
