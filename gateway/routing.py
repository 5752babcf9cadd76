"""Choose the arm for a request. Pure: same plan, key and time, same answer, on every worker."""

from __future__ import annotations

from hashlib import blake2b
from math import inf
from typing import Final

from mlops.contracts.plan import FULL_SHARE_BP, Arm, RoutePlan, Slot
from mlops.contracts.record import Kind

MAX_KNOWN_BUCKETS: Final = 16_384
"""Keys whose bucket is remembered under one plan, at most 4 MB; past it all are forgotten at once.
"""
MAX_KNOWN_KEY_BYTES: Final = 128
"""Of a remembered key. Clients choose their keys, a header of 64 KiB too; longer than any id, they
are hashed every time."""


class Assignment:
    """One way of a plan: where requests go, and why. `slot` is the one that serves `arm`."""

    __slots__ = ("arm", "kind", "share_bp", "slot")

    def __init__(self, arm: Arm, slot: Slot, share_bp: int, kind: Kind) -> None:
        self.arm: Final = arm
        self.slot: Final = slot
        self.share_bp: Final = share_bp
        """In force away from stable: the canary's share plus the holdback's; 0 after the lease."""
        self.kind: Final = kind


class LivePlan:
    """A plan in force on this process, with what deciding needs worked out beforehand.

    `lease_ends_at_s` is on the process's monotonic clock; infinite where the plan has no lease.
    Nothing that is decided ever changes: buckets are only remembered.
    """

    __slots__ = (
        "_buckets",
        "_hasher",
        "canary",
        "canary_below",
        "forced_canary",
        "forced_stable",
        "holdback",
        "holdback_from",
        "lapsed",
        "lease_ends_at_s",
        "plan",
        "stable",
    )

    def __init__(self, plan: RoutePlan, lease_ends_at_s: float = inf) -> None:
        self.plan: Final = plan
        self.lease_ends_at_s: Final = lease_ends_at_s
        self._hasher: Final = blake2b(digest_size=8, key=plan.salt.encode())
        self._buckets: Final[dict[bytes, int]] = {}
        share_bp = plan.canary_share_bp + plan.holdback_share_bp
        stable, canary, previous = plan.stable, plan.canary or plan.stable, plan.previous
        self.stable: Final = Assignment(Arm.STABLE, stable, share_bp, Kind.SERVED)
        self.lapsed: Final = Assignment(Arm.STABLE, stable, 0, Kind.SERVED)
        self.canary: Final = Assignment(Arm.CANARY, canary, share_bp, Kind.SERVED)
        self.holdback: Final = Assignment(Arm.HOLDBACK, previous or stable, share_bp, Kind.SERVED)
        self.forced_stable: Final = Assignment(Arm.STABLE, stable, share_bp, Kind.OVERRIDE)
        self.forced_canary: Final = (
            Assignment(Arm.CANARY, canary, share_bp, Kind.OVERRIDE)
            if plan.canary is not None
            else self.forced_stable
        )
        # A share above 0 has a slot: the plan itself refuses any other.
        self.canary_below: Final = plan.canary_share_bp
        self.holdback_from: Final = FULL_SHARE_BP - plan.holdback_share_bp

    def bucket_of(self, key: bytes) -> int:
        """`mlops.contracts.plan.bucket_of`, with the salt already hashed."""
        bucket = self._buckets.get(key)
        if bucket is None:
            hasher = self._hasher.copy()
            hasher.update(key)
            bucket = int.from_bytes(hasher.digest(), "big") % FULL_SHARE_BP
            if len(key) <= MAX_KNOWN_KEY_BYTES:
                if len(self._buckets) >= MAX_KNOWN_BUCKETS:
                    self._buckets.clear()
                self._buckets[key] = bucket
        return bucket

    @property
    def known_buckets(self) -> int:
        """Keys whose bucket is remembered now."""
        return len(self._buckets)

    def assignments(self) -> tuple[Assignment, ...]:
        """Every way that this plan knows."""
        return (
            self.stable,
            self.lapsed,
            self.canary,
            self.holdback,
            self.forced_stable,
            self.forced_canary,
        )

    def is_lapsed(self, now_s: float) -> bool:
        """Whether the lease has ended. `now_s` is on the clock of `lease_ends_at_s`."""
        return now_s >= self.lease_ends_at_s

    def share_in_force_bp(self, now_s: float) -> int:
        """What goes away from stable: canary's share plus holdback's; 0 after the lease."""
        return self.lapsed.share_bp if self.is_lapsed(now_s) else self.stable.share_bp


def decide(live: LivePlan, key: bytes, now_s: float, *, override: bool | None = None) -> Assignment:
    """Choose the way of the request with this key."""
    return assign(live, live.bucket_of(key), now_s, override=override)


def assign(
    live: LivePlan, bucket: int, now_s: float, *, override: bool | None = None
) -> Assignment:
    """Choose the way of a request whose key lies in `bucket`.

    `override` is what the request itself asked for where the route allows it: True always the
    canary, False never, None nothing. A lapsed lease wins over everything; so does an empty slot.
    """
    if now_s >= live.lease_ends_at_s:
        return live.lapsed
    if override is not None:
        return live.forced_canary if override else live.forced_stable
    if bucket < live.canary_below:
        return live.canary
    if bucket >= live.holdback_from:
        return live.holdback
    return live.stable
