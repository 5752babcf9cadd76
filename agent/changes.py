"""Each change of a release, as the writes that make it: what is remembered, then what is published.

The rules in `stepper` choose among these. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as amended

from msgspec.structs import replace

from agent.policy import Policy
from agent.release import (
    Asked,
    Change,
    Paused,
    PauseKind,
    Phase,
    Picture,
    Publish,
    Release,
    Remember,
    Stage,
    Write,
    candidate_share_bp,
    stage_of,
    stages,
)
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.plan import RoutePlan, promoted, rolled_back


def begin(release: Release, policy: Policy, picture: Picture) -> tuple[Write, ...]:
    """The first plan: the canary enters its slot with the first weight."""
    live = picture.newest
    assert live is not None, "rules stop a cycle in which no gateway answers"
    if live.stable.version == release.candidate.version:
        return end(
            release, picture, Phase.ABORTED, AGENT_ACTOR, f"{live.stable.version} is stable now"
        )
    keeps = live.previous is not None and set(release.candidate.endpoints).isdisjoint(
        live.previous.endpoints
    )
    stage = stages(policy)[0]
    plan = replace(
        live,
        generation=next_generation(release, picture),
        salt=release.id,
        canary=release.candidate,
        canary_share_bp=stage.share_bp,
        mirror_share_bp=stage.mirror_share_bp or None,
        previous=live.previous if keeps else None,
        holdback_share_bp=0,
        lease_s=policy.lease_s,
        hold=False,
        set_by=AGENT_ACTOR,
        reason=release.reason,
    )
    why = _where(stage, release.candidate.version)
    change = Change(kind="release.step", actor=AGENT_ACTOR, reason=why)
    begun = replace(release, base=live.stable, before_base=live.previous)
    return _publish(release, begun, picture, plan, change)


def advance(
    release: Release, policy: Policy, picture: Picture, asked: Asked | None = None
) -> tuple[Write, ...]:
    """The next weight; after the last one promotion; after bake the end."""
    actor = asked.by if asked else AGENT_ACTOR
    because = (asked.reason or f"{asked.by} said promote") if asked else reasons(picture)
    if release.phase is Phase.BAKING:
        return _settle(release, picture, actor, because)
    if release.stage + 1 == len(stages(policy)):
        return _promote(release, policy, picture, actor, because)
    stage = stages(policy)[release.stage + 1]
    plan = replace(
        _plan(release),
        generation=next_generation(release, picture),
        canary_share_bp=stage.share_bp,
        mirror_share_bp=stage.mirror_share_bp or None,
        set_by=actor,
        reason=because,
    )
    change = Change(kind="release.step", actor=actor, reason=because)
    after = replace(release, stage=release.stage + 1, asked=None, paused=None)
    return _publish(release, after, picture, plan, change)


def _promote(
    release: Release, policy: Policy, picture: Picture, actor: str, because: str
) -> tuple[Write, ...]:
    bakes = policy.bake_s > 0
    plan = promoted(
        _plan(release),
        generation=next_generation(release, picture),
        holdback_share_bp=policy.holdback_share_bp if bakes else 0,
        lease_s=policy.lease_s,
        set_by=actor,
        reason=because,
    )
    after = replace(
        release,
        phase=Phase.BAKING if bakes else Phase.SETTLED,
        promoted_at_s=picture.now_s,
        ended_at_s=None if bakes else picture.now_s,
        invalid_since_s=None,
        asked=None,
        paused=None,
    )
    change = Change(kind="release.promoted", actor=actor, reason=because)
    return _publish(release, after, picture, plan, change)


def _settle(release: Release, picture: Picture, actor: str, because: str) -> tuple[Write, ...]:
    why = f"bake is over: {because}"
    plan = replace(
        _plan(release),
        generation=next_generation(release, picture),
        holdback_share_bp=0,
        lease_s=None,
        set_by=actor,
        reason=why,
    )
    after = replace(release, phase=Phase.SETTLED, ended_at_s=picture.now_s, asked=None, paused=None)
    change = Change(kind="release.settled", actor=actor, reason=why)
    return _publish(release, after, picture, plan, change)


def withdraw(
    release: Release, picture: Picture, phase: Phase, actor: str, why: str
) -> tuple[Write, ...]:
    """Everything to the version that was stable before the release."""
    if release.plan is None:
        return end(release, picture, phase, actor, why)
    plan = rolled_back(
        release.plan,
        generation=next_generation(release, picture),
        set_by=actor,
        reason=why,
        hold=False,
        to_previous=release.phase is Phase.BAKING,
    )
    after = replace(release, phase=phase, ended_at_s=picture.now_s, paused=None, asked=None)
    change = Change(kind=f"release.{phase.value}", actor=actor, reason=why)
    return _publish(release, after, picture, plan, change)


def return_to_weight(release: Release, picture: Picture) -> tuple[Write, ...]:
    """Under a new generation, so that no row before and after the gap is counted together."""
    why = "evidence is back"
    plan = replace(
        _plan(release), generation=next_generation(release, picture), set_by=AGENT_ACTOR, reason=why
    )
    change = Change(kind="release.returned", actor=AGENT_ACTOR, reason=why)
    return _publish(release, release, picture, plan, change)


def resume(release: Release, policy: Policy, picture: Picture, asked: Asked) -> tuple[Write, ...]:
    """A person lets go of a pause: go on at the step's weight, under a new generation.

    A release that has not begun yet does so by its own rules: gates and freeze windows hold it.
    """
    seen = {gateway: plan.generation for gateway, plan in picture.answering}
    freed = replace(release, paused=None, asked=None, lifted=release.lifted | seen)
    why = asked.reason or f"{asked.by} said resume"
    change = Change(kind="release.resumed", actor=asked.by, reason=why)
    keeps_plan = release.paused is not None and release.paused.kind is PauseKind.PERSON
    if freed.plan is None or keeps_plan:
        return remember(release, freed, change)
    is_baking = release.phase is Phase.BAKING
    stage = stage_of(release, policy)
    # One that was found running never passed the route's cap.
    share_bp = min(stage.share_bp, picture.max_share_bp)
    plan = replace(
        freed.plan,
        generation=next_generation(release, picture),
        canary_share_bp=0 if is_baking else share_bp,
        mirror_share_bp=None if is_baking else stage.mirror_share_bp or None,
        lease_s=policy.lease_s,
        set_by=asked.by,
        reason=why,
    )
    return _publish(release, freed, picture, plan, change)


def leave_to_a_person(release: Release, picture: Picture) -> tuple[Write, ...]:
    """REGRESSED where the policy does not roll back: keep the weight until a person has decided.

    A command given before this was known does not count any more.
    """
    why = (
        f"regressed, and the policy leaves the rollback to a person: {reasons(picture)}; "
        "`promote` goes on anyway"
    )
    paused = Paused(kind=PauseKind.PERSON, by=AGENT_ACTOR, why=why, since_s=picture.now_s)
    change = Change(kind="release.paused", actor=AGENT_ACTOR, reason=why)
    return remember(release, replace(release, paused=paused, asked=None), change)


def give_way(
    release: Release, picture: Picture, live: RoutePlan, by: str, why: str
) -> tuple[Write, ...]:
    """Adopt somebody else's plan: a command given before it does not count any more."""
    paused = Paused(
        kind=PauseKind.HAND, by=by, why=why, since_s=picture.now_s, generation=live.generation
    )
    change = Change(kind="release.paused", actor=by, reason=why)
    return remember(release, replace(release, paused=paused, asked=None), change)


