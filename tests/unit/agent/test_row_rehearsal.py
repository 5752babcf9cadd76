"""Skipping what cannot change anything gives what stepping second by second gives."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from agent.policy import Checks, Pause, Policy, QuantileCheck, RateCheck, ScoreCheck, SetWeight
from agent.rehearsal import Ending, Moment, Rehearsal, alone
from agent.row_columns import RowColumns
from agent.row_log import RowLog
from agent.row_rehearsal import RowRehearsal
from agent.watch import sliced
from cli.metrics import metrics_of
from tests.unit.agent.row_evidence import evidence_of

START = 1_700_000_000


def some_policy(rng: np.random.Generator) -> Policy:
    """Of every kind that rows can be judged by."""
    pauses = [Pause(float(rng.choice([0.0, 30.0, 61.5, 400.0]))) for _ in range(2)]
    checks = Checks(
        errors=RateCheck(margin=float(rng.choice([0.0, 0.05, 0.3])), tolerance=3.0),
        client_errors=RateCheck(margin=0.4) if rng.random() < 0.3 else None,
        latency=QuantileCheck(quantiles=(0.5,), margin=2.0) if rng.random() < 0.6 else None,
        score=ScoreCheck(margin=0.4) if rng.random() < 0.3 else None,
    )
    return Policy(
        steps=(SetWeight(500), pauses[0], SetWeight(2500), pauses[1], SetWeight(5000)),
        alpha=float(rng.choice([0.05, 0.3])),
        beta=float(rng.choice([0.05, 0.5])),
        bake_s=float(rng.choice([0.0, 90.0, 900.5])),
        grace_s=float(rng.choice([0.0, 20.0])),
        dwell_s=float(rng.choice([0.0, 10.0, 60.0])),
        block_s=int(rng.choice([1, 5, 90])),
        settle_s=int(rng.choice([1, 5, 12])),
        holdback_share_bp=int(rng.choice([500, 3000])),
        sample_ratio_tolerance=float(rng.choice([1.05, 3.0])),
        invalid_limit_s=float(rng.choice([45.5, 1800.0])),
        rolls_back=bool(rng.random() < 0.8),
        checks=checks,
    )


def some_rows(rng: np.random.Generator) -> RowColumns:
    """Bursts and long silences; weights, arms and troubles that come and go."""
    count = int(rng.integers(200, 1500))
    gaps = rng.exponential(rng.choice([0.02, 0.3, 4.0]), count)
    gaps[rng.random(count) < 0.01] += rng.choice([70.0, 700.0])
    ts = START + np.cumsum(gaps)
    part = np.arange(count) / count
    share = rng.choice([0.1, 0.5])
    arm = (rng.random(count) < share).astype(np.int64)
    if rng.random() < 0.4:  # from some time on the other arm is the holdback
        arm[(part > rng.random()) & (arm == 1)] = 2
    weight = np.full(count, 100 * (share if rng.random() < 0.7 else rng.random()))
    weight[part > rng.random()] = rng.choice([5.0, 40.0, np.nan])
    trouble = rng.choice([0.0, 0.02, 0.4], 3)
    from_when = rng.random()
    rate = np.where((part > from_when) & (arm == 1), trouble[0], trouble[1] / 4)
    drawn = rng.random(count)
    status = np.select([drawn < rate, drawn > 0.98, drawn > 0.95], [503, 499, 404], 200)
    slow = np.where((part > from_when) & (arm == 1), rng.choice([1.0, 4.0]), 1.0)
    latency_ms = slow * rng.lognormal(4, 0.5, count)
    latency_ms[rng.random(count) < 0.01] = rng.choice([np.nan, 80_000.0])
    return RowColumns(
        ts=ts,
        arm=arm,
        status=status,
        latency_ms=latency_ms,
        score=rng.random(count) if rng.random() < 0.5 else None,
        weight=weight if rng.random() < 0.8 else None,
        key_group=rng.integers(0, 16, count),
    )


def cut(rows: RowColumns, end: float) -> RowColumns:
    """What the log had by then."""
    keep = rows.ts < end
    columns = {one.name: getattr(rows, one.name) for one in fields(rows)}
    return RowColumns(
        **{name: None if column is None else column[keep] for name, column in columns.items()}
    )


def told(moments: list[Moment], ending: Ending) -> list[Any]:
    """Everything that anyone is told."""
    lines: list[Any] = [
        (
            one.at_s,
            one.judgement.verdict,
            one.judgement.reasons,
            metrics_of(one.judgement),
            one.action,
            one.reasons,
            one.to_share_bp,
            one.share_bp,
        )
        for one in moments
    ]
    return [*lines, ending]


def stepped(rows: RowColumns, policy: Policy) -> list[Any]:
    """Second by second, through the counts that the feature store would give."""
    evidence, past = evidence_of(rows)
    rehearsal = Rehearsal(policy, past)
    moments = []
    for tick in sliced(evidence, 1):
        moments += rehearsal.feed(tick)
        if rehearsal.is_over:
            break
    return told(moments, rehearsal.ending())


def skipped(rows: RowColumns, policy: Policy) -> list[Any]:
    rehearsal = RowRehearsal(policy, RowLog(rows))
    return told(list(rehearsal.play()), rehearsal.ending())


@pytest.mark.parametrize("seed", range(16))
def test_what_is_skipped_would_have_changed_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy, rows = alone(some_policy(rng)), some_rows(rng)
    assert skipped(rows, policy) == stepped(rows, policy)


@pytest.mark.parametrize("seed", range(100, 104))
def test_a_log_may_end_with_any_second(seed: int) -> None:
    """Also with the one in which something has just happened."""
    rng = np.random.default_rng(seed)
    policy, rows = alone(some_policy(rng)), some_rows(rng)
    moments = list(RowRehearsal(policy, RowLog(rows)).play())
    ends = {one.at_s for one in moments} | {one.at_s + 1 for one in moments if one.action}
    for end in sorted(ends)[:4]:
        until = cut(rows, end)
        assert skipped(until, policy) == stepped(until, policy), end
