"""The whole routing state of one route as one immutable value, replaced whole.

Three slots: `stable`, `canary`, `previous`. Versions move between slots; nothing restarts, reloads
or changes port because of it. Shares are whole basis points, so they compare and sum exactly.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from mlops.contracts.slot_values import check_header, check_version, parse_endpoint

FULL_SHARE_BP = 10_000
"""Everything, in basis points; also the number of buckets."""

MAX_CANARY_SHARE_BP = 9_500
"""A canary never takes everything: below this a control remains to judge it against."""

MAX_SALT_BYTES = 64
"""Longest salt that blake2b takes as a key."""

HIDDEN = "(hidden)"
"""What is shown in place of a header's value."""


class Arm(StrEnum):
    """What a request was assigned to. The holdback is served by the `previous` slot."""

    STABLE = "stable"
    CANARY = "canary"
    HOLDBACK = "holdback"


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version and where it is served. There is no slot that a gateway could not use."""

    version: str
    endpoints: tuple[str, ...]
    """Base addresses, `http[s]://HOST:PORT` or `unix:PATH`, at least one."""
    headers: dict[str, str] = {}
    """Added to every request to this slot (an upstream's credentials, say)."""

    def __post_init__(self) -> None:
        check_version(self.version)
        if not self.endpoints:
            raise ValueError(f"version {self.version!r} has no endpoints; expected at least one")
        try:
            for endpoint in self.endpoints:
                parse_endpoint(endpoint)
            for name, value in self.headers.items():
                check_header(name, value)
        except ValueError as exc:
            raise ValueError(f"version {self.version!r}: {exc}") from exc


class RoutePlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One generation of one route's split.

    `lease_s` bounds every arm but stable: when the lease has ended, everything goes to the stable
    slot. A plan without a lease stays in force until it is replaced.
    """

    route: str
    generation: int
    salt: str
    stable: Slot
    canary: Slot | None = None
    canary_share_bp: int = 0
    mirror_share_bp: int | None = None
    """How much of stable's traffic is copied to the canary, which no user sees. None: what the
    gateway's file says, as gateways do that do not know this field."""
    previous: Slot | None = None
    holdback_share_bp: int = 0
    lease_s: float | None = None
    hold: bool = False
    """A person did this: the agent adopts it, pauses, and publishes nothing until `resume`."""
    set_by: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.route:
            raise ValueError("route is empty; expected the name of a route")
        if self.generation < 0:
            raise ValueError(f"generation {self.generation} is negative; expected 0 or more")
        if not 0 < len(self.salt.encode()) <= MAX_SALT_BYTES:
            raise ValueError(f"salt {self.salt!r} must have 1 to {MAX_SALT_BYTES} bytes")
        if not 0 <= self.canary_share_bp <= MAX_CANARY_SHARE_BP:
            raise ValueError(
                f"canary_share_bp {self.canary_share_bp} is outside 0..{MAX_CANARY_SHARE_BP}: "
                "stable keeps at least 5 % as a control"
            )
        if self.holdback_share_bp < 0 or (
            self.canary_share_bp + self.holdback_share_bp > MAX_CANARY_SHARE_BP
        ):
            raise ValueError(
                f"canary_share_bp {self.canary_share_bp} + holdback_share_bp "
                f"{self.holdback_share_bp} is outside 0..{MAX_CANARY_SHARE_BP}"
            )
        if self.mirror_share_bp is not None and not 0 <= self.mirror_share_bp <= FULL_SHARE_BP:
            raise ValueError(
                f"mirror_share_bp {self.mirror_share_bp} is outside 0..{FULL_SHARE_BP}"
            )
        if self.canary_share_bp and self.canary is None:
            raise ValueError(
                f"canary_share_bp is {self.canary_share_bp} but the canary slot is empty"
            )
        if self.holdback_share_bp and self.previous is None:
            raise ValueError(
                f"holdback_share_bp is {self.holdback_share_bp} but the previous slot is empty"
            )
        if self.lease_s is not None and not self.lease_s > 0:
            raise ValueError(f"lease_s {self.lease_s} must be above 0, or absent for no lease")

    def slot(self, arm: Arm) -> Slot | None:
        """The slot that serves `arm`; None where that slot is empty."""
        match arm:
            case Arm.STABLE:
                return self.stable
            case Arm.CANARY:
                return self.canary
            case Arm.HOLDBACK:
                return self.previous


def without_header_values(plan: RoutePlan) -> RoutePlan:
    """The plan to show: slot headers may be credentials, so only their names are left."""
    hidden = {
        name: replace(slot, headers=dict.fromkeys(slot.headers, HIDDEN))
        for name in ("stable", "canary", "previous")
        if (slot := getattr(plan, name)) is not None
    }
    return replace(plan, **hidden)


class NothingToRestore(ValueError):
    """A rollback after promotion was asked for, but the plan has no previous version."""


def bucket_of(salt: str, key: bytes) -> int:
    """Place a key on 0..9999. The canary takes buckets below its share, the holdback the top ones.

    Independent of the shares, so that raising a share only adds keys to an arm; and of the process,
    so that every worker and replica agrees. A new salt draws new users.
    """
    digest = blake2b(key, digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") % FULL_SHARE_BP


def with_weight(
    plan: RoutePlan, *, generation: int, canary_share_bp: int, set_by: str, reason: str, hold: bool
) -> RoutePlan:
    """The same slots with another share for the canary, and no lease.

    Raises:
        ValueError: the share is out of range, or above 0 with the canary slot empty.
    """
    return replace(
        plan,
        generation=generation,
        canary_share_bp=canary_share_bp,
        mirror_share_bp=None,
        lease_s=None,
        hold=hold,
        set_by=set_by,
        reason=reason,
    )


def promoted(
    plan: RoutePlan,
    *,
    generation: int,
    holdback_share_bp: int,
    lease_s: float | None,
    set_by: str,
    reason: str,
) -> RoutePlan:
    """Promotion is one plan: the canary becomes stable, the old stable becomes previous.

    Raises:
        ValueError: the canary slot is empty.
    """
    if plan.canary is None:
        raise ValueError(f"route {plan.route!r} has no canary to promote")
    return replace(
        plan,
        generation=generation,
        stable=plan.canary,
        canary=None,
        canary_share_bp=0,
        mirror_share_bp=None,
        previous=plan.stable,
        holdback_share_bp=holdback_share_bp,
        lease_s=lease_s if holdback_share_bp else None,
        hold=False,
        set_by=set_by,
        reason=reason,
    )


def rolled_back(
    plan: RoutePlan, *, generation: int, set_by: str, reason: str, hold: bool, to_previous: bool
) -> RoutePlan:
    """Everything to stable, now. With `to_previous`, stable is the version before the promotion.

    The version rolled back from is in no slot afterwards, so repeating this never returns to it.

    Raises:
        NothingToRestore: `to_previous` was asked for and the previous slot is empty.
    """
    stable = plan.stable
    if to_previous:
        if plan.previous is None:
            raise NothingToRestore(
                f"route {plan.route!r} has no previous version to restore; "
                f"stable is {plan.stable.version!r}"
            )
        stable = plan.previous
    return replace(
        plan,
        generation=generation,
        stable=stable,
        canary=None,
        canary_share_bp=0,
        mirror_share_bp=None,
        previous=None if to_previous else plan.previous,
        holdback_share_bp=0,
        lease_s=None,
        hold=hold,
        set_by=set_by,
        reason=reason,
    )
