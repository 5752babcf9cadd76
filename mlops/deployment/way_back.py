"""Which slot of a plan a rollback returns to. Pure, and light: a rollback waits for its import."""

from __future__ import annotations

from enum import StrEnum

from mlops.contracts.plan import NothingToRestore, RoutePlan, rolled_back
from mlops.deployment.errors import NotDeployable


class WayBack(StrEnum):
    """As the gateway's admin API names it."""

    STABLE = ""
    """Take the canary away; where there is none, undo the promotion."""
    PREVIOUS = "previous"
    """Undo the promotion."""


def way_back(plan: RoutePlan, version: str) -> WayBack | None:
    """How a route gets back to a version; None: it serves everybody already.

    Raises:
        NotDeployable: the gateway does not keep that version.
    """
    if plan.stable.version == version:
        return WayBack.STABLE if plan.canary is not None else None
    if plan.previous is not None and plan.previous.version == version:
        return WayBack.PREVIOUS
    kept = plan.previous.version if plan.previous else "none"
    raise NotDeployable(
        f"route {plan.route!r} keeps {kept} to return to, not {version}; to bring {version} back, "
        "release it"
    )


def gone_back(plan: RoutePlan, way: WayBack) -> RoutePlan:
    """What a rollback would make of a gateway's plan; the plan itself where nothing changes.

    A held plan without a canary is taken for one that was rolled back already: only the gateway
    knows how its plan came to be.

    Raises:
        NotDeployable: there is no previous version to restore.
    """
    if way is WayBack.STABLE and plan.canary is None and (plan.hold or plan.previous is None):
        return plan
    try:
        return rolled_back(
            plan,
            generation=plan.generation + 1,
            set_by=plan.set_by,
            reason=plan.reason,
            hold=True,
            to_previous=way is WayBack.PREVIOUS or plan.canary is None,
        )
    except NothingToRestore as error:
        raise NotDeployable(str(error)) from error
