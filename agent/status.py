"""A release as the API shows it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from agent.judge import CheckResult, Judgement
from agent.moments import iso
from agent.policy import Policy
from agent.release import Cycle, Paused, Phase, Release, candidate_share_bp, stages
from agent.standing import age, is_fresh, missing, still_served_by
from agent.summary import Seen, summary
from agent.verbs import possible
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.release import CheckStatus, PauseStatus, ReleaseStatus

PAUSED = "paused"


def status_of(release: Release, policy: Policy, cycle: Cycle | None, now_s: float) -> ReleaseStatus:
    """`cycle` is None on an agent that does not lead, and before the first cycle."""
    judgement = cycle.judgement if cycle else None
    checks = checks_of(judgement)
    needed = [one.still_needed for one in checks.values() if one.still_needed is not None]
    pause = None if release.phase.is_ended else _pause(release, policy)
    plan = release.plan
    ended_s = release.ended_at_s
    status = ReleaseStatus(
        id=release.id,
        route=release.route,
        version=release.candidate.version,
        stable=release.base.version if release.base else "",
        phase=PAUSED if pause else release.phase.value,
        step=release.stage + 1,
        steps=len(stages(policy)),
        weight=candidate_share_bp(release, plan) / 100,
        generation=plan.generation if plan else 0,
        reason=release.reason,
        verdict=judgement.verdict.value if judgement else "undecided",
        reasons=_reasons(release, policy, cycle, judgement, pause),
        sentence=cycle.sentence if cycle else "",
        checks=checks,
        canary_requests=max(release.canary_requests, cycle.canary_requests if cycle else 0),
        still_needed=max(needed, default=None),
        started_by=release.started_by,
        started_at=iso(release.started_at_s),
        ended_at=iso(ended_s) if ended_s is not None else None,
        duration_s=round((ended_s if ended_s is not None else now_s) - release.started_at_s, 3),
        lease_s=plan.lease_s if plan else None,
        pause=pause,
        converged=_converged(release, cycle),
        unreachable=_unreachable(cycle),
        still_served_by=still_served_by(release, cycle.picture) if cycle else (),
        asked=release.asked.verb.value if release.asked else "",
        verbs=tuple(verb.value for verb in possible(release)),
    )
    return replace(status, summary=summary(status, policy, _seen(release, policy, cycle)))


def _seen(release: Release, policy: Policy, cycle: Cycle | None) -> Seen:
    if cycle is None or release.phase.is_ended:
        return Seen()
    return Seen(
        judged=cycle.judgement.reasons if cycle.judgement else (),
        missing=missing(release, policy, cycle.picture),
        stale="" if is_fresh(cycle.picture) else age(cycle.picture),
    )


def checks_of(judgement: Judgement | None) -> dict[str, CheckStatus]:
    """By name, as the API shows them."""
    return {name: _check(one) for name, one in judgement.checks.items()} if judgement else {}


def _check(one: CheckResult) -> CheckStatus:
    return CheckStatus(
        candidate_count=one.candidate_count,
        control_count=one.control_count,
        candidate_value=one.candidate_value,
        control_value=one.control_value,
        effect=one.effect,
        interval=one.bounds,
        quantile=one.quantile,
        e_value=one.e_value,
        noninferiority_e_value=one.noninferiority_e_value,
        still_needed=one.still_needed,
    )


def _pause(release: Release, policy: Policy) -> PauseStatus | None:
    if release.paused is not None:
        return _paused(release.paused)
    if release.lapsed_since_s is not None:
        return PauseStatus(
            kind="evidence",
            by=AGENT_ACTOR,
            why="the lease ended; it returns by itself once evidence is back",
            since=iso(release.lapsed_since_s),
        )
    since_s = release.in_force_since_s
    is_waiting = release.phase is Phase.PROGRESSING and stages(policy)[release.stage].waits
    if since_s is not None and is_waiting:
        why = "this step waits for a person's promote"
        return PauseStatus(kind="step", by="policy", why=why, since=iso(since_s))
    return None


def _paused(paused: Paused) -> PauseStatus:
    return PauseStatus(
        kind=paused.kind.value, by=paused.by, why=paused.why, since=iso(paused.since_s)
    )


def _reasons(
    release: Release,
    policy: Policy,
    cycle: Cycle | None,
    judgement: Judgement | None,
    pause: PauseStatus | None,
) -> tuple[str, ...]:
    if release.phase.is_ended:
        return (release.why,)
    judged = judgement.reasons if judgement else ()
    is_stale = cycle is not None and not is_fresh(cycle.picture)
    if pause is not None:
        old = (age(cycle.picture),) if cycle is not None and is_stale else ()
        return (f"{PAUSED} by {pause.by}: {pause.why}", *old, *judged)
    if cycle is not None and (not judged or is_stale):
        return (missing(release, policy, cycle.picture), *judged)
    return judged


def _converged(release: Release, cycle: Cycle | None) -> bool:
    if cycle is None or release.plan is None:
        return False
    live = [plan.generation for _, plan in cycle.picture.answering]
    return bool(live) and all(generation == release.plan.generation for generation in live)


def _unreachable(cycle: Cycle | None) -> tuple[str, ...]:
    if cycle is None:
        return ()
    return tuple(sight.gateway for sight in cycle.picture.sights if sight.plan is None)
