"""Is the new version all right, and what is being done about it? For whoever was just woken up.

One or two sentences, the same in the console, in a terminal and in the API. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.policy import Policy
from agent.release import PauseKind, stages
from mlops.contracts.release import ENDED_PHASES, PauseStatus, ReleaseStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the last cycle saw; empty before the first."""

    judged: tuple[str, ...] = ()
    """The judge's reasons."""
    missing: str = ""
    """What keeps it from advancing."""
    stale: str = ""
    """How old the evidence is, where it is too old."""


def summary(status: ReleaseStatus, policy: Policy, seen: Seen) -> str:
    """`status` without its summary; the policy says what is done of a regression."""
    if status.phase in ENDED_PHASES:
        return _ended(status)
    said = [_found(status, seen), _done(status, policy, seen)]
    if status.asked:
        said.append(f"Asked for: {status.asked}, carried out next.")
    return " ".join(said)


def _ended(status: ReleaseStatus) -> str:
    if status.phase == "settled":
        return f"{status.version} is promoted for good: everybody gets it."
    why = "; ".join(status.reasons)
    now = _taken_back(status)
    if status.phase == "aborted":
        return f"The release of {status.version} was ended without blame: {why}. {now}"
    what = f"{status.version} was rolled back"
    return f"{why if why.startswith(what) else f'{what}: {why}'}. {now}"


def _taken_back(status: ReleaseStatus) -> str:
    """What users get now."""
    if status.still_served_by:
        where = ", ".join(status.still_served_by)
        return (
            f"NOT everybody gets {status.stable}: {where} still serves {status.version}; "
            f"`rag-mlops rollback {status.route}` takes it back there."
        )
    if not status.stable:
        return "Nobody ever got it."
    return f"Everybody gets {status.stable}."


def _found(status: ReleaseStatus, seen: Seen) -> str:
    """Is it all right?"""
    version, why = status.version, "; ".join(seen.judged)
    if not status.generation:
        return f"{version} gets no requests yet."
    if seen.stale:
        return f"Not known now whether {version} is all right: {seen.stale}."
    match status.verdict:
        case "healthy":
            return f"{version} is all right so far: no worse than {status.stable} by its margins."
        case "regressed":
            return f"{version} is worse than {status.stable}: {why}."
        case "invalid":
            return f"Nothing can be said of {version}, the evidence cannot be trusted: {why}."
        case _:
            return _undecided(status)


def _undecided(status: ReleaseStatus) -> str:
    needed = status.still_needed
    more = f" About {needed:,} more requests of it are needed." if needed else ""
    return f"Not known yet whether {status.version} is all right.{more}"


def _done(status: ReleaseStatus, policy: Policy, seen: Seen) -> str:
    """What is being done about it?"""
    missing = "" if seen.missing == seen.stale else seen.missing
    where = f"{status.weight:g} % (step {status.step} of {status.steps})"
    if stages(policy)[status.step - 1].mirror_share_bp:
        where = f"copies of requests, which no user sees (step {status.step} of {status.steps})"
    if status.pause is not None:
        return _paused(status, policy, where)
    if status.verdict == "regressed" and policy.rolls_back:
        return "It is being rolled back."
    if status.phase == "baking":
        still = f"It is promoted, and still watched against {status.stable}"
        return f"{still}: {missing}." if missing else f"{still}."
    if seen.stale or missing == "; ".join(seen.judged):
        return f"It stays at {where} until that is known."
    return f"It stays at {where}: {missing}." if missing else f"It goes on from {where} now."


def _paused(status: ReleaseStatus, policy: Policy, where: str) -> str:
    pause = status.pause
    assert pause is not None, "asked before"
    match pause.kind:
        case "step":
            return f"It stays at {where} until a person says promote."
        case "evidence":
            return f"Everybody gets {status.stable}: {pause.why}."
        case PauseKind.HAND:
            return f"Paused: {pause.why}."
        case PauseKind.MEMORY:
            return f"Paused with nobody on it: {pause.why}."
        case _:
            return _held(pause, policy, where)


def _held(pause: PauseStatus, policy: Policy, where: str) -> str:
    safe = " A regression is rolled back all the same." if policy.rolls_back else ""
    return f"It stays at {where}, paused by {pause.by}: {pause.why}.{safe}"
