"""`make policies`: what becomes of good and bad versions under each policy that is shipped.

Whole releases, second by second, through the agent's own judge and stepper; traffic and time are
numbers. 50 requests/s, seeds fixed, `RUNS=20` of each. A pause for a person ends as soon as nothing
else is missing. Copies of traffic (`setMirror`) are not simulated: their step is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from statistics import median

from agent.policy import Policy, SetMirror
from agent.policy_file import read_policy
from agent.release import Phase
from agent.shipped_policies import shipped
from bench.report import Measured, write
from cli.init import Answers, policy_file
from mlops.contracts.evidence import Evidence
from mlops.deployment.strategies import strategies
from tests.unit.agent.simulation import START, Behaviour, Simulation

RUNS = int(os.environ.get("RUNS", "20"))
RATE_PER_S = 50.0
LIMIT_S = 5_400
"""Of simulated time: an hour of bake, and half an hour before it."""
VERSIONS: dict[str, tuple[Behaviour, bool]] = {
    "the same": (Behaviour(), True),
    "faster, fewer errors": (Behaviour(errors=0.002, median_ms=40.0), True),
    "a cold start of 20 s": (Behaviour(cold_s=20.0), True),
    "every answer an error": (Behaviour(errors=1.0), False),
    "errors 0.5 -> 5 %": (Behaviour(errors=0.05), False),
    "errors 0.5 -> 2 %": (Behaviour(errors=0.02), False),
    "latency +50 %": (Behaviour(median_ms=75.0), False),
    "one in twenty 8 times slower": (Behaviour(tail=0.05, tail_factor=8.0), False),
}
"""How the new version answers, and whether it should be promoted."""


@dataclass(frozen=True, slots=True)
class Ended:
    phase: Phase
    promoted_s: float
    """Since the start; infinite if it was not."""
    judged_s: float
    """From its first request to its rollback."""
    requests: int
    """Answered by the new version until the end, or its promotion where it was kept."""


def played(policy: Policy, version: str, seed: int) -> Ended:
    """One release."""
    simulation = Simulation(policy, canary=VERSIONS[version][0], rps=RATE_PER_S, seed=seed)
    simulation.promote_when_asked = True
    release = simulation.run(LIMIT_S)
    promoted = [at for at, kind, _ in simulation.history if kind == "promoted"]
    is_kept = release.phase is not Phase.ROLLED_BACK
    until = promoted[0] if promoted and is_kept else LIMIT_S
    answered = [(evidence.since, _of_the_new(simulation, evidence)) for evidence in simulation.seen]
    answered = [(at - START, count) for at, count in answered if at - START < until]
    first = next((at for at, count in answered if count), simulation.elapsed_s)
    return Ended(
        phase=release.phase,
        promoted_s=float(promoted[0]) if promoted else inf,
        judged_s=float(simulation.elapsed_s - first),
        requests=sum(count for _, count in answered),
    )


def _of_the_new(simulation: Simulation, evidence: Evidence) -> int:
    """Requests that the new version answered, in whichever slot it was."""
    count = 0
    for seconds in evidence.seconds:
        slot = simulation.plans[seconds.generation].slot(seconds.arm)
        count += seconds.rows if slot is not None and slot.version == "b" else 0
    return count


def without_copies(policy: Policy) -> Policy:
    """Its steps from the first one on that users see."""
    copied = [index for index, step in enumerate(policy.steps) if isinstance(step, SetMirror)]
    after = copied[-1] + 2 if copied else 0  # the pause behind it belongs to it
    return replace(policy, steps=policy.steps[after:])


def row(name: str, version: str, ends: Sequence[Ended]) -> Measured:
    """What became of the runs of one version under one policy."""
    is_good = VERSIONS[version][1]
    back = [end for end in ends if end.phase is Phase.ROLLED_BACK]
    kept = [end for end in ends if end.promoted_s < inf and end.phase is not Phase.ROLLED_BACK]
    right = kept if is_good else back
    peers: dict[str, float] = {"promoted and kept, %": 100 * len(kept) / len(ends)}
    peers["rolled back, %"] = 100 * len(back) / len(ends)
    if is_good and kept:
        peers["median minutes to promotion"] = median(end.promoted_s for end in kept) / 60
    if not is_good and back:
        peers["median seconds to rollback"] = median(end.judged_s for end in back)
        peers["median requests it answered"] = median(end.requests for end in back)
    return Measured(
        name=f"{name}: {version}",
        value=100 * len(right) / len(ends),
        unit=f"% of {len(ends)} rightly {'kept' if is_good else 'taken back'}",
        peers=peers,
    )


def policies() -> dict[str, Policy]:
    """One for each strategy, and the one that `rag-mlops init` writes."""
    found = {name: shipped(name) for name in strategies()}
    written = policy_file(Answers(stable="http://127.0.0.1:8011", version="1", sticky_header=""))
    return found | {"init": read_policy(written.encode(), source="init")}


def main() -> int:
    rows = []
    with ProcessPoolExecutor() as pool:
        for name, shipped_policy in policies().items():
            policy = without_copies(shipped_policy)
            for version in VERSIONS:
                seeds = range(1, RUNS + 1)
                ends = list(pool.map(played, [policy] * RUNS, [version] * RUNS, seeds))
                rows.append(row(name, version, ends))
                print(f"{rows[-1].name}: {rows[-1].value:g} {rows[-1].unit}", file=sys.stderr)
            write("policies", rows, {})  # so far: all of them take long
    return 0


if __name__ == "__main__":
    sys.exit(main())
