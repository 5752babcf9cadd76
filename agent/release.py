"""What the agent remembers of one release, what it sees, and what it can do. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as amended
from enum import StrEnum
from functools import lru_cache
from math import inf
from typing import Any

import msgspec

from agent.judge import Judgement
from agent.policy import Pause, Policy, SetMirror, SetWeight
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.plan import FULL_SHARE_BP, RoutePlan, Slot


class Phase(StrEnum):
    """Where a release is on its way."""

    PROGRESSING = "progressing"
    """Canary against stable, step by step."""
    BAKING = "baking"
    """Promoted; judged against what `previous` still holds back."""
    SETTLED = "settled"
    ROLLED_BACK = "rolled_back"
    """It was found worse, or a person rolled it back."""
    ABORTED = "aborted"
    """Ended without blame."""

    @property
    def is_ended(self) -> bool:
        """It intends nothing more, but for gateways that were away."""
        return self in {Phase.SETTLED, Phase.ROLLED_BACK, Phase.ABORTED}


class PauseKind(StrEnum):
    """Why a release waits."""

    PERSON = "person"
    """Asked for, or a person has to decide. The weight stays, is watched and can be rolled back."""
    HAND = "hand"
    """Plans were changed by someone else. Nothing is published until `resume`."""
    MEMORY = "memory"
    """Found running by an agent that does not remember it. Canary at 0 until `resume`."""


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """A pause, and since when (Unix time)."""

    kind: PauseKind
    by: str
    why: str
    since_s: float
    generation: int = 0
    """The foreign plan that was adopted; a command is about what was known when it was given."""

    @property
    def is_verdict(self) -> bool:
        """REGRESSED, and the policy leaves it to a person: `promote` passes over a verdict."""
        return self.kind is PauseKind.PERSON and self.by == AGENT_ACTOR


class Verb(StrEnum):
    """What a person can ask of a release."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A person's command, remembered until a cycle has carried it out."""

    verb: Verb
    by: str
    reason: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The intent. Everything here is remembered before it is acted on.

    Times are Unix seconds: they outlive the process, so no monotonic clock can hold them.
    """

    id: str
    route: str
    candidate: Slot
    policy: dict[str, Any]
    """As `policy_file.to_document` writes it."""
    reason: str
    started_by: str
    started_at_s: float
    phase: Phase = Phase.PROGRESSING
    stage: int = 0
    base: Slot | None = None
    """What was stable when the release began; None until it has begun."""
    before_base: Slot | None = None
    """What was `previous` then: it gives up its slot to `base` at the promotion."""
    plan: RoutePlan | None = None
    """The intended plan. None: nothing is intended (not begun, or ended by somebody's hand)."""
    shares: dict[int, int] = {}
    """By generation of this phase, what it asks for the arm that is not stable: what is judged."""
    lapsed_generations: tuple[int, ...] = ()
    """Generations whose lease ended: what they did afterwards was not split, and is not judged."""
    canary_requests: int = 0
    """Judged while it was a canary, as of the last change."""
    generation_floor: int = 0
    """Greatest generation this route had in earlier releases; never to be used again."""
    in_force_since_s: float | None = None
    """When every gateway that answers had the plan; None until it has been seen."""
    promoted_at_s: float | None = None
    paused: Paused | None = None
    asked: Asked | None = None
    lifted: dict[str, int] = {}
    """By gateway, the foreign generation that a person's `resume` let go of."""
    lapsed_since_s: float | None = None
    """When a lease was found ended; the release waits for a whole block after this."""
    invalid_since_s: float | None = None
    held_generation: int = 0
    """The generation of which it was told that its time is over and something still holds it."""
    ended_at_s: float | None = None
    why: str = ""
    """The reason of the last change, for people."""


MOMENTS = ("started_at_s", "promoted_at_s", "in_force_since_s", "lapsed_since_s", "invalid_since_s")
"""Fields that time or evidence is counted from."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One weight, and what ends it."""

    share_bp: int
    duration_s: float
    waits: bool
    """For a person's `promote`."""
    mirror_share_bp: int = 0
    """Above 0: judged on pairs of answers; no user sees the candidate."""


@lru_cache(maxsize=256)
def stages(policy: Policy) -> tuple[Stage, ...]:
    """Fold pauses into the weight before them; every stay lasts at least the dwell."""
    found: list[Stage] = []
    for step in policy.steps:
        match step:
            case SetWeight(share_bp):
                found.append(Stage(share_bp, 0.0, waits=False))
            case SetMirror(share_bp):
                found.append(Stage(0, 0.0, waits=False, mirror_share_bp=share_bp))
            case Pause(duration):
                last = found[-1]
                finite = 0.0 if duration == inf else duration
                waits = last.waits or duration == inf
                found[-1] = amended(last, duration_s=last.duration_s + finite, waits=waits)
    return tuple(amended(one, duration_s=max(one.duration_s, policy.dwell_s)) for one in found)


def stage_of(release: Release, policy: Policy) -> Stage:
    """The step that the release is at."""
    return stages(policy)[release.stage]


def mirrors(release: Release, policy: Policy) -> bool:
    """Is the release judged on pairs of answers now?"""
    return release.phase is Phase.PROGRESSING and stage_of(release, policy).mirror_share_bp > 0


def candidate_share_bp(release: Release, plan: RoutePlan | None) -> int:
    """What `plan` asks for the release's candidate, in whichever slot it is."""
    if plan is None:
        return 0
    if plan.stable.version == release.candidate.version:
        return FULL_SHARE_BP - plan.canary_share_bp - plan.holdback_share_bp
    if plan.canary is not None and plan.canary.version == release.candidate.version:
        return plan.canary_share_bp
    return 0


# ---- what is seen ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One gateway's answer for the route, or that there was none."""

    gateway: str
    plan: RoutePlan | None = None
    """None: it did not answer."""
    lease_remaining_s: float | None = None
    """None: the plan has no lease. 0: it has ended."""
    silent_for_s: float = 0.0
    """Since its last answer; 0 if it answered now."""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """What a gate said of the release's next step."""

    passed: bool
    why: str
    at_s: float
    refuses: bool = False
    """For good: the version must get no traffic at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything one cycle decides on."""

    now_s: float
    sights: tuple[Sight, ...]
    judgement: Judgement | None = None
    """None: no evidence could be read since the agent started."""
    closed_through_s: float = 0.0
    """Evidence is complete up to here."""
    frozen: str = ""
    """Why nothing may advance now; empty outside of every freeze window."""
    max_share_bp: int = FULL_SHARE_BP
    """Blast radius of the route: the agent's cap for a candidate before promotion."""
    gates: Mapping[str, GateAnswer | None] = field(default_factory=dict)
    """Every gate of the release; None where it was not asked about the next step yet."""

    @property
    def answering(self) -> tuple[tuple[str, RoutePlan], ...]:
        """Gateways that answered, with the plan that each has."""
        return tuple((one.gateway, one.plan) for one in self.sights if one.plan is not None)

    @property
    def newest(self) -> RoutePlan | None:
        """Of those plans, the one of the greatest generation; None where no gateway answered."""
        plans = [plan for _, plan in self.answering]
        return max(plans, key=lambda plan: plan.generation, default=None)


# ---- what can be done --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Why something is remembered: one entry of the journal."""

    kind: str
    actor: str
    reason: str
    from_share_bp: int = 0
    to_share_bp: int = 0
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def is_transition(self) -> bool:
        """Something happened; a command that was only noted is none."""
        return self.kind.startswith(("release.", "drift."))


@dataclass(frozen=True, slots=True)
class Remember:
    """Write the intent down, with its entry in the journal."""

    release: Release
    change: Change | None
    """None: a note that no history needs."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Bring a plan to gateways. A gateway that has a newer one refuses it."""

    plan: RoutePlan
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """Not a publication: the generation stays."""

    route: str
    generation: int
    lease_s: float
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consult:
    """Ask gates about the next step. The answers are in a later picture."""

    release: Release
    gates: tuple[str, ...]


Write = Remember | Publish | Renew | Consult


@dataclass(frozen=True, slots=True)
class Cycle:
    """What the last cycle saw of a release, and did: for the API."""

    picture: Picture
    judgement: Judgement | None
    """The newest there was: an ended release keeps its last one."""
    sentence: str
    canary_requests: int
