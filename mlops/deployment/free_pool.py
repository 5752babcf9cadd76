"""Which pool of managed model servers may load another version. Pure.

A gateway knows a version by the addresses of its servers. Servers that load another one give that
to everybody whom the gateway sends to the old one, at once and without a release.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlops.contracts.plan import RoutePlan, Slot


def slots_in_use(plan: RoutePlan, releasing: str) -> list[Slot]:
    """Those whose servers answer for this route now.

    `releasing` is the route that a release is to begin on. There a canary or a holdback under a
    lease is what is left of a release that has just ended: the agent is taking it away.
    """
    is_left_over = plan.route == releasing and plan.lease_s is not None
    found = [plan.stable]
    if plan.canary is not None and not is_left_over:
        may_be_shared_out = plan.route != releasing  # by its own release, at any moment
        if may_be_shared_out or plan.canary_share_bp or plan.mirror_share_bp:
            found.append(plan.canary)
    if plan.previous is not None and plan.holdback_share_bp and not is_left_over:
        found.append(plan.previous)
    return found


def why_taken(pool: Sequence[str], plans: Iterable[RoutePlan], releasing: str) -> str:
    """What the servers of a pool are needed for; empty: nothing, it is free.

    `plans` are all those of all gateways: one that was away may still send its users where the
    others do not any more.
    """
    for plan in plans:
        for slot in slots_in_use(plan, releasing):
            shared = sorted(set(pool).intersection(slot.endpoints))
            if shared:
                return f"route {plan.route!r} sends requests for {slot.version} to {shared[0]}"
    return ""
