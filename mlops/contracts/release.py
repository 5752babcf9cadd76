"""Bodies of the agent's API, as its server writes them and its clients read them.

What people write (`ReleaseRequest`, `VerbRequest`, `EvaluationRequest`) refuses unknown fields;
what processes read of each other ignores them.
"""

from __future__ import annotations

from typing import Any

import msgspec

PROMOTED_PHASES = frozenset({"baking", "settled"})
"""Phases of a release in which its version is stable."""
FAILED_PHASES = frozenset({"rolled_back", "aborted"})
"""Those in which its version serves nobody any more."""
ENDED_PHASES = frozenset({"settled"}) | FAILED_PHASES
"""Those that a release never leaves."""


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/releases`: bring one version to one route."""

    route: str
    version: str
    endpoints: tuple[str, ...]
    reason: str
    headers: dict[str, str] = {}
    """Added to every request to the new version's endpoints."""
    policy: dict[str, Any] | None = None
    """The policy file's content; absent: the default policy."""
    strategy: str = ""
    """Instead of a policy, the shipped one of that name: `canary`, `shadow`, `blue_green`."""


class VerbRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/releases/{id}/{pause|resume|promote|abort|retry}`; the body may be absent."""

    reason: str = ""


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/evaluations`: one late score, or a list of these."""

    request_id: str
    name: str
    score: float

    def __post_init__(self) -> None:
        if not self.request_id:
            raise ValueError("request_id is empty; expected the id the gateway answered with")
        if not self.name:
            raise ValueError("name is empty; expected the name of a score")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"score {self.score:g} of {self.name!r} is outside 0..1")


class EvaluationsTaken(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to `POST /v1/evaluations`: queued, and stored within about a second."""

    accepted: int


class CheckStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One check with its numbers, as the judge last saw them."""

    candidate_count: int
    control_count: int
    candidate_value: float | None = None
    """Error rate, mean score, or the quantile in microseconds; None without data."""
    control_value: float | None = None
    effect: float | None = None
    """Candidate against control: a difference, for latency a relative one (0.1: 10 % slower)."""
    interval: tuple[float | None, float | None] | None = None
    """Of the effect, right at every look with chance 1 - alpha; an end that nothing excludes yet,
    or all of it, is None."""
    quantile: float | None = None
    """Which quantile the values are of, where they are of one."""
    e_value: float
    """Evidence for a regression: 20 is one in twenty by chance."""
    noninferiority_e_value: float
    """Evidence that it is not worse than the margin."""
    still_needed: int | None = None
    """Estimate of the candidate requests missing to the proof; None if not known."""


class PauseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Why a release does not advance, and since when."""

    kind: str
    """`person`, `hand` (weights changed by hand), `evidence`, `memory`, `step` (waits)."""
    by: str
    why: str
    since: str


class ReleaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/releases/{id}`. Times are ISO 8601, UTC."""

    id: str
    route: str
    version: str
    stable: str
    """Version that was stable when the release began; empty before it began."""
    phase: str
    """`progressing`, `paused`, `baking`, `settled`, `rolled_back`, `aborted`."""
    step: int
    """1 for the first weight."""
    steps: int
    weight: float
    """Percent asked for; the split that is live is the gateway's to tell."""
    generation: int
    """Of the plan that is intended; 0 before the first."""
    reason: str
    """Given when the release was started."""
    verdict: str
    reasons: tuple[str, ...]
    """Why it is where it is: the judge's reasons, a pause, how it ended."""
    summary: str = ""
    """Is the new version all right, and what is being done about it? Sentences for people."""
    sentence: str = ""
    """What the last cycle did."""
    checks: dict[str, CheckStatus] = {}
    canary_requests: int = 0
    """Requests of the candidate that were judged since the release began."""
    still_needed: int | None = None
    """Largest `still_needed` of the checks."""
    started_by: str = ""
    started_at: str = ""
    ended_at: str | None = None
    duration_s: float = 0.0
    lease_s: float | None = None
    pause: PauseStatus | None = None
    converged: bool = False
    """Every gateway that answers has the intended generation."""
    unreachable: tuple[str, ...] = ()
    """Gateways that do not answer."""
    still_served_by: tuple[str, ...] = ()
    """Gateways that still give users the version, although it was taken back: roll back there too.
    """
    asked: str = ""
    """A command that the next cycle will carry out."""
    verbs: tuple[str, ...] = ()
    """Commands that are possible now."""
    policy: dict[str, Any] = {}
    """As it was when the release started; it does not change. Empty in lists."""


class ReleaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the journal, in `GET /v1/releases/{id}/events` and in `GET /v1/events`."""

    sequence: int
    release_id: str
    route: str
    at: str
    kind: str
    actor: str
    from_share_bp: int
    to_share_bp: int
    reason: str
    detail: dict[str, Any] = {}