def refused(release: Release, behind: tuple[str, ...]) -> tuple[Write, ...]:
    """Tell once that gateways answer and do not take the plan: nothing goes on without them."""
    generation = _plan(release).generation
    why = (
        f"{', '.join(behind)}: generation {generation} was not taken for a whole lease; "
        "until it is, everything goes to stable"
    )
    change = Change(kind="release.held", actor=AGENT_ACTOR, reason=why)
    return remember(release, replace(release, held_generation=generation), change)


def redate(release: Release, picture: Picture, ahead: Mapping[str, float]) -> tuple[Write, ...]:
    """Take now for each moment that a clock ahead of ours has noted, by the field's name."""
    by_s = max(ahead.values()) - picture.now_s
    why = f"a clock was {by_s:.0f} s ahead of this agent's: what it dated counts from now"
    change = Change(kind="release.redated", actor=AGENT_ACTOR, reason=why)
    return remember(release, replace(release, **dict.fromkeys(ahead, picture.now_s)), change)


def end(
    release: Release, picture: Picture, phase: Phase, actor: str, why: str
) -> tuple[Write, ...]:
    """End without publishing: what is live is somebody else's, and stays."""
    after = replace(
        release,
        phase=phase,
        plan=None,
        paused=None,
        asked=None,
        ended_at_s=picture.now_s,
        generation_floor=next_generation(release, picture) - 1,
    )
    change = Change(kind=f"release.{phase.value}", actor=actor, reason=why)
    return remember(release, after, change, live=picture.newest)


