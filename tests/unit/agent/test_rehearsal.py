"""A log played through the real judge and stepper: what changes, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.judge import Verdict
from agent.policy import Checks, Pause, Policy, RateCheck, SetMirror, SetWeight
from agent.rehearsal import Ending, Moment, Rehearsal, alone, past_of, ticks
from agent.row_counts import RowColumns, evidence_of
from mlops.contracts.evidence import latency_bin

POLICY = Policy(
    steps=(SetWeight(1000), SetWeight(5000)),
    grace_s=5,
    dwell_s=10,
    checks=Checks(errors=RateCheck(), latency=None),
)


def log(seconds: int, canary: Any, stable: Any = 0.01, **changes: Any) -> RowColumns:
    """Fifty requests a second; error rates by second."""
    rng = np.random.default_rng(1)
    count = 50 * seconds
    ts = np.repeat(np.arange(seconds), 50) + 1_700_000_000.5
    arm = (rng.random(count) < 0.5).astype(np.int64)
    at = ts - ts[0]
    rates = np.where(arm == 1, canary(at) if callable(canary) else canary, stable)
    columns: dict[str, Any] = {
        "ts": ts,
        "arm": arm,
        "status": np.where(rng.random(count) < rates, 503, 200),
        "latency_ms": rng.lognormal(4, 0.5, count),
        "weight": np.full(count, 50.0),
        "key_group": rng.integers(0, 16, count),
        **changes,
    }
    return RowColumns(**columns)


def played(rows: RowColumns, policy: Policy = POLICY) -> tuple[list[Moment], Ending]:
    evidence, shares = evidence_of(rows)
    rehearsal = Rehearsal(alone(policy), past_of(evidence, shares))
    moments = []
    for tick in ticks(evidence):
        moments += rehearsal.feed(tick)
        if rehearsal.is_over:
            break
    return moments, rehearsal.ending()


def test_a_good_release_is_promoted_step_by_step() -> None:
    moments, ending = played(log(400, 0.01))
    actions = [one.action for one in moments if one.action]
    assert actions[:2] == ["step", "promoted"]
    assert ending.result == "promoted"
    assert moments[0].at_s < ending.at_s < 1_700_000_400


def test_a_bad_one_is_rolled_back_and_reading_ends() -> None:
    moments, ending = played(log(400, 0.2))
    assert ending.result == "rolled_back"
    assert moments[-1].action == "rolled_back"
    assert moments[-1].judgement.verdict is Verdict.REGRESSED
    assert ending.canary_requests < 2000
    assert "errors" in ending.reason


def test_a_regression_after_the_promotion_ends_rolled_back() -> None:
    rows = log(900, lambda at: np.where(at > 600, 0.15, 0.01))
    moments, ending = played(rows)
    assert "promoted" in [one.action for one in moments]
    assert ending.result == "rolled_back"
    assert 1_700_000_600 < ending.at_s < 1_700_000_660


def test_also_where_the_policys_bake_is_over_by_then() -> None:
    rows = log(900, lambda at: np.where(at > 600, 0.15, 0.01))
    assert played(rows, replace(POLICY, bake_s=0))[1].result == "rolled_back"


def test_a_holdback_is_judged_from_where_the_log_has_it() -> None:
    """The stepper promotes sooner than the log did: what still was a canary is no bake."""
    seconds, held_from = 900, 600
    second = np.repeat(np.arange(seconds), 50)
    drawn = np.random.default_rng(2).random(len(second))
    arm = np.where(second < held_from, drawn < 0.5, 2 * (drawn < 0.05)).astype(np.int64)
    is_bad = np.random.default_rng(3).random(len(second)) < np.where(
        (second >= held_from + 120) & (arm == 0), 0.15, 0.01
    )
    rows = log(
        seconds,
        0.0,
        arm=arm,
        status=np.where(is_bad, 503, 200),
        weight=np.where(second < held_from, 50.0, 5.0),
    )
    moments, ending = played(rows)
    promoted = next(one for one in moments if one.action == "promoted")
    assert promoted.at_s < 1_700_000_000 + held_from
    assert Verdict.INVALID not in {one.judgement.verdict for one in moments}
    assert ending.result == "rolled_back"
    assert 1_700_000_720 < ending.at_s < 1_700_000_800
    assert ending.canary_requests == int((arm == 1).sum())


def test_silence_is_passed_over_but_ends_blocks_in_time() -> None:
    evidence, _ = evidence_of(log(2, 0.01, ts=np.repeat([10.0, 5_000.0], 50)))
    spans = [(one.since, one.closed_through, len(one.seconds)) for one in ticks(evidence)]
    assert spans[0] == (10, 10, 2)
    assert spans[1:61] == [(second, second, 0) for second in range(11, 71)]
    assert spans[61:] == [(71, 4_999, 0), (5_000, 5_000, 2)]


def test_too_little_is_undecided_and_a_wrong_split_invalid() -> None:
    assert played(log(20, 0.01))[1].result == "undecided"
    rows = log(120, 0.01, weight=np.full(50 * 120, 10.0))
    moments, ending = played(rows)
    assert ending.result == "invalid"
    assert "split not as asked" in ending.reason
    assert moments[-1].judgement.verdict is Verdict.INVALID


def test_each_change_of_weight_in_the_log_is_told() -> None:
    weight = np.where(np.arange(50 * 120) < 50 * 60, 40.0, 60.0)
    moments, _ = played(log(120, 0.01, weight=weight))
    assert {one.share_bp for one in moments} == {4000, 6000}


def test_what_a_log_cannot_answer_is_taken_as_passed() -> None:
    steps = (SetMirror(2000), Pause(), SetWeight(1000), Pause(), SetWeight(5000), Pause(60.0))
    policy = alone(Policy(steps=steps, gates=("on call",)))
    assert policy.steps == (SetWeight(1000), Pause(0.0), SetWeight(5000), Pause(60.0))
    assert policy.gates == ()


def test_rows_are_counted_as_the_store_counts_them() -> None:
    rows = RowColumns(
        ts=np.array([10.2, 10.9, 11.0, 11.5, 11.6]),
        arm=np.array([1, 1, 0, 1, 1]),
        status=np.array([200, 429, 404, 499, 200]),
        latency_ms=np.array([12.0, 900.0, np.nan, 3000.0, 1.0]),
        ttft_ms=np.array([4.0, np.nan, np.nan, np.nan, 0.01]),
        score=np.array([1.0, np.nan, 0.5, np.nan, 0.0]),
        key_group=np.array([3, 4, 5, 6, 3]),
    )
    evidence, shares = evidence_of(rows)
    first, stable, last = evidence.seconds
    assert (evidence.since, evidence.closed_through, shares) == (10, 11, {1: 0})
    assert (first.second, first.arm, first.requests, first.errors) == (10, "canary", 2, 1)
    assert first.latency_bins == {latency_bin(12_000): 1, latency_bin(900_000): 1}
    assert first.first_byte_bins == {latency_bin(4_000): 1}
    assert first.score_bins == {199: 1}
    assert first.error_groups == {4: 1}
    assert (stable.client_errors, stable.latency_bins, stable.score_bins) == (1, {}, {100: 1})
    assert (last.requests, last.cancelled, last.rows) == (1, 1, 2)
    assert last.cancelled_bins == {latency_bin(3e6): 1}
    assert last.first_byte_bins == {0: 1}


@pytest.mark.parametrize("weights", [[5.0, np.nan, 5.0, 25.0], [np.nan, 5.0, 5.0, 25.0]])
def test_generations_are_stretches_of_one_weight(weights: list[float]) -> None:
    rows = RowColumns(
        ts=np.array([1.0, 2.0, 3.0, 4.0]),
        arm=np.zeros(4, np.int64),
        status=np.full(4, 200),
        latency_ms=np.ones(4),
        weight=np.array(weights),
        key_group=np.zeros(4, np.int64),
    )
    evidence, shares = evidence_of(rows)
    asked = [shares[one.generation] for one in evidence.seconds]
    assert asked[1:] == [500, 500, 2500]
    assert asked[0] in {0, 500}
