"""A managed route serves only once it has a plan, also where no release brings it one. Pure.

Such a gateway waits at generation 0. It gets what the other gateways have, or, where none has one,
the stable of its own file as generation 1: nothing moves, so nothing needs to be remembered.
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.foreign import foreign_plan
from agent.release import Picture, Publish, Release, Sight
from mlops.contracts.api import AGENT_ACTOR

FIRST_GENERATION = 1


def converges(release: Release, sights: tuple[Sight, ...]) -> bool:
    """Whether the route's newest release brings its own plan to a gateway that joins."""
    if release.plan is None:
        return False
    return foreign_plan(release, Picture(now_s=0.0, sights=sights)) is None


def first_plan(sights: tuple[Sight, ...]) -> Publish | None:
    """What brings a plan to every gateway that waits for its first; None if none waits."""
    live = [(one.gateway, one.plan) for one in sights if one.plan is not None]
    waiting = tuple(gateway for gateway, plan in live if plan.generation == 0)
    if not waiting:
        return None
    newest = max((plan for _, plan in live), key=lambda plan: plan.generation)
    if newest.generation == 0:
        reason = "the route is managed and has no release: the file's stable serves"
        newest = replace(
            newest,
            generation=FIRST_GENERATION,
            canary_share_bp=0,
            holdback_share_bp=0,
            lease_s=None,
            set_by=AGENT_ACTOR,
            reason=reason,
        )
    return Publish(newest, waiting)
