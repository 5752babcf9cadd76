"""What a person may ask of a release, and what a release must be to begin. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from agent.changes import next_generation
from agent.release import (
    Asked,
    Change,
    Paused,
    PauseKind,
    Phase,
    Picture,
    Release,
    Remember,
    Verb,
    candidate_share_bp,
)
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.plan import RoutePlan, with_weight


class Conflict(ValueError):
    """Not now: the release is in a state in which this makes no sense. Says what to do instead."""


def ask(release: Release, verb: Verb, by: str, reason: str, now_s: float) -> Remember:
    """The release with the command noted; the next cycle carries it out.

    Raises:
        Conflict: it makes no sense now.
    """
    problem = _problem(release, verb)
    if problem:
        raise Conflict(f"release {release.id}: {problem}")
    share_bp = candidate_share_bp(release, release.plan)
    change = Change(
        kind="release.paused" if verb is Verb.PAUSE else f"asked.{verb.value}",
        actor=by,
        reason=reason,
        from_share_bp=share_bp,
        to_share_bp=share_bp,
    )
    if verb is Verb.PAUSE:
        paused = Paused(kind=PauseKind.PERSON, by=by, why=reason or "asked for", since_s=now_s)
        return Remember(replace(release, paused=paused, asked=None), change)
    return Remember(replace(release, asked=Asked(verb=verb, by=by, reason=reason)), change)


def possible(release: Release) -> tuple[Verb, ...]:
    """What a person may ask of it now."""
    if release.phase.is_ended:
        return () if release.phase is Phase.SETTLED else (Verb.RETRY,)
    running = (Verb.PAUSE, Verb.RESUME, Verb.PROMOTE, Verb.ABORT)
    return tuple(verb for verb in running if not _problem(release, verb))


def _problem(release: Release, verb: Verb) -> str:  # noqa: PLR0911  a table of answers
    if release.phase.is_ended:
        return f"it has ended ({release.phase.value}); `retry` starts it again"
    asked = release.asked
    takes_back = verb is Verb.PAUSE and asked is not None and asked.verb is Verb.PROMOTE
    if asked is not None and verb is not Verb.ABORT and not takes_back:
        return f"{asked.verb.value} by {asked.by} is being carried out"
    paused = release.paused
    match verb:
        case Verb.PAUSE if paused is not None:
            return f"it is paused already by {paused.by}: {paused.why}"
        case Verb.RESUME if paused is None and release.lapsed_since_s is not None:
            return "its lease ended; it returns to its weight by itself once evidence is back"
        case Verb.RESUME if paused is None:
            return "it is not paused; `promote` ends a step that waits for a person"
        case Verb.PROMOTE:
            return _against_promote(release)
        case Verb.ABORT if release.phase is Phase.BAKING:
            return (
                f"{release.candidate.version} is promoted already; to bring "
                f"{release.base.version if release.base else 'the old version'} back, roll back"
            )
        case _:
            return ""


def _against_promote(release: Release) -> str:
    """It passes over a verdict, also one for which the release waits; not over another pause."""
    paused = release.paused
    if paused is not None and not paused.is_verdict:
        return f"it is paused by {paused.by}; `resume` it first"
    if release.lapsed_since_s is not None:
        return "its lease ended and there is no evidence; it returns by itself"
    waits = paused is not None or release.invalid_since_s is not None
    if release.phase is Phase.BAKING and not waits:
        return f"{release.candidate.version} is promoted already; its bake ends by itself"
    return ""


def retried(release: Release, *, new_id: str, by: str, reason: str, now_s: float) -> Release:
    """The same candidate and policy as a new release: new users, new evidence.

    Raises:
        Conflict: it has not ended, or has settled.
    """
    if not release.phase.is_ended:
        raise Conflict(f"release {release.id}: it is still {release.phase.value}")
    if release.phase is Phase.SETTLED:
        raise Conflict(f"release {release.id}: {release.candidate.version} is stable already")
    return Release(
        id=new_id,
        route=release.route,
        candidate=release.candidate,
        policy=release.policy,
        reason=reason or f"retry of {release.id}: {release.reason}",
        started_by=by,
        started_at_s=now_s,
    )


def found_running(
    picture: Picture, policy: dict[str, object], generation_floor: int
) -> Remember | None:
    """What an agent does with a leased plan that it does not remember.

    It adopts the live stable, takes the canary or the holdback to 0 and asks for a person. Plans
    of people and of the gateway's file are not an agent's, and are left alone.
    """
    live = picture.newest
    if live is None or live.hold or live.lease_s is None or live.set_by == "file":
        return None
    slot = live.canary if live.canary is not None else live.stable
    base = live.stable if live.canary is not None else live.previous
    why = f"generation {live.generation} was found running by an agent that does not remember it"
    release = Release(
        id=live.salt,
        route=live.route,
        candidate=slot,
        policy=policy,
        reason=why,
        started_by=live.set_by or "somebody",
        started_at_s=picture.now_s,
        base=base,
        generation_floor=generation_floor,
    )
    plan = _without_shares(live, next_generation(release, picture), why)
    after = replace(release, plan=plan, why=why)
    if live.canary is None:
        after = replace(after, phase=Phase.SETTLED, ended_at_s=picture.now_s)
    else:
        since_s = picture.now_s
        paused = Paused(kind=PauseKind.MEMORY, by=AGENT_ACTOR, why=why, since_s=since_s)
        after = replace(after, paused=paused)
    change = Change(
        kind="release.found",
        actor=AGENT_ACTOR,
        reason=why,
        from_share_bp=candidate_share_bp(release, live),
        to_share_bp=candidate_share_bp(release, plan),
    )
    return Remember(after, change)


def _without_shares(live: RoutePlan, generation: int, why: str) -> RoutePlan:
    return with_weight(
        replace(live, holdback_share_bp=0),
        generation=generation,
        canary_share_bp=0,
        set_by=AGENT_ACTOR,
        reason=why,
        hold=False,
    )
