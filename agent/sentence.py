"""One English sentence for a cycle: what was done, or what is missing. Pure."""

from __future__ import annotations

from agent import standing
from agent.foreign import foreign_plan
from agent.policy import Policy
from agent.release import Phase, Picture, Publish, Release, Remember, Write, candidate_share_bp


def sentence(release: Release, policy: Policy, picture: Picture, writes: tuple[Write, ...]) -> str:
    """About the release as it was when the cycle began."""
    done = _done(writes)
    if done:
        return f"{_name(release)}: {done}"
    return f"{_name(release)}: {_where(release)}; {_missing(release, policy, picture)}"


def _name(release: Release) -> str:
    return f"{release.route} {release.candidate.version} ({release.id})"


def _done(writes: tuple[Write, ...]) -> str:
    """What the cycle changed; renewals and notes are no news."""
    for write in writes:
        if isinstance(write, Remember) and write.change is not None:
            change = write.change
            kind = change.kind.removeprefix("release.").replace("_", " ")
            shares = f"{change.from_share_bp / 100:g} % -> {change.to_share_bp / 100:g} %"
            return f"{kind}, {shares}: {change.reason}"
        if isinstance(write, Publish):
            return f"converging {', '.join(write.gateways)} to generation {write.plan.generation}"
    return ""


def _where(release: Release) -> str:
    share = candidate_share_bp(release, release.plan) / 100
    match release.phase:
        case Phase.PROGRESSING if release.plan is None:
            return "not begun"
        case Phase.PROGRESSING:
            return f"holding at {share:g} %"
        case Phase.BAKING:
            return "baking"
        case _:
            return f"{release.phase.value} ({release.why})"


def _missing(release: Release, policy: Policy, picture: Picture) -> str:
    if release.phase.is_ended:
        if served_by := standing.still_served_by(release, picture):
            return f"still served by {', '.join(served_by)}"
        live = foreign_plan(release, picture)
        return "nothing to do" if live is None else f"generation {live.generation} is a person's"
    if not picture.answering:
        return "no gateway answers"
    if release.lapsed_since_s is not None:
        return "its lease ended; waiting for a whole block of evidence"
    return standing.missing(release, policy, picture) or "nothing is missing"
