"""Small pieces of the agent's world, as plain functions."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.judge import Judgement, Verdict
from agent.policy import Checks, Pause, Policy, SetWeight
from agent.policy_file import to_document
from agent.rehearsal import Past, Rehearsal
from agent.release import Picture, Release, Sight
from agent.stepper import reconcile
from mlops.contracts.plan import RoutePlan, Slot
from tests.unit.agent.simulation import START, Behaviour, Simulation

A = Slot(version="a", endpoints=("http://127.0.0.1:8011",))
B = Slot(version="b", endpoints=("http://127.0.0.1:8012",))
POLICY = Policy(
    steps=(SetWeight(500), SetWeight(2500), SetWeight(5000)), dwell_s=60.0, bake_s=600.0
)
WAITING = Policy(steps=(SetWeight(500), Pause(), SetWeight(2500)), dwell_s=60.0)
ONE, TWO = "http://one", "http://two"


def seeded(generation: int = 1, **changes: object) -> RoutePlan:
    """What a gateway's file says: everything to A."""
    values: dict[str, object] = {
        "route": "rag",
        "generation": generation,
        "salt": "rag",
        "stable": A,
        "set_by": "file",
    }
    return RoutePlan(**(values | changes))


def started(policy: Policy = POLICY, **changes: object) -> Release:
    values: dict[str, object] = {
        "id": "rel-1",
        "route": "rag",
        "candidate": B,
        "policy": to_document(policy),
        "reason": "better recall",
        "started_by": "ann",
        "started_at_s": 0.0,
    }
    return Release(**(values | changes))


def judged(verdict: Verdict | None) -> Judgement | None:
    if verdict is None:
        return None
    return Judgement(verdict=verdict, reasons=(f"drawn {verdict.value}",), checks={})


def picture(
    *plans: RoutePlan,
    now_s: float = 1000.0,
    verdict: Verdict | None = Verdict.UNDECIDED,
    left_s: float | None = None,
    evidence_age_s: float = 1.0,
    silent: tuple[Sight, ...] = (),
) -> Picture:
    """One gateway for each plan; `left_s` of each lease."""
    sights = tuple(
        Sight(
            gateway=gateway,
            plan=plan,
            lease_remaining_s=None
            if plan.lease_s is None
            else plan.lease_s
            if left_s is None
            else left_s,
        )
        for gateway, plan in zip((ONE, TWO), plans, strict=False)
    )
    return Picture(
        now_s=now_s,
        sights=sights + silent,
        judgement=judged(verdict),
        closed_through_s=now_s - evidence_age_s,
    )


def begun(policy: Policy = POLICY) -> tuple[Release, RoutePlan]:
    """A release whose first weight has been in force since second 1000."""
    remember, publish = reconcile(started(policy), policy, picture(seeded()))
    return replace(remember.release, in_force_since_s=1000.0), publish.plan


def baking() -> tuple[Release, RoutePlan]:
    """A release that was promoted at second 1100, by a plan in force since then."""
    release, plan = begun()
    last = replace(release, stage=2)
    healthy = picture(plan, now_s=1100, verdict=Verdict.HEALTHY)
    remember, publish = reconcile(last, POLICY, healthy)
    return replace(remember.release, in_force_since_s=1100.0), publish.plan


@pytest.fixture
def world() -> SimpleNamespace:
    """The names above: test modules import nothing of each other."""
    return SimpleNamespace(
        A=A,
        B=B,
        ONE=ONE,
        TWO=TWO,
        POLICY=POLICY,
        WAITING=WAITING,
        seeded=seeded,
        started=started,
        judged=judged,
        picture=picture,
        begun=begun,
        baking=baking,
    )


def replay_of(simulation: Simulation, policy: Policy, shares: dict[int, int]) -> Rehearsal:
    """What was seen of a simulated release, to be judged again."""
    steps, bake = dict(shares), {}
    for evidence in simulation.seen:
        for counts in evidence.seconds:
            plan = simulation.plans[counts.generation]
            steps[counts.generation] = plan.canary_share_bp
            bake[counts.generation] = plan.holdback_share_bp
    past = Past(
        route="rag",
        stable="a",
        candidate="b",
        since_s=START,
        shares={generation: share for generation, share in steps.items() if share},
        holdback_shares={generation: share for generation, share in bake.items() if share},
    )
    return Rehearsal(policy, past)


def latency(margin: float) -> object:
    """The latency check with another margin."""
    return amended(Checks().latency, margin=margin)


@pytest.fixture
def simulated() -> SimpleNamespace:
    """Simulated releases, and how to judge one again."""
    return SimpleNamespace(
        Simulation=Simulation, Behaviour=Behaviour, replay_of=replay_of, latency=latency
    )
