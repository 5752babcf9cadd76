"""Whole releases through the real judge and stepper: good, bad, cold, idle, shared trouble."""

from __future__ import annotations

from dataclasses import replace as amended
from types import SimpleNamespace
from typing import Any

import pytest

from agent.policy import Checks, Pause, Policy, ScoreCheck, SetWeight
from agent.release import Phase

POLICY = Policy(
    steps=(SetWeight(500), SetWeight(2500), SetWeight(5000)),
    dwell_s=20.0,
    grace_s=30.0,
    bake_s=30.0,
)
LIMIT_S = 1_200
"""Of simulated time."""


def outcome(simulation: Any) -> str:
    return f"{simulation.release.phase.value}: {simulation.release.why} {simulation.history[-3:]}"


def test_a_good_release_is_promoted_and_settles(simulated: SimpleNamespace) -> None:
    simulation = simulated.Simulation(POLICY)
    assert simulation.run(LIMIT_S).phase is Phase.SETTLED, outcome(simulation)
    kinds = [kind for _, kind, _ in simulation.history if kind != "held"]
    assert kinds == ["step", "step", "step", "promoted", "settled"]
    assert simulation.live.stable.version == "b"
    assert simulation.live.holdback_share_bp == 0


def test_a_better_release_is_promoted_too(simulated: SimpleNamespace) -> None:
    better = simulated.Behaviour(errors=0.001, median_ms=35.0)
    simulation = simulated.Simulation(POLICY, canary=better)
    assert simulation.run(LIMIT_S).phase is Phase.SETTLED, outcome(simulation)


@pytest.mark.parametrize(
    ("canary", "blamed", "within_s"),
    [
        ({"errors": 0.9}, "", 10),
        ({"errors": 0.06}, "errors", 300),
        ({"median_ms": 75.0}, "latency", 300),
        ({"tail": 0.05, "tail_factor": 8.0}, "latency", LIMIT_S),
    ],
    ids=["catastrophe", "failing", "slow", "p99 only"],
)
def test_a_bad_release_goes_back(
    simulated: SimpleNamespace, canary: dict[str, float], blamed: str, within_s: int
) -> None:
    simulation = simulated.Simulation(POLICY, canary=simulated.Behaviour(**canary))
    assert simulation.run(within_s).phase is Phase.ROLLED_BACK, outcome(simulation)
    assert blamed in simulation.release.why
    assert simulation.live.stable.version == "a"
    assert simulation.live.canary is None


def test_worse_retrieval_goes_back_by_its_late_scores(simulated: SimpleNamespace) -> None:
    policy = amended(POLICY, checks=Checks(score=ScoreCheck(field="ndcg", margin=0.02)))
    simulation = simulated.Simulation(
        policy,
        stable=simulated.Behaviour(score=0.7),
        canary=simulated.Behaviour(score=0.6),
    )
    assert simulation.run(LIMIT_S).phase is Phase.ROLLED_BACK, outcome(simulation)
    assert "score" in simulation.release.why


def test_a_cold_start_is_forgiven(simulated: SimpleNamespace) -> None:
    simulation = simulated.Simulation(POLICY, canary=simulated.Behaviour(cold_s=20.0))
    assert simulation.run(LIMIT_S).phase is Phase.SETTLED, outcome(simulation)


def test_an_idle_service_neither_advances_nor_goes_back(simulated: SimpleNamespace) -> None:
    simulation = simulated.Simulation(POLICY, rps=0.0)
    release = simulation.run(LIMIT_S)
    assert (release.phase, release.stage) == (Phase.PROGRESSING, 0)
    assert [kind for _, kind, _ in simulation.history] == ["step", "held"]


def test_trouble_that_both_versions_share_blames_neither(simulated: SimpleNamespace) -> None:
    """A dependency fails, clients retry, traffic has errors of thirty percent for a minute."""
    simulation = simulated.Simulation(POLICY, storm=(60, 120))
    assert simulation.run(LIMIT_S).phase is Phase.SETTLED, outcome(simulation)


