"""The agent's own rules as typed values: gates, notices, freeze windows, blast radius.

They stand in the agent's file, not in a policy: they hold credentials, and a policy may be written
by anybody who may start a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.condition import Condition
from agent.freeze import Window
from mlops.contracts.plan import MAX_CANARY_SHARE_BP

EMBEDDING_SPACE = "embedding space"
"""The gate that every release has: the encoder must match its index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """`provider: {web: {url}}`: POST; a 2xx is a yes, with a condition also its JSON's values."""

    url: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """`provider: {prometheus: {address, query}}`: an instant query."""

    address: str
    query: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickHouse:
    """`provider: {clickhouse: {query}}`: the first column, on the agent's ClickHouse, read only."""

    query: str


Provider = Web | Prometheus | ClickHouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Asked before every step of a release whose policy names it."""

    name: str
    provider: Provider
    condition: Condition | None = None
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is told of every transition."""

    name: str
    url: str = field(repr=False)
    """Slack's is a secret as a whole."""
    is_slack: bool
    secret: str = field(default="", repr=False)
    """Signs as Standard Webhooks says; empty: not signed."""
    events: tuple[str, ...] = ()
    """Kinds of events; empty: all."""

    def wants(self, kind: str) -> bool:
        """Whether it is told of this kind of event."""
        return not self.events or kind in self.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the agent's file says of every release."""

    gates: Mapping[str, Gate] = field(default_factory=dict)
    notices: tuple[Target, ...] = ()
    freeze: tuple[Window, ...] = ()
    max_share_bp: Mapping[str, int] = field(default_factory=dict)
    """By route; `*` is for those that are not named."""
    guards_embedding_space: bool = True

    def cap_bp(self, route: str) -> int:
        """The greatest share of the route's candidate before its promotion."""
        everywhere = self.max_share_bp.get("*", MAX_CANARY_SHARE_BP)
        return self.max_share_bp.get(route, everywhere)
