"""What the agent says of drift, in its API."""

from __future__ import annotations

import msgspec


class DriftFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is watched of a route's queries."""

    evidence: float
    """0 to 1 on a log scale; at 1 the alarm goes off, and it begins again."""
    measures: dict[str, float] = {}
    """For dashboards: `distance` of mean embeddings; `psi`, `ks`, `wasserstein` of histograms."""


class DriftStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes/{route}/drift`. Times are ISO 8601, UTC."""

    route: str
    version: str
    """Stable, in whose time the reference lies."""
    state: str
    """`learning` (the reference is not long enough), `watching`, `drifted`."""
    reference_since: str
    reference_until: str | None = None
    detected: dict[str, str] = {}
    """Features that have drifted, and since when; until somebody acknowledges, or a promotion.
    `routing` is a fault: canary and stable do not get the same queries."""
    queries: int = 0
    """Compared since then, by this process."""
    features: dict[str, DriftFeature] = {}
    """Empty on an agent that does not lead."""


class DriftAcknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/routes/{route}/drift/acknowledge`: what queries are now is the new reference."""

    reason: str = ""