def test_a_version_that_turns_bad_during_bake_is_taken_back_by_itself(
    simulated: SimpleNamespace,
) -> None:
    policy = amended(POLICY, bake_s=600.0, holdback_share_bp=1000)
    simulation = simulated.Simulation(policy)
    while simulation.release.phase is Phase.PROGRESSING and simulation.elapsed_s < LIMIT_S:
        simulation.run(1)
    assert simulation.release.phase is Phase.BAKING, outcome(simulation)
    simulation.canary.errors = 0.2
    assert simulation.run(300).phase is Phase.ROLLED_BACK, outcome(simulation)
    assert simulation.live.stable.version == "a"
    assert simulation.live.previous is None


def test_a_step_for_a_person_waits_for_one(simulated: SimpleNamespace) -> None:
    policy = amended(POLICY, steps=(SetWeight(500), Pause(), SetWeight(5000)))
    simulation = simulated.Simulation(policy)
    release = simulation.run(400)
    assert (release.phase, release.stage) == (Phase.PROGRESSING, 0)
    assert "promote" in simulation.missing()
    simulation.promote_when_asked = True
    assert simulation.run(LIMIT_S).phase is Phase.SETTLED, outcome(simulation)


# ---- replay -------------------------------------------------------------------------------------


def again(simulated: SimpleNamespace, simulation: Any, policy: Policy) -> tuple[list[Any], Any]:
    shares = {e.generation: 0 for one in simulation.seen for e in one.seconds}
    replay = simulated.replay_of(simulation, policy, shares)
    moments = []
    for evidence in simulation.seen:
        moments += replay.feed(evidence)
        if replay.release.phase.is_ended:
            break
    return moments, replay.ending()


def test_a_replay_by_the_same_policy_ends_as_the_release_did(simulated: SimpleNamespace) -> None:
    for canary in (simulated.Behaviour(), simulated.Behaviour(errors=0.06)):
        simulation = simulated.Simulation(POLICY, canary=canary)
        simulation.run(LIMIT_S)
        moments, result = again(simulated, simulation, POLICY)
        actions = [moment.action for moment in moments if moment.action]
        kinds = [kind for _, kind, _ in simulation.history if kind != "held"]
        assert actions == kinds[1:], (actions, kinds)
        ended = "promoted" if simulation.release.phase is Phase.SETTLED else "rolled_back"
        assert result.result == ended
        assert result.canary_requests > 0


def test_a_replay_by_another_policy_says_what_would_have_been(simulated: SimpleNamespace) -> None:
    """A release that was promoted: a stricter margin would have taken it back, or held it."""
    slightly = simulated.Behaviour(median_ms=54.0)
    simulation = simulated.Simulation(POLICY, canary=slightly)
    simulation.run(300)
    strict = amended(POLICY, checks=Checks(errors=None))
    strict = amended(strict, checks=amended(strict.checks, latency=simulated.latency(0.01)))
    _, result = again(simulated, simulation, strict)
    assert result.result in {"rolled_back", "undecided"}
    long_ago = amended(POLICY, dwell_s=5_000.0)
    _, result = again(simulated, simulation, long_ago)
    assert result.result == "undecided"


def test_what_is_judged_ahead_ends_as_second_by_second(simulated: SimpleNamespace) -> None:
    """Also through shared trouble, and where it ends within the minute judged ahead."""
    policy = amended(POLICY, dwell_s=70.0, bake_s=150.0)
    for canary in ({}, {"errors": 0.9}, {"errors": 0.05}, {"cold_s": 20.0}):
        told = []
        for slice_s in (60, 0):
            simulation = simulated.Simulation(
                policy, canary=simulated.Behaviour(**canary), rps=100.0, storm=(100, 130)
            )
            simulation.slice_s = slice_s
            simulation.run(600)
            told.append((simulation.release, simulation.history, simulation.seen))
        assert told[0] == told[1]
