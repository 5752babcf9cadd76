"""Bodies of the gateway's admin API, as its server writes them and its clients read them.

Unknown fields are ignored here, so that a gateway works with an agent one version older or newer.
"""

from __future__ import annotations

import msgspec

from mlops.contracts.plan import RoutePlan

AGENT_ACTOR = "agent"
"""What the agent says in `x-actor`. A plan from anybody else is a person's, and held."""


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PUT /v1/routes/{route}/weights`: percent asked for; they must sum to 100."""

    stable: float
    canary: float
    reason: str = ""

    def __post_init__(self) -> None:
        if self.stable < 0 or self.canary < 0:
            raise ValueError(f"weights stable {self.stable:g}, canary {self.canary:g}: below 0")
        if not abs(self.stable + self.canary - 100) <= 1e-9:  # not a number is refused too
            raise ValueError(
                f"weights stable {self.stable:g} + canary {self.canary:g} sum to "
                f"{self.stable + self.canary:g}, expected 100"
            )

    @property
    def canary_share_bp(self) -> int:
        """The canary's, in basis points."""
        return round(self.canary * 100)


class LeaseRenewal(msgspec.Struct, frozen=True, kw_only=True):
    """`PUT /v1/routes/{route}/lease`: renews the live generation only."""

    generation: int
    lease_s: float


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/routes/{route}/rollback`. `to: previous` undoes a promotion."""

    to: str = ""
    """Empty: drop the canary; where there is none, restore previous. `previous`: restore it."""
    reason: str = ""
    force: bool = False
    """Restore previous even if its endpoints do not answer."""


class ArmCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Since the gateway started."""

    requests: int
    errors: int
    cancelled: int


class UpstreamHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of a route, as the gateway's workers see it together."""

    endpoint: str
    healthy: bool
    """It accepts connections, its checks pass, and it is not ejected."""
    open_connections: int
    reason: str = ""
    """Why it is not healthy."""
    outstanding: int = 0
    """Requests that it works on, or that wait for it."""
    pending: int = 0
    """Of these, the ones that wait for a connection."""
    ejections: int = 0
    """Since the gateway started: how often its failures took it out for a while."""


class LeaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The lease of a live plan, on the gateway's own clock."""

    lease_s: float
    remaining_s: float
    """0 once it has ended."""
    lapsed: bool


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes/{route}`: what is live, and what the split really is."""

    plan: RoutePlan
    share_bp: int
    """In force away from stable; 0 once the lease has ended."""
    lease: LeaseStatus | None = None
    explanation: str = ""
    """One sentence: where traffic goes and why."""
    model: str = ""
    """What the route serves, as the registry names it."""
    arms: dict[str, ArmCounters] = {}
    upstreams: dict[str, list[UpstreamHealth]] = {}
    """By slot: stable, canary, previous."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Every refusal of the admin API and of the agent's API."""

    error: str
    """A sentence: the thing, what was expected, what came."""
    code: str
    """Of both: `bad_request`, `unauthorized`, `too_many_failures` (wrong tokens from this address),
    `forbidden`, `not_found`, `method_not_allowed`, `conflict`, `too_large`, `unavailable` (what it
    needs is away: ask again), `internal`.

    Of the gateway also `stale_generation`, `unhealthy` (rollback without force),
    `nothing_to_restore` (neither a canary nor a previous version), `not_stored` (its disk),
    `bad_config`, `not_taken` (by a worker: in force in none), `handed_over` (an upgrade replaced
    this process: ask again)."""
    live_generation: int | None = None
