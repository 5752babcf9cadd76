"""The real judge and the real stepper on simulated releases: false alarms, power, promotion, cost.

Poisson arrivals at 50 requests/s, blocks of 5 s, a look at every block, seeds fixed. Beside our
figures stand those of other rules on the same counts, and the least that any sequential test of two
samples could need. `FULL=1` runs 2,000 and 500 releases a row, else a few hundred.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import pi, sin
from time import process_time

import numpy as np
from scipy.stats import beta

from agent.judge import Judge, Verdict
from agent.policy import Checks, Pause, Policy, QuantileCheck, RateCheck, ScoreCheck, SetWeight
from agent.policy_checks import LISTED
from agent.windows import ArmBlock, Block
from bench.fleet import HOUR, Fleet, Outcome
from bench.peers import Counts, counted, false_rates, least_requests, median_requests
from bench.report import Measured, write
from bench.traffic import BLOCK_S, Arm, Constant, Traffic

FULL = bool(os.environ.get("FULL"))
MANY, SOME = (2000, 500) if FULL else (250, 125)
CHUNK = 125
"""Releases at a time: their state is some hundred megabytes."""
ALPHAS = (0.05, 0.01)

NAMES = ("errors", "client_errors", "refusals", "latency", "ttft", "gaps", "answer_length",
         "tokens", "score")  # fmt: skip
EVERY = Checks(**{name: getattr(LISTED, name) for name in NAMES})
FIXED = (SetWeight(1000), Pause(7200.0))
RAMP = (
    *(step for share in (500, 1000, 2500) for step in (SetWeight(share), Pause(900.0))),
    SetWeight(5000),
    Pause(7200.0),
)
FIXED_SHARES = np.full(HOUR, 1000)
RAMP_SHARES = np.repeat([500, 1000, 2500, 5000], HOUR // 4)
STRICT = Policy(alpha=0.01, steps=RAMP, checks=EVERY)


@dataclass(frozen=True)
class Scenario:
    """A harmless release."""

    name: str
    traffic: Traffic
    policy: Policy
    shares: np.typing.NDArray[np.int64]
    runs: int


def rising(second: float) -> float:
    return 0.005 + 0.015 * max(0.0, second) / 3600


def diurnal(second: float) -> float:
    return 0.01 + 0.008 * sin(2 * pi * second / 3600)


def slower_day(second: float) -> float:
    return 1 + 0.8 * max(0.0, second) / 3600


def cold(second: float) -> float:
    return float(0.01 + 0.09 * np.exp(-max(0.0, second) / 20))


def _both(errors: object, **more: object) -> dict[str, Arm]:
    arm = Arm(errors=errors, **more)  # type: ignore[arg-type]
    return {"candidate": arm, "control": arm}


HARMLESS = (
    Scenario("A/A", Traffic(checks=NAMES), replace(STRICT, steps=FIXED), FIXED_SHARES, MANY),
    Scenario("ramp", Traffic(checks=NAMES), STRICT, RAMP_SHARES, MANY),
    Scenario(
        "diurnal, ramp",
        Traffic(checks=NAMES, day=slower_day, **_both(diurnal)),
        STRICT, RAMP_SHARES, MANY,
    ),
    Scenario("errors rising x4, ramp", Traffic(checks=NAMES, **_both(rising)), STRICT, RAMP_SHARES,
             MANY),
    Scenario("bursts of 5, ramp", Traffic(checks=NAMES, **_both(Constant(0.01), burst=5)), STRICT,
             RAMP_SHARES, SOME),
    Scenario("pods 5 % apart, ramp", Traffic(checks=NAMES, pod_spread=0.05), STRICT, RAMP_SHARES,
             SOME),
    Scenario("cold start, ramp", Traffic(checks=NAMES, candidate=Arm(errors=cold)), STRICT,
             RAMP_SHARES, SOME),
)  # fmt: skip


def one_fleet(policy: Policy, traffic: Traffic, seed: int, runs: int, blocks: int) -> Outcome:
    """In a process of its own."""
    return Fleet(policy, traffic, runs, seed).run(blocks)


def many(
    pool: Executor, policy: Policy, traffic: Traffic, runs: int, blocks: int = HOUR
) -> Outcome:
    """As many runs as asked for, in chunks with a seed each."""
    sizes = [min(CHUNK, runs - start) for start in range(0, runs, CHUNK)]
    futures = [
        pool.submit(one_fleet, policy, traffic, 1000 + index, size, blocks)
        for index, size in enumerate(sizes)
    ]
    return Outcome.joined([one.result() for one in futures])


# ---- rows --------------------------------------------------------------------------------------


def upper_bound(hits: int, runs: int) -> float:
    """95 %, one-sided, in percent (Clopper and Pearson)."""
    return 100.0 if hits == runs else 100 * float(beta.ppf(0.95, hits + 1, runs - hits))


def false_rollbacks(pool: Executor, scenario: Scenario) -> list[Measured]:
    outcome = many(pool, scenario.policy, scenario.traffic, scenario.runs)
    runs = len(outcome.peak_log)
    errors = replace(scenario.traffic, checks=("errors",))
    counts = counted(errors, scenario.shares, 1, 200)
    rows = []
    for alpha in ALPHAS:
        hits = int((outcome.peak_log >= -np.log(alpha)).sum())
        peers = {"upper 95 % bound": upper_bound(hits, runs)} | false_rates(counts, alpha)
        rows.append(
            Measured(
                name=f"false rollback, {scenario.name}, alpha {alpha:.0%}, {runs} runs of 1 h",
                value=100 * hits / runs,
                unit="%",
                goal=f"must: <= {100 * alpha:g} %",
                holds=hits <= alpha * runs,
                peers=peers,
            )
        )
    return rows


def alone(name: str, check: RateCheck | QuantileCheck | ScoreCheck, alpha: float = 0.05) -> Policy:
    """The named check and no other, no grace."""
    checks = Checks(**({"errors": None, "latency": None} | {name: check}))  # type: ignore[arg-type]
    return Policy(grace_s=0, steps=FIXED, checks=checks, alpha=alpha)


NO_MARGIN = RateCheck(margin=0.0, tolerance=1.0)
ALL_CHECKS = Policy(grace_s=0, steps=FIXED, checks=EVERY)


def to_rollback(
    pool: Executor, name: str, policy: Policy, traffic: Traffic, goal: float, **more: object
) -> Measured:
    runs = int(more.pop("runs", SOME))  # type: ignore[call-overload]
    outcome = many(pool, policy, traffic, runs)
    value = float(np.median(outcome.rollback_requests))
    seconds = float(np.median(outcome.rolled_back_s))
    peers: dict[str, float] = {"seconds": seconds} | dict(more.pop("peers", {}))  # type: ignore[call-overload]
    return Measured(
        name=f"{name}, alpha {policy.alpha:.0%}, {runs} runs",
        value=value,
        unit="candidate requests",
        goal=f"<= {goal:.4g}" if goal < np.inf else "",
        holds=value <= goal,
        peers=peers,
    )


def errors_power(pool: Executor, rate: float) -> list[Measured]:
    traffic = Traffic(candidate=Arm(errors=Constant(rate)))
    counts: Counts = counted(traffic, FIXED_SHARES, 1, 200)
    rows = []
    for alpha in ALPHAS:
        limit = least_requests(rate, 0.01, 0.1, alpha)
        peers = {"limit": limit} | (median_requests(counts, alpha) if alpha == 0.05 else {})
        policy = alone("errors", NO_MARGIN, alpha=alpha)
        goal = 1.5 * limit if alpha == 0.05 else np.inf
        name = f"errors 1 -> {100 * rate:g} %, alone, no margin"
        rows.append(to_rollback(pool, name, policy, traffic, goal, peers=peers, runs=MANY))
    margin = alone("errors", RateCheck())
    rows.append(to_rollback(pool, f"errors 1 -> {100 * rate:g} %, default margin", margin, traffic,
                            np.inf))  # fmt: skip
    with_all = replace(traffic, checks=NAMES)
    rows.append(
        to_rollback(pool, f"errors 1 -> {100 * rate:g} %, all nine checks", ALL_CHECKS, with_all,
                    np.inf, runs=CHUNK)
    )  # fmt: skip
    return rows


def other_power(pool: Executor) -> list[Measured]:
    latency = alone("latency", QuantileCheck())
    score = alone("score", ScoreCheck(margin=1e-6))
    margin = alone("score", ScoreCheck())
    slow = Traffic(candidate=Arm(slowdown=1.3), checks=("latency",))
    tail = Traffic(candidate=Arm(slow_part=0.02), checks=("latency",))
    low = Traffic(candidate=Arm(score_fall=0.05), checks=("score",))
    idle = Traffic(rate=1.0, candidate=Arm(errors=Constant(0.2)))
    errors = alone("errors", NO_MARGIN)
    return [
        to_rollback(pool, "latency +30 %, margin 10 %", latency, slow, 140, runs=MANY),
        to_rollback(pool, "p99 only: x5 on 2 %, margin 10 %", latency, tail, 2000),
        to_rollback(pool, "score -0.05, no margin", score, low, 115, runs=MANY),
        to_rollback(pool, "score -0.05, margin 0.02", margin, low, np.inf),
        to_rollback(pool, "1 request/s, errors 1 -> 20 %", errors, idle, 20),
        to_rollback(pool, "latency +30 %, all nine checks", ALL_CHECKS,
                    replace(slow, checks=NAMES), np.inf, runs=CHUNK),
    ]  # fmt: skip


def catastrophe(pool: Executor) -> Measured:
    traffic = Traffic(candidate=Arm(errors=Constant(1.0)))
    outcome = many(pool, Policy(steps=FIXED), traffic, SOME)
    value = float(np.median(outcome.rolled_back_s)) / BLOCK_S
    return Measured(
        name=f"errors 1 -> 100 %, in the grace, default policy, {SOME} runs",
        value=value,
        unit="looks",
        goal="<= 1",
        holds=value <= 1,
        peers={"candidate requests": float(np.median(outcome.rollback_requests))},
    )


def promoted_at_the_margin(pool: Executor) -> list[Measured]:
    half = (SetWeight(5000),)
    errors = Policy(grace_s=0, steps=half, checks=Checks(errors=RateCheck(), latency=None))
    latency = Policy(grace_s=0, steps=half, checks=Checks(errors=None, latency=QuantileCheck()))
    worse = Traffic(candidate=Arm(errors=Constant(0.01)), control=Arm(errors=Constant(0.005)))
    slow = Traffic(candidate=Arm(slowdown=1.1), checks=("latency",))
    rows = []
    for name, policy, traffic in (
        ("twice the errors, +0.5 pp", errors, worse),
        ("latency +10 %", latency, slow),
    ):
        outcome = many(pool, policy, traffic, MANY, HOUR // 2)
        hits = int(np.isfinite(outcome.promoted_s).sum())
        rows.append(
            Measured(
                name=f"promoted exactly at the margin: {name}, {MANY} runs",
                value=100 * hits / MANY,
                unit="%",
                goal="<= 5 % (beta)",
                holds=hits <= 0.05 * MANY,
                peers={"upper 95 % bound": upper_bound(hits, MANY)},
            )
        )
    return rows


def identical(pool: Executor) -> Measured:
    outcome = many(pool, Policy(), Traffic(checks=("errors", "latency")), SOME)
    value = float(np.median(outcome.promoted_s)) / 60
    left = [float(np.median(one)) / 60 for one in outcome.step_s]
    steps = (f"{share} % left after" for share in (5, 25, 50))
    return Measured(
        name=f"identical release promoted, default policy, {SOME} runs",
        value=value,
        unit="min",
        goal="<= 15",
        holds=value <= 15,
        peers=dict(zip(steps, left, strict=True))
        | {"rolled back, %": 100 * float(np.isfinite(outcome.rolled_back_s).mean())},
    )


def sample_ratio(pool: Executor) -> list[Measured]:
    policy = Policy(steps=FIXED, checks=Checks(errors=RateCheck(), latency=None))
    rows = []
    for name, traffic, bad in (
        ("12 % got for 10 % asked, a key a request", Traffic(truth=(0.12 / 0.88) * 9), True),
        ("10 % got for 10 % asked, a key a request", Traffic(), False),
        ("200 unequal sticky users", Traffic(users=200), False),
        ("20 unequal sticky users", Traffic(users=20), False),
    ):
        outcome = many(pool, policy, traffic, SOME)
        found = 100 * float(np.isfinite(outcome.invalid_s).mean())
        rows.append(
            Measured(
                name=f"split told to be wrong: {name}, {SOME} runs of 1 h",
                value=found,
                unit="%",
                goal=">= 99 %" if bad else "<= 1 %",
                holds=found >= 99 if bad else found <= 1,
                peers={"median s": float(np.median(outcome.invalid_s))} if bad else {},
            )
        )
    return rows


def cost(rate: float) -> Measured:
    """One release as the agent judges it: each second a look, each block all checks."""
    traffic = Traffic(rate=rate, checks=NAMES).runs(1, 1)
    judge = Judge(Policy(grace_s=0, checks=EVERY), alpha=0.05)
    blocks = [_as_block(traffic.block(i, np.array([2500]), np.array([True])), i) for i in range(60)]
    started = process_time()
    for block in blocks:
        for _ in range(BLOCK_S):
            judge.absorb(replace(block, guard_only=True))
            judge.judgement()
        judge.absorb(block)
        assert judge.judgement().verdict is not Verdict.INVALID
    spent_ms = 1000 * (process_time() - started) / len(blocks) / BLOCK_S
    return Measured(
        name=f"CPU of a cycle at {rate:g} requests/s, nine checks",
        value=spent_ms,
        unit="ms",
        goal="<= 50",
        holds=spent_ms <= 50,
    )


def _as_block(counts: object, index: int) -> Block:
    def arm(side: str) -> ArmBlock:
        one = getattr(counts, side)
        made = ArmBlock(rows=int(one.ended[0]), answered=int(one.ended[0]))
        for name, values in one.counts.items():
            if name != "hanging_known":
                setattr(made, name, int(values[0]))
        groups = {"request_groups": one.request_groups, "error_groups": one.error_groups}
        for name, bins in {**one.bins, **groups}.items():
            setattr(made, name, {int(i): int(bins[0, i]) for i in np.flatnonzero(bins[0])})
        return made

    return Block(start_second=index * BLOCK_S, seconds=BLOCK_S, generation=1, share_bp=2500,
                 candidate=arm("candidate"), control=arm("control"))  # fmt: skip


def main() -> None:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows: list[Measured] = []
        for scenario in HARMLESS:
            rows += told(false_rollbacks(pool, scenario))
        for rate in (0.05, 0.02):
            rows += told(errors_power(pool, rate))
        rows += told([catastrophe(pool), *other_power(pool)])
        rows += told([*promoted_at_the_margin(pool), identical(pool), *sample_ratio(pool)])
        rows += [cost(rate) for rate in (50.0, 5000.0)]
    write("judge", rows, {"numpy": np.__version__})


def told(rows: Sequence[Measured]) -> Sequence[Measured]:
    """A line each as it comes: the whole takes minutes."""
    for row in rows:
        holds = ("  " if row.holds else "NO") if row.goal else "  "
        print(f"{holds} {row.name}: {row.value:.4g} {row.unit} {row.goal}", flush=True)
    return rows


if __name__ == "__main__":
    main()
