"""A log played through the real judge and stepper: what changes, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.judge import Verdict
from agent.policy import Checks, Pause, Policy, RateCheck, ScoreCheck, SetMirror, SetWeight
from agent.rehearsal import Ending, Moment, alone
from agent.row_columns import RowColumns
from agent.row_log import RowLog
from agent.row_rehearsal import RowRehearsal

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
    rehearsal = RowRehearsal(alone(policy), RowLog(rows))
    return list(rehearsal.play()), rehearsal.ending()


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
    named = alone(Policy(checks=Checks(score=ScoreCheck(field="grade"))))
    assert named.checks.score == ScoreCheck()


@pytest.mark.parametrize("weights", [[5.0, np.nan, 5.0, 25.0], [np.nan, 5.0, 5.0, 25.0]])
def test_generations_are_stretches_of_one_weight(weights: list[float]) -> None:
    rows = log(4, 0.0, weight=np.repeat(weights, 50))
    found = RowLog(rows)
    asked = [share for _, share in found.changes]
    assert asked in ([500, 2500], [0, 500, 2500])
    assert found.past.shares == dict(enumerate(asked, start=1))
