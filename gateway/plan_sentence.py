"""Where a route's traffic goes and why, in one sentence. Pure."""

from __future__ import annotations

from math import inf

from gateway.routing import LivePlan


def where_and_why(live: LivePlan, now_s: float, *, is_unpublished: bool) -> str:
    """One sentence: where traffic goes and why."""
    plan = live.plan
    to_stable = f"everything to stable {plan.stable.version}"
    if is_unpublished:
        return f"{to_stable} of the file: the route is managed and no plan was published yet"
    if live.is_lapsed(now_s):
        return f"{to_stable}: {_why_lapsed(live, now_s)}"
    parts = [
        f"{share_bp / 100:g} % to {name} {slot.version}"
        for name, share_bp, slot in (
            ("canary", plan.canary_share_bp, plan.canary),
            ("holdback", plan.holdback_share_bp, plan.previous),
        )
        if slot is not None and share_bp
    ]
    where = to_stable
    if parts:
        where = f"{', '.join(parts)}, the rest to stable {plan.stable.version}"
    by = f", set by {plan.set_by}" if plan.set_by else ""
    reason = f" ({plan.reason})" if plan.reason else ""
    until = ""
    if live.lease_ends_at_s < inf:
        until = f"; the lease ends in {live.lease_ends_at_s - now_s:.1f} s unless renewed"
    return f"{where}: generation {plan.generation}{by}{reason}{until}"


def _why_lapsed(live: LivePlan, now_s: float) -> str:
    generation = live.plan.generation
    if live.lease_ends_at_s == -inf:
        return (
            f"generation {generation} was restored from disk and its lease has not been renewed "
            "since the gateway started"
        )
    ago_s = now_s - live.lease_ends_at_s
    return f"the lease of generation {generation} ended {ago_s:.1f} s ago and was not renewed"
