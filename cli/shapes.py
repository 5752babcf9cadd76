"""What commands print with `-o json`, where no other module has a type for it.

Fields are added and never renamed or taken away; `tests/unit/cli/output_shapes.txt` remembers.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mlops.contracts.api import RouteStatus
from mlops.contracts.release import ReleaseStatus

# ---- a stack on this machine ---------------------------------------------------------------------


class StackEnded(msgspec.Struct, frozen=True, kw_only=True):
    """What `down` ended."""

    ended: list[str]
    """Names of the processes."""
    dry_run: bool


# ---- gateways and agent --------------------------------------------------------------------------


class GatewayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway said: `status`, or `error` where it did not confirm."""

    gateway: str
    """Address of its admin port."""
    status: RouteStatus | UnsetType = UNSET
    error: str | UnsetType = UNSET


class RouteOverview(msgspec.Struct, frozen=True, kw_only=True):
    """A route as the gateways and the agent see it."""

    route: str
    gateways: dict[str, RouteStatus]
    """What is live, by the address of the gateway that says so."""
    release: ReleaseStatus | None
    """Its newest, without the policy; None: there is none, or the agent does not answer."""


class StatusOverview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `status` found."""

    routes: list[RouteOverview]
    not_answering: dict[str, str]
    """Why, by the address of a gateway or of the agent."""
    agent: str
    """Its address."""


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `--dry-run` would have sent."""

    dry_run: bool
    request: dict[str, Any]
    """`method`, `url` and `body`."""


class CurrentContext(msgspec.Struct, frozen=True, kw_only=True):
    """The context that later commands talk to."""

    current: str
    dry_run: bool


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token, shown this once."""

    name: str
    role: str
    token: str | None
    """None in a dry run."""
    dry_run: bool


# ---- judging a log again -------------------------------------------------------------------------


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of both arms, and where a check counts bad ones, those."""

    candidate: int
    control: int
    candidate_bad: int | UnsetType = UNSET
    control_bad: int | UnsetType = UNSET


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One check. What is not known, or has no bound, is null; six digits."""

    e_value: float | None
    """Evidence that the candidate is worse; 20 is one in twenty by chance."""
    effect: float | None
    """Candidate against control: a difference, for latency a relative one."""
    interval: tuple[float | None, float | None] | None
    """Of the effect, right at every look."""
    counts: Counts
    candidate: float | None
    """Error rate, mean score, or the quantile in microseconds."""
    control: float | None
    noninferiority_e_value: float | None
    """Evidence that it is not worse than the margin."""
    still_needed: int | None
    """Candidate requests, estimated."""


class ReplayMoment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed, of `release replay`."""

    t: str
    """ISO 8601, UTC."""
    verdict: str
    action: str
    """As the events of a release: `step`, `promoted`, `settled`, `rolled_back`; empty: none."""
    weight: float
    """Percent that the stepper would have asked for."""
    logged: float
    """Percent that was asked for then."""
    reasons: tuple[str, ...]
    metrics: dict[str, Metric]
    """By check."""


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `release replay`."""

    result: str
    """`promoted`, `rolled_back`, `undecided` or `invalid`."""
    t: str
    """ISO 8601, UTC."""
    canary_requests: int
    reason: str


class JudgedMoment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed, of `judge`."""

    t: float
    """Unix time, seconds, as the rows'."""
    verdict: str
    action: str
    """`step`, `promote`, `settle`, `rollback`, `abort` or `hold`."""
    to: float
    """Percent that the stepper would ask for."""
    weight: float
    """Percent that the rows say was asked for."""
    reasons: tuple[str, ...]
    metrics: dict[str, Metric]
    """By check."""


class JudgedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `judge`."""

    result: str
    """`promoted`, `rolled_back`, `undecided` or `invalid`."""
    t: float
    """Unix time, seconds."""
    canary_requests: int
    reason: str


class DriftAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm of `drift`."""

    t: float | None
    """Unix time, seconds, where the rows have one."""
    query: int
    """Which after the reference, from 1 on."""
    verdict: str
    """`drift`."""
    distance: float
    """Of the mean embeddings."""


class DriftResult(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `drift`."""

    result: str
    """`drift` or `no drift`."""
    queries: int
    """After the reference."""
    alarms: int
    first_alarm: int | None
    distance: float


# ---- settings and files --------------------------------------------------------------------------


class EffectiveSetting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting in force; a secret's value is masked."""

    value: str
    origin: str
    """Where it came from."""


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a file would be accepted."""

    file: str
    kind: str
    """`gateway`, `agent` or `policy`."""
    valid: bool
    problem: str
    """Empty where it is valid."""


class WrittenFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What `init` wrote, or would."""

    files: dict[str, str]
    """Content by path."""
    dry_run: bool


# ---- the store and its archive -------------------------------------------------------------------


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that brought the tables up to date."""

    applied: list[str]


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that are missing, with `--check` and `--dry-run`."""

    pending: list[str]


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """With `--roles`."""

    statements: list[str]


class DueDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day that is due and not archived."""

    table: str
    day: date


class ArchivedDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day that was archived just now."""

    table: str
    day: date
    rows: int


class ListedDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day in the archive."""

    table: str
    day: date
    rows: int
    bytes: int


class RestoredDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day that is back, or would be."""

    table: str
    day: date
    into: str
    rows: int
    dry_run: bool


class ErasedRows(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there were; none is left, unless it is a dry run."""

    rows: int
    evaluations: int
    dead_letters: int
    archived: int
    """Rows in archived days, of all tables."""
    partitions: int
    """Rows in partitions of training data."""
    dry_run: bool


# ---- artifacts -----------------------------------------------------------------------------------


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The bucket, and whether it had to be made."""

    bucket: str
    made: bool
    dry_run: bool


class Uploaded(msgspec.Struct, frozen=True, kw_only=True):
    """Where the version lies."""

    uri: str


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched, or would be."""

    path: str
    files: int
    size_bytes: int
    dry_run: bool


class DeletedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version that is forgotten, or would be."""

    model: str
    version: str
    size_bytes: int
    dry_run: bool


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks that no version refers to."""

    chunks: int
    dry_run: bool


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True):
    """Rules of the bucket that are in force."""

    rules: list[str]
    would_be: list[str] | UnsetType = UNSET
    """In a dry run: what they would be then."""
    dry_run: bool = False


# ---- retraining ----------------------------------------------------------------------------------


class WouldBegin(msgspec.Struct, frozen=True, kw_only=True):
    """The partition that `extract` would begin."""

    dry_run: bool
    partition: str
    """Its folder."""
    plan: dict[str, Any]
    """As it would be kept."""


class WouldDo(msgspec.Struct, frozen=True, kw_only=True):
    """The step that is still to be done."""

    dry_run: bool
    partition: str
    """Its folder."""
    step: str
