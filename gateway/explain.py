"""Which arm a key gets under a plan, and why: what the request path decides, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.keys import is_kept_off, wish_of
from gateway.lanes import RouteState
from gateway.plans import StoredPlan, seed_plan
from gateway.routing import LivePlan, assign
from gateway.settings import RouteSettings
from mlops.contracts.plan import FULL_SHARE_BP, RoutePlan, with_weight


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where one key goes on one route."""

    route: str
    key: str
    bucket: int
    """0 to 9,999."""
    arm: str
    version: str
    endpoints: tuple[str, ...]
    kind: str
    """`served`, or `override` where the draw did not decide; such requests are not judged."""
    why: str
    canary_below: int
    """The canary takes the buckets below this."""
    holdback_from: int
    """The holdback takes the buckets from this on; stable has those between."""
    plan: str
    """Where the plan is from: `stored`, `file` or `weights`."""
    generation: int
    salt: str
    lease_s: float | None
    """The lease that the plan was published with; what is explained holds while it runs."""


def plan_of(
    route: RouteSettings, stored: StoredPlan | None, canary_share_bp: int | None
) -> tuple[RoutePlan, str]:
    """The plan that a gateway with this file and state would serve, and where it is from.

    `canary_share_bp` asks what other weights, set by hand, would do.

    Raises:
        ValueError: these weights could not be set.
    """
    plan, origin = (seed_plan(route), "file") if stored is None else (stored.plan, "stored")
    if canary_share_bp is None:
        share_bp = min(plan.canary_share_bp, route.max_canary_share_bp)
        return msgspec.structs.replace(plan, canary_share_bp=share_bp), origin
    if canary_share_bp > route.max_canary_share_bp:
        raise ValueError(
            f"{canary_share_bp / 100:g} % for the canary is above max_canary, "
            f"{route.max_canary_share_bp / 100:g} %"
        )
    weighted = with_weight(
        msgspec.structs.replace(plan, holdback_share_bp=0),
        generation=plan.generation,
        canary_share_bp=canary_share_bp,
        set_by=plan.set_by,
        reason=plan.reason,
        hold=plan.hold,
    )
    return weighted, "weights"


def explain(
    route: RouteSettings, plan: RoutePlan, origin: str, key: str, headers: Mapping[str, str]
) -> Explanation:
    """Decide as a worker would, for a request with this key and these headers."""
    live = LivePlan(plan)
    state = RouteState(route, says_served_by=False)
    values = {name.lower().encode(): value.encode() for name, value in headers.items()}
    encoded = key.encode()
    wish = wish_of(values, encoded, state)
    bucket = live.bucket_of(encoded)
    way = assign(live, bucket, 0.0, override=wish)
    if is_kept_off(values, encoded, state):
        why = "never_canary keeps it off the canary"
    elif wish is not None:
        why = f"the request asks for it (x-canary: {'always' if wish else 'never'})"
    else:
        why = _drawn(live, bucket)
    return Explanation(
        route=route.name,
        key=key,
        bucket=bucket,
        arm=way.arm.value,
        version=way.slot.version,
        endpoints=way.slot.endpoints,
        kind=way.kind.value,
        why=why,
        canary_below=live.canary_below,
        holdback_from=live.holdback_from,
        plan=origin,
        generation=plan.generation,
        salt=plan.salt,
        lease_s=plan.lease_s,
    )


def _drawn(live: LivePlan, bucket: int) -> str:
    if bucket < live.canary_below:
        return f"bucket {bucket} is below {live.canary_below}, the canary's share"
    if bucket >= live.holdback_from:
        return f"bucket {bucket} is {live.holdback_from} or above, the holdback's share"
    upper = "" if live.holdback_from == FULL_SHARE_BP else f" and below {live.holdback_from}"
    return f"bucket {bucket} is not below {live.canary_below}{upper}: stable's"
