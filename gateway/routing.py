"""Choose the arm for a request. Pure: same plan, key and time, same answer, on every worker."""

from __future__ import annotations

from hashlib import blake2b
from math import inf
from typing import Final

from mlops.contracts.plan import FULL_SHARE_BP, Arm, RoutePlan, Slot
from mlops.contracts.record import Kind


class LivePlan:
    """A plan in force on this process, with what deciding needs precomputed.

    `lease_ends_at_s` is on the process's monotonic clock; infinite where the plan has no lease.
    Immutable by convention (no attribute is assigned after construction): reading it needs no lock.
    """

    __slots__ = ("hasher", "holdback_from", "lease_ends_at_s", "plan")

    def __init__(self, plan: RoutePlan, lease_ends_at_s: float = inf) -> None:
        self.plan: Final = plan
        self.lease_ends_at_s: Final = lease_ends_at_s
        self.hasher: Final = blake2b(digest_size=8, key=plan.salt.encode())
        self.holdback_from: Final = FULL_SHARE_BP - plan.holdback_share_bp

    def bucket_of(self, key: bytes) -> int:
        """`mlops.contracts.plan.bucket_of`, with the salt already hashed."""
        hasher = self.hasher.copy()
        hasher.update(key)
        return int.from_bytes(hasher.digest(), "big") % FULL_SHARE_BP

    def is_lapsed(self, now_s: float) -> bool:
        return now_s >= self.lease_ends_at_s

    def share_in_force_bp(self, now_s: float) -> int:
        """What goes away from stable: canary's share plus holdback's; 0 after the lease."""
        if self.is_lapsed(now_s):
            return 0
        return self.plan.canary_share_bp + self.plan.holdback_share_bp


class RouteDecision:
    """Where one request goes, and why. `slot` is the one that serves `arm`."""

    __slots__ = ("arm", "bucket", "kind", "share_bp", "slot")

    def __init__(self, arm: Arm, slot: Slot, bucket: int, share_bp: int, kind: Kind) -> None:
        self.arm = arm
        self.slot = slot
        self.bucket = bucket
        self.share_bp = share_bp
        self.kind = kind


def decide(
    live: LivePlan, key: bytes, now_s: float, *, override: bool | None = None
) -> RouteDecision:
    """Choose the arm.

    `override` is what the request itself asked for where the route allows it: True always the
    canary, False never, None nothing. A lapsed lease wins over everything; so does an empty slot.
    """
    plan = live.plan
    hasher = live.hasher.copy()  # as `bucket_of`, without the call
    hasher.update(key)
    bucket = int.from_bytes(hasher.digest(), "big") % FULL_SHARE_BP
    if now_s >= live.lease_ends_at_s:
        return RouteDecision(Arm.STABLE, plan.stable, bucket, 0, Kind.SERVED)
    share_bp = plan.canary_share_bp + plan.holdback_share_bp
    if override is not None:
        if override and plan.canary is not None:
            return RouteDecision(Arm.CANARY, plan.canary, bucket, share_bp, Kind.OVERRIDE)
        return RouteDecision(Arm.STABLE, plan.stable, bucket, share_bp, Kind.OVERRIDE)
    if bucket < plan.canary_share_bp and plan.canary is not None:
        return RouteDecision(Arm.CANARY, plan.canary, bucket, share_bp, Kind.SERVED)
    if bucket >= live.holdback_from and plan.previous is not None:
        return RouteDecision(Arm.HOLDBACK, plan.previous, bucket, share_bp, Kind.SERVED)
    return RouteDecision(Arm.STABLE, plan.stable, bucket, share_bp, Kind.SERVED)
