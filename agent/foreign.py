"""Tell somebody else's plan from ours, and what it has decided. Pure."""

from __future__ import annotations

from agent.release import Phase, Picture, Release
from mlops.contracts.plan import RoutePlan


def foreign_plan(release: Release, picture: Picture) -> RoutePlan | None:
    """The newest live plan that this release did not make and that no `resume` let go of.

    Intent is remembered before it is published; so a newer one than remembered is never ours.
    """
    found = None
    for gateway, live in picture.answering:
        if release.lifted.get(gateway) == live.generation:
            continue
        if not live.hold and not _is_newer(live, release.plan):
            continue
        if found is None or live.generation > found.generation:
            found = live
    return found


def decided_by(release: Release, live: RoutePlan) -> tuple[Phase, str] | None:
    """How a foreign plan ends the release; None if the release can still go on."""
    if release.base is None:
        return None
    candidate, base = release.candidate.version, release.base.version
    stable = live.stable.version
    has_candidate = live.canary is not None and live.canary.version == candidate
    found: tuple[Phase, str] | None = None
    if release.phase is Phase.BAKING:
        if stable == base:
            found = Phase.ROLLED_BACK, f"{candidate} was rolled back to {base}"
        elif stable != candidate:
            found = Phase.ABORTED, f"stable was replaced with {stable}"
    elif stable == candidate:
        found = Phase.SETTLED, f"{candidate} was made stable"
    elif stable != base:
        found = Phase.ABORTED, f"stable was replaced with {stable}"
    elif live.canary is None:
        found = Phase.ROLLED_BACK, f"{candidate} was rolled back"
    elif not has_candidate:
        found = Phase.ABORTED, f"the canary was replaced with {live.canary.version}"
    return found


def _is_newer(live: RoutePlan, ours: RoutePlan | None) -> bool:
    if ours is None:
        return False
    if live.generation != ours.generation:
        return live.generation > ours.generation
    return _split(live) != _split(ours)


def _split(plan: RoutePlan) -> tuple[object, ...]:
    return (
        plan.stable.version,
        plan.canary.version if plan.canary else None,
        plan.canary_share_bp,
        plan.previous.version if plan.previous else None,
        plan.holdback_share_bp,
    )
