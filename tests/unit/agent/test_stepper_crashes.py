"""The agent may die between any two writes, gateways may be away, people may step in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.judge import Judgement, Verdict
from agent.policy import Pause, Policy, SetWeight
from agent.policy_file import to_document
from agent.release import Phase, Picture, Publish, Release, Remember, Sight, Verb, Write
from agent.stepper import reconcile
from agent.verbs import Conflict, ask
from mlops.contracts.plan import RoutePlan, Slot, rolled_back, with_weight

A = Slot(version="a", endpoints=("http://127.0.0.1:8011",))
B = Slot(version="b", endpoints=("http://127.0.0.1:8012",))
POLICY = Policy(
    steps=(SetWeight(500), SetWeight(2500), Pause(), SetWeight(5000)), dwell_s=0.0, bake_s=50.0
)
LADDER = [0, 500, 2500, 5000]
GATEWAYS = ("http://one", "http://two")


@dataclass
class World:
    """Two gateways that keep the rules of a plan book, and a memory that survives the agent."""

    live: dict[str, RoutePlan] = field(
        default_factory=lambda: {
            gateway: RoutePlan(route="rag", generation=1, salt="rag", stable=A)
            for gateway in GATEWAYS
        }
    )
    kept: Release = field(
        default_factory=lambda: Release(
            id="rel-1",
            route="rag",
            candidate=B,
            policy=to_document(POLICY),
            reason="test",
            started_by="ann",
            started_at_s=0.0,
        )
    )
    now_s: float = 1000.0
    published: dict[int, RoutePlan] = field(default_factory=dict)
    resumed: bool = False

    def picture(self, verdict: Verdict | None, away: frozenset[str], *, fresh: bool) -> Picture:
        judgement = Judgement(verdict=verdict, reasons=("drawn",), checks={}) if verdict else None
        sights = tuple(
            Sight(gateway=gateway, silent_for_s=60.0)
            if gateway in away
            else Sight(gateway=gateway, plan=plan, lease_remaining_s=plan.lease_s)
            for gateway, plan in self.live.items()
        )
        return Picture(
            now_s=self.now_s,
            sights=sights,
            judgement=judgement,
            closed_through_s=self.now_s - (1 if fresh else 100),
        )

    def make(self, write: Write) -> None:
        """One write, with everything that must be true of it."""
        match write:
            case Remember(release, _):
                was = self.kept
                assert not was.phase.is_ended, "an ended release is never changed"
                assert abs(release.stage - was.stage) <= 1, "a step was skipped"
                self.kept = release
            case Publish(plan, gateways):
                assert plan == self.kept.plan, "published what was not remembered"
                known = self.published.setdefault(plan.generation, plan)
                assert known == plan, "a generation was used for two plans"
                for gateway in gateways:
                    self._take(gateway, plan)

    def _take(self, gateway: str, plan: RoutePlan) -> None:
        was = self.live[gateway]
        if plan.generation <= was.generation:
            return  # 409
        lifted = self.kept.lifted.get(gateway) == was.generation
        assert not was.hold or lifted or self.resumed, "a person's plan was overwritten"
        self.live[gateway] = plan


@dataclass(frozen=True)
class Step:
    verdict: Verdict | None
    survives: int
    away: frozenset[str]
    fresh: bool
    person: str


steps = st.builds(
    Step,
    verdict=st.sampled_from(
        [Verdict.HEALTHY] * 4 + [Verdict.UNDECIDED, Verdict.INVALID, Verdict.REGRESSED, None]
    ),
    survives=st.sampled_from([0, 1, 1, 2, 2, 2]),
    away=st.sampled_from([frozenset()] * 3 + [frozenset({one}) for one in GATEWAYS]),
    fresh=st.sampled_from([True, True, True, False]),
    person=st.sampled_from(
        ["", "", "", "", "", "promote", "weights", "rollback", "resume", "abort", "pause"]
    ),
)


def person_acts(world: World, step: Step) -> None:
    gateway = GATEWAYS[0]
    live = world.live[gateway]
    if step.person in {"weights", "rollback"}:
        world.resumed = False
    if step.person == "weights" and live.canary is not None:
        world.live[gateway] = with_weight(
            live, generation=live.generation + 1, canary_share_bp=100, set_by="bob", reason="",
            hold=True,
        )  # fmt: skip
    elif step.person == "rollback":
        for name, plan in world.live.items():
            world.live[name] = rolled_back(
                plan,
                generation=plan.generation + 1,
                set_by="bob",
                reason="",
                hold=True,
                to_previous=plan.canary is None and plan.previous is not None,
            )
    elif step.person in {verb.value for verb in Verb}:
        try:
            noted = ask(world.kept, Verb(step.person), "ann", "", world.now_s)
        except Conflict:
            return
        world.kept = noted.release
        world.resumed = step.person in {"resume", "abort"}


def cycle(world: World, step: Step) -> None:
    world.now_s += 10
    person_acts(world, step)
    picture = world.picture(step.verdict, step.away, fresh=step.fresh)
    for write in reconcile(world.kept, POLICY, picture)[: step.survives]:
        world.make(write)


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=40))
def test_crashes_reuse_no_generation_and_overwrite_no_person(drawn: list[Step]) -> None:
    """The checks are in `World.make`: they hold for every write of every history."""
    world = World()
    for step in drawn:
        cycle(world, step)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps.filter(lambda step: step.person in {"", "promote"}), max_size=30))
def test_crashes_skip_no_step_and_undo_neither_rollback_nor_promotion(drawn: list[Step]) -> None:
    world = World()
    promoted: set[str] = set()
    for step in drawn:
        before = dict(world.live)
        cycle(world, step)
        over = world.kept.phase in {Phase.ROLLED_BACK, Phase.ABORTED}
        for gateway, after in world.live.items():
            was = before[gateway]
            promoted |= {gateway} if after.stable == B else set()
            if after == was:
                continue
            assert after.generation > was.generation
            assert not (over and after.canary_share_bp), "a rollback was undone"
            if gateway in promoted and after.stable == A:
                assert world.kept.phase is Phase.ROLLED_BACK, "a promotion was undone"
            if not step.away and not any(s.away for s in drawn) and after.canary_share_bp:
                was_at = LADDER.index(was.canary_share_bp)
                assert LADDER.index(after.canary_share_bp) in {was_at, was_at + 1}


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=30))
def test_more_canary_than_remembered_is_always_leased(drawn: list[Step]) -> None:
    """Between remembering a rollback and publishing it, the lease is what ends the exposure."""
    world = World()
    for step in drawn:
        cycle(world, step)
        plan = world.kept.plan
        intended_bp = plan.canary_share_bp if plan is not None else 0
        for live in world.live.values():
            by_hand = live.hold or world.kept.plan is None
            if live.canary_share_bp > intended_bp and not by_hand:
                assert live.lease_s is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(steps.filter(lambda step: step.person in {"", "promote"}), max_size=30))
def test_two_whole_cycles_after_a_crash_put_the_intended_split_in_force(drawn: list[Step]) -> None:
    world = World()
    for step in drawn:
        cycle(world, step)
    quiet = Step(Verdict.UNDECIDED, 2, frozenset(), fresh=True, person="")
    for _ in range(2):
        world.now_s -= 10  # no time passes: neither a bake nor a step ends meanwhile
        cycle(world, quiet)
    if world.kept.plan is not None and world.kept.asked is None:
        assert all(live == world.kept.plan for live in world.live.values())


def test_without_fresh_evidence_nothing_ever_advances() -> None:
    world = World()
    for _ in range(50):
        cycle(world, Step(Verdict.HEALTHY, 2, frozenset(), fresh=False, person=""))
    assert world.kept.stage == 0
    assert {live.canary_share_bp for live in world.live.values()} == {500}


@pytest.mark.parametrize("share_bp", [0, 100])
def test_a_hold_survives_any_number_of_restarts(share_bp: int) -> None:
    world = World()
    cycle(world, Step(Verdict.HEALTHY, 2, frozenset(), fresh=True, person=""))
    live = world.live[GATEWAYS[0]]
    held = with_weight(
        live, generation=live.generation + 1, canary_share_bp=share_bp, set_by="bob", reason="",
        hold=True,
    )  # fmt: skip
    world.live[GATEWAYS[0]] = held
    for _ in range(20):
        for verdict in Verdict:
            cycle(world, Step(verdict, 2, frozenset(), fresh=True, person=""))
    assert world.live[GATEWAYS[0]] == held


# ---- two agents ---------------------------------------------------------------------------------


@dataclass
class Fenced(World):
    """The same, with the memory's compare-and-set: what is stale is refused, as `Outdated`."""

    revision: int = 0
    remembered: list[RoutePlan] = field(default_factory=list)

    def read(self) -> tuple[Release, int]:
        return self.kept, self.revision

    def write(self, write: Write, revision: int) -> int | None:
        """The revision afterwards; None: refused, the agent makes none of its other writes."""
        match write:
            case Remember(release, _):
                if revision != self.revision:
                    return None
                self.kept = release
                self.revision += 1
                if release.plan is not None:
                    self.remembered.append(release.plan)
                return self.revision
            case Publish(plan, gateways):
                assert plan in self.remembered, "published what was never remembered"
                known = self.published.setdefault(plan.generation, plan)
                assert known == plan, "a generation was used for two plans"
                for gateway in gateways:
                    self._take(gateway, plan)
        return revision