def next_generation(release: Release, picture: Picture) -> int:
    """One more than the greatest remembered or seen."""
    plans = [plan for _, plan in picture.answering]
    if release.plan is not None:
        plans.append(release.plan)
    return 1 + max([release.generation_floor, *(plan.generation for plan in plans)])


def reasons(picture: Picture) -> str:
    """The judge's reasons as one line."""
    found = picture.judgement.reasons if picture.judgement else ()
    return "; ".join(found) or "no evidence"


def remember(
    before: Release, after: Release, change: Change, *, live: RoutePlan | None = None
) -> tuple[Write, ...]:
    """One journal entry with both shares, and the endpoints that have lost their slot."""
    final = after.plan or live
    detail = change.detail | {"version": before.candidate.version}
    if final is not None:
        detail["generation"] = final.generation
    if after.phase.is_ended and final is not None:
        slots = (final.stable, final.canary, final.previous)
        used = {endpoint for slot in slots if slot for endpoint in slot.endpoints}
        known = [slot for slot in (before.before_base, before.base, before.candidate) if slot]
        once = dict.fromkeys(endpoint for slot in known for endpoint in slot.endpoints)
        detail["endpoints_in_no_slot"] = [one for one in once if one not in used]
    noted = amended(
        change,
        from_share_bp=candidate_share_bp(before, before.plan),
        to_share_bp=candidate_share_bp(after, final),
        detail=detail,
    )
    return (Remember(replace(after, why=change.reason), noted),)


def _publish(
    before: Release, after: Release, picture: Picture, plan: RoutePlan, change: Change
) -> tuple[Write, ...]:
    """Remember, then publish to everyone who answers.

    A command stays noted unless `after` is what it asked for, or the end: it was answered with 202.
    """
    share_bp = plan.holdback_share_bp if after.phase is Phase.BAKING else plan.canary_share_bp
    earlier = after.shares if after.phase is before.phase else {}
    intent = replace(
        after,
        plan=plan,
        shares=earlier | ({plan.generation: share_bp} if share_bp else {}),
        in_force_since_s=None,
        lapsed_since_s=None,
    )
    gateways = tuple(gateway for gateway, _ in picture.answering)
    return (*remember(before, intent, change), Publish(plan, gateways))


def _where(stage: Stage, version: str) -> str:
    if stage.mirror_share_bp:
        return f"{stage.mirror_share_bp / 100:g} % copied to {version}"
    return f"{stage.share_bp / 100:g} % to {version}"


def _plan(release: Release) -> RoutePlan:
    assert release.plan is not None, "rules begin a release without a plan before anything else"
    return release.plan
