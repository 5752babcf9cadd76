"""Which slot of a plan a rollback returns to. Pure, and light: a rollback waits for its import."""

from __future__ import annotations

from enum import StrEnum

from mlops.contracts.plan import RoutePlan
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