@dataclass
class Agent:
    """What one agent still has to write: it may be frozen in the middle, for any time."""

    writes: list[Write] = field(default_factory=list)
    revision: int = 0

    def begin(self, world: Fenced, step: Step) -> None:
        release, self.revision = world.read()
        picture = world.picture(step.verdict, step.away, fresh=step.fresh)
        self.writes = list(reconcile(release, POLICY, picture))

    def go_on(self, world: Fenced, count: int) -> None:
        for _ in range(min(count, len(self.writes))):
            after = world.write(self.writes.pop(0), self.revision)
            if after is None:
                self.writes = []
                return
            self.revision = after


moves = st.tuples(st.sampled_from([0, 1]), st.booleans(), st.integers(1, 2), steps)
"""Which agent moves, whether it looks anew (else it wakes up where it was), how many writes."""


@settings(max_examples=400, deadline=None)
@given(st.lists(moves, max_size=40))
def test_two_agents_that_freeze_anywhere_never_undo_each_other(drawn: list[Any]) -> None:
    """No generation means two plans, nothing goes back in time, and a rollback stays one."""
    world = Fenced()
    agents = (Agent(), Agent())
    for which, looks, count, step in drawn:
        world.now_s += 10
        before = dict(world.live)
        over = world.kept.phase in {Phase.ROLLED_BACK, Phase.ABORTED}
        agent = agents[which]
        if looks or not agent.writes:
            agent.begin(world, step)
        agent.go_on(world, count)
        for gateway, after in world.live.items():
            if after != before[gateway]:
                assert after.generation > before[gateway].generation
                newest = world.kept.plan
                stale = newest is not None and after.generation < newest.generation
                assert not (over and after.canary_share_bp and not stale)
    quiet = Step(Verdict.UNDECIDED, 2, frozenset(), fresh=True, person="")
    world.now_s -= 10
    for _ in range(3):
        agents[0].begin(world, quiet)
        agents[0].go_on(world, 9)
    if world.kept.plan is not None:
        assert all(live == world.kept.plan for live in world.live.values())
