"""The judge's promises on simulated traffic, seeds fixed, and its answers to broken evidence."""

from __future__ import annotations

from dataclasses import astuple, replace
from statistics import median
from typing import Any

import numpy as np
import pytest

from agent.judge import CheckResult, Judge, Verdict
from agent.policy import Checks, Policy, QuantileCheck, RateCheck, ScoreCheck, SetWeight
from agent.windows import ArmBlock, Block, ScoreSums

ERRORS_ONLY = Policy(grace_s=0, checks=Checks(errors=RateCheck(), latency=None))
EVERYTHING = replace(ERRORS_ONLY, checks=Checks(ttft=QuantileCheck(), score=ScoreCheck()))
DECIDED = (Verdict.HEALTHY, Verdict.REGRESSED, Verdict.INVALID)

Simulate = Any
Make = Any


def block(
    index: int, candidate: tuple[int, int], control: tuple[int, int], **changes: Any
) -> Block:
    arms = {
        name: ArmBlock(rows=count, answered=count, requests=count, errors=errors)
        for name, (count, errors) in (("candidate", candidate), ("control", control))
    }
    fields: dict[str, Any] = {"generation": 1, "share_bp": 1000, **arms, **changes}
    return Block(start_second=5 * index, seconds=5, **fields)


def fed(judge: Judge, count: int, candidate: tuple[int, int], control: tuple[int, int]) -> Judge:
    for index in range(count):
        judge.absorb(block(index, candidate, control))
    return judge


def test_no_evidence_is_undecided() -> None:
    judge = Judge(EVERYTHING, alpha=0.05)
    assert judge.judgement().verdict is Verdict.UNDECIDED
    for index in range(200):
        judge.absorb(block(index, (0, 0), (0, 0)))
        judge.absorb(block(index, (0, 0), (0, 0), guard_only=True))
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.UNDECIDED
    for result in judgement.checks.values():
        assert result.e_value == pytest.approx(1.0)
        assert result.noninferiority_e_value == pytest.approx(1.0)


def test_a_policy_without_checks_proves_nothing() -> None:
    judge = Judge(Policy(checks=Checks(errors=None, latency=None)), alpha=0.05)
    assert fed(judge, 100, (25, 0), (225, 0)).judgement().verdict is Verdict.UNDECIDED


def test_one_of_several_checks_without_data_holds() -> None:
    policy = replace(ERRORS_ONLY, checks=Checks(latency=None, score=ScoreCheck()))
    judgement = fed(Judge(policy, alpha=0.05), 300, (25, 0), (225, 0)).judgement()
    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.checks["errors"].noninferiority_e_value > 20
    assert [reason.split(":")[0] for reason in judgement.reasons] == ["score"]


def test_undecided_says_what_is_missing_in_numbers() -> None:
    judgement = fed(Judge(ERRORS_ONLY, alpha=0.05), 8, (25, 0), (225, 2)).judgement()
    assert judgement.verdict is Verdict.UNDECIDED
    needed = judgement.checks["errors"].still_needed
    assert needed is not None
    assert 10 < needed < 2000
    assert judgement.reasons == (
        f"errors: 200 candidate requests, about {needed} more needed at this margin",
    )


def test_harmless_candidates_are_rarely_rolled_back(fleet: Any, traffic: Make) -> None:
    """1,000 runs, a look at every block, alpha 5 %."""
    ever = fleet(traffic(rate=100.0), runs=1000, blocks=120)
    assert ever.regressed.mean() <= 0.05
    assert ever.invalid.mean() <= 0.002


def test_a_ramp_with_a_rising_baseline_is_no_evidence(fleet: Any, traffic: Make) -> None:
    """Pooled over the run, the candidate looks three times worse: it had its traffic late."""

    def ramp(index: int) -> Any:
        rate = 0.002 + 0.03 * index / 240
        share = (500, 1000, 2500, 5000)[index // 60]
        return traffic(candidate=rate, control=rate, share_bp=share, rate=100.0)

    assert fleet(ramp, runs=300, blocks=240).regressed.mean() <= 0.05


def test_five_times_the_errors_are_found_within_some_two_hundred_requests(
    simulate: Simulate, traffic: Make
) -> None:
    runs = [
        simulate(seed, traffic(candidate=0.05), until=(Verdict.REGRESSED,)) for seed in range(41)
    ]
    assert median(run.candidate_requests for run in runs) <= 230


def test_a_dead_candidate_is_found_in_the_first_block_even_in_the_grace(
    simulate: Simulate, traffic: Make
) -> None:
    policy = replace(ERRORS_ONLY, grace_s=60)
    for seed in range(20):
        run = simulate(seed, traffic(candidate=1.0), until=DECIDED, policy=policy)
        assert run.verdict is Verdict.REGRESSED
        assert run.blocks == 1
        assert run.judgement.reasons[0].startswith("guard:")


def test_a_cold_start_within_the_grace_is_forgiven() -> None:
    judge = Judge(replace(ERRORS_ONLY, grace_s=60), alpha=0.05)
    for index in range(12):
        judge.absorb(block(index, (25, 3), (225, 2)))
    assert judge.judgement().checks["errors"].candidate_count == 0
    judge.absorb(block(12, (25, 0), (225, 2)))
    assert judge.judgement().checks["errors"].candidate_count == 25


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_an_equal_candidate_is_promoted_in_bounded_requests(
    rate: float, simulate: Simulate, traffic: Make
) -> None:
    same = traffic(candidate=rate, control=rate, share_bp=5000)
    runs = [simulate(seed, same, until=DECIDED) for seed in range(15)]
    assert all(run.verdict is Verdict.HEALTHY for run in runs)
    assert median(run.candidate_requests for run in runs) <= (1200 if rate == 0 else 4000)


def test_a_candidate_at_the_margin_is_rarely_promoted(fleet: Any, traffic: Make) -> None:
    at_margin = traffic(candidate=0.01, control=0.005, share_bp=5000)
    assert fleet(at_margin, runs=500, blocks=200).healthy.mean() <= 0.05


def test_all_checks_promote_an_equal_candidate_and_find_a_slow_one(
    simulate: Simulate, traffic: Make
) -> None:
    policy = replace(ERRORS_ONLY, checks=Checks())
    same = traffic(share_bp=5000, latencies=True)
    assert simulate(1, same, until=DECIDED, policy=policy).verdict is Verdict.HEALTHY
    slow = traffic(slowdown=1.3, latencies=True)
    run = simulate(2, slow, until=DECIDED, policy=policy)
    assert run.verdict is Verdict.REGRESSED
    assert run.judgement.reasons[0].startswith("latency:")
    assert run.judgement.checks["latency"].effect == pytest.approx(0.3, abs=0.15)


def test_a_hanging_candidate_is_never_healthy(traffic: Make) -> None:
    """Its requests are cancelled by the clients: no errors, only elapsed time."""
    rng = np.random.default_rng(3)
    judge = Judge(replace(ERRORS_ONLY, checks=Checks()), alpha=0.05)
    for index in range(40):
        one = traffic(latencies=True).block(rng, index)
        gone = ArmBlock(rows=25, answered=25, cancelled=25, cancelled_bins={600: 25})
        judge.absorb(replace(one, candidate=gone))
        assert judge.judgement().verdict is not Verdict.HEALTHY
    assert judge.judgement().verdict is Verdict.REGRESSED


def test_a_small_rise_is_suspicious_and_holds_but_is_no_reason_to_go_back() -> None:
    """Evidence of more errors, yet less than the margin that matters."""
    policy = replace(ERRORS_ONLY, checks=Checks(errors=RateCheck(margin=0.02), latency=None))
    judgement = fed(Judge(policy, alpha=0.05), 300, (250, 2), (2250, 5)).judgement()
    assert judgement.checks["errors"].e_value > 20
    assert judgement.verdict is Verdict.UNDECIDED
    assert "suspicious" in judgement.reasons[0]


def test_absorbing_again_from_scratch_gives_the_same_judgement(traffic: Make) -> None:
    rng = np.random.default_rng(5)
    blocks = [traffic(latencies=True).block(rng, index) for index in range(60)]
    judgements = []
    for _ in range(2):
        judge = Judge(replace(ERRORS_ONLY, checks=Checks()), alpha=0.05)
        for one in blocks:
            judge.absorb(one)
            judge.judgement()
        judgements.append(judge.judgement())
    assert judgements[0] == judgements[1]


def flat(result: CheckResult) -> list[float | None]:
    return [*astuple(replace(result, interval=None)), *(result.interval or ())]


def test_many_blocks_at_once_are_judged_as_one_by_one(traffic: Make) -> None:
    """Also the looks between them, and at each moment what was to be said then."""
    rng = np.random.default_rng(7)
    blocks = []
    for index in range(60):
        rate = 0.02 if index < 30 else 0.2
        one = traffic(candidate=rate, latencies=True, share_bp=2500).block(rng, index)
        one.settled = index % 9 != 0
        one.control.answered += 5 * (index == 12)
        blocks += [replace(one, guard_only=True), one]
    policy = replace(ERRORS_ONLY, grace_s=20, checks=Checks())
    alone, together = Judge(policy, alpha=0.05), Judge(policy, alpha=0.05)
    expected = []
    for one in blocks:
        alone.absorb(one)
        if not one.guard_only or one.candidate.errors:
            expected.append(alone.judgement(2500))
    together.absorb(*blocks[:1])
    together.absorb(*blocks[1:])
    verdicts = together.verdicts(2500)
    assert len({*verdicts}) == 3
    assert list(verdicts) == [one.verdict for one in expected][-len(verdicts) :]
    for moment, wanted in enumerate(expected[-len(verdicts) :]):
        found = together.judgement(2500, moment)
        assert found.reasons == wanted.reasons
        assert found.e_value == pytest.approx(wanted.e_value)
        for name, check in wanted.checks.items():
            assert flat(found.checks[name]) == pytest.approx(flat(check)), name


def test_looking_changes_nothing(traffic: Make) -> None:
    rng = np.random.default_rng(6)
    blocks = [traffic().block(rng, index) for index in range(30)]
    silent, watched = Judge(ERRORS_ONLY, alpha=0.05), Judge(ERRORS_ONLY, alpha=0.05)
    for one in blocks:
        silent.absorb(one)
        watched.absorb(one)
        watched.judgement()
    assert silent.judgement() == watched.judgement()


@pytest.mark.parametrize("candidate", [0, 8, 60])
def test_a_split_that_was_not_asked_for_is_invalid_and_never_a_rollback(candidate: int) -> None:
    judge = fed(Judge(ERRORS_ONLY, alpha=0.05), 40, (candidate, candidate), (225, 0))
    judge.absorb(block(40, (candidate, candidate), (225, 0), guard_only=True))
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.INVALID
    assert "expected about" in judgement.reasons[0]
    assert f"got {36 * candidate} of the last {36 * (candidate + 225)}" in judgement.reasons[0]


@pytest.mark.parametrize(("users", "invalid"), [(150, False), (0, True)])
def test_uneven_sticky_users_are_allowed_for_and_a_split_of_requests_is_not(
    users: int, invalid: bool
) -> None:
    """12 % where 10 % were asked: of 150 users that is luck, of as many requests it is a fault."""
    rng = np.random.default_rng(4)
    judge = Judge(ERRORS_ONLY, alpha=0.05)
    weights = rng.dirichlet(np.ones(users or 1))
    groups = rng.integers(0, 16, users or 1)
    for index in range(100):
        one = block(index, (30, 0), (220, 2))
        for arm, count in ((one.candidate, 30), (one.control, 220)):
            drawn = rng.choice(groups, count, p=weights) if users else rng.integers(0, 16, count)
            found, counts = np.unique(drawn, return_counts=True)
            arm.request_groups = dict(zip(found.tolist(), counts.tolist(), strict=True))
        judge.absorb(one)
    assert (judge.judgement().verdict is Verdict.INVALID) == invalid


def test_a_split_put_right_is_believed_again() -> None:
    judge = fed(Judge(ERRORS_ONLY, alpha=0.05), 100, (0, 0), (250, 0))
    assert judge.judgement().verdict is Verdict.INVALID
    for index in range(100, 160):
        judge.absorb(block(index, (25, 0), (225, 0)))
    assert judge.judgement().verdict is not Verdict.INVALID


@pytest.mark.parametrize("arm", ["candidate", "control"])
def test_missing_rows_are_invalid_until_they_are_long_past(arm: str) -> None:
    judge = Judge(ERRORS_ONLY, alpha=0.05)
    hole = block(0, (25, 0), (225, 2))
    getattr(hole, arm).answered += 20
    getattr(hole, arm).dropped = 20
    judge.absorb(hole)
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.INVALID
    assert f"of the {arm}" in judgement.reasons[0]
    assert "20 of them dropped" in judgement.reasons[0]
    for index in range(1, 40):
        judge.absorb(block(index, (25, 0), (225, 2)))
    assert judge.judgement().verdict is not Verdict.INVALID


@pytest.mark.parametrize("arm", ["candidate", "control"])
def test_rows_that_no_tally_tells_of_are_invalid(arm: str) -> None:
    judge = Judge(ERRORS_ONLY, alpha=0.05)
    untold = block(0, (25, 0), (225, 2))
    getattr(untold, arm).answered = 0
    judge.absorb(untold)
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.INVALID
    assert "tallies tell of 0 answered requests" in judgement.reasons[0]
    for index in range(1, 40):
        judge.absorb(block(index, (25, 0), (225, 2)))
    assert judge.judgement().verdict is not Verdict.INVALID


def test_the_last_step_and_bake_prove_the_policys_own_margins() -> None:
    judge = fed(Judge(ERRORS_ONLY, alpha=0.05), 20, (25, 0), (225, 3))
    widest, wide, final = (
        judge.judgement(share).checks["errors"].noninferiority_e_value
        for share in (500, 1000, 5000)
    )
    assert widest > wide > final
    assert judge.judgement(9500).checks["errors"].noninferiority_e_value == final
    small = replace(ERRORS_ONLY, steps=(SetWeight(500),))
    only_step = fed(Judge(small, alpha=0.05), 20, (25, 0), (225, 3)).judgement(500)
    assert only_step.checks["errors"].noninferiority_e_value == final


def test_unsettled_blocks_are_compared_by_the_guard_alone() -> None:
    judge = Judge(ERRORS_ONLY, alpha=0.05)
    judge.absorb(block(0, (25, 25), (225, 0), settled=False))
    assert judge.judgement().checks["errors"].candidate_count == 0
    judge.absorb(block(0, (25, 25), (225, 0), settled=False, guard_only=True))
    assert judge.judgement().verdict is Verdict.REGRESSED


def test_fifty_thousand_requests_in_a_block_stay_finite() -> None:
    judge = fed(Judge(ERRORS_ONLY, alpha=0.05), 5, (25_000, 12_500), (225_000, 112_400))
    assert np.isfinite(judge.judgement().e_value)
    judge = fed(Judge(ERRORS_ONLY, alpha=0.05), 5, (25_000, 25_000), (225_000, 0))
    assert judge.judgement().verdict is Verdict.REGRESSED


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="is outside"):
        Judge(ERRORS_ONLY, alpha=alpha)


def test_answers_that_never_end_are_a_regression_of_their_own() -> None:
    judge = Judge(ERRORS_ONLY, alpha=0.05)
    for index in range(12):
        one = block(index, (20, 0), (225, 2))
        one.candidate.hanging = 3
        judge.absorb(one)
        assert judge.judgement().verdict is not Verdict.HEALTHY
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.REGRESSED
    assert judgement.reasons[0].startswith(
        "hanging: 36 requests of the candidate open for a minute"
    )
    assert judgement.reasons[0].endswith("limit 20)")


def test_requests_that_hang_while_the_candidate_warms_up_are_forgiven() -> None:
    judge = Judge(replace(ERRORS_ONLY, grace_s=60.0), alpha=0.05)
    for index in range(12):
        one = block(index, (20, 0), (225, 2))
        one.candidate.hanging = 3
        judge.absorb(one)
    assert judge.judgement().verdict is Verdict.UNDECIDED


def test_a_score_that_is_not_comparable_is_not_judged() -> None:
    policy = replace(ERRORS_ONLY, checks=Checks(latency=None, score=ScoreCheck(comparable=False)))
    judge = Judge(policy, alpha=0.05)
    for index in range(30):
        one = block(index, (25, 0), (225, 2))
        one.candidate.score_bins, one.control.score_bins = {10: 25}, {190: 225}
        judge.absorb(one)
    assert set(judge.judgement().checks) == {"errors"}
    assert judge.judgement().verdict is not Verdict.REGRESSED


@pytest.mark.parametrize("field", ["relevance_score", "grade"])
def test_a_score_is_judged_from_the_rows_or_late_by_its_name(field: str) -> None:
    policy = replace(ERRORS_ONLY, checks=Checks(latency=None, score=ScoreCheck(field=field)))
    judge = Judge(policy, alpha=0.05)
    for index in range(30):
        one = block(index, (25, 0), (225, 2))
        for arm, at, count in ((one.candidate, 120, 25), (one.control, 160, 225)):
            if field == "grade":
                arm.scores["grade"] = ScoreSums(count=count, bins={at: count})
            else:
                arm.score_bins = {at: count}
        judge.absorb(one)
    judgement = judge.judgement()
    assert judgement.verdict is Verdict.REGRESSED
    assert judgement.checks["score"].effect == pytest.approx(-0.2, abs=0.01)
    assert judgement.checks["score"].interval is not None


def test_every_number_of_a_judgement_is_a_plain_one() -> None:
    """The journal and the API write them as JSON, which knows none of numpy's."""
    judge = fed(Judge(EVERYTHING, alpha=0.05), 60, (25, 1), (225, 3))

    for name, result in judge.judgement().checks.items():
        strange = [one for one in flat(result) if type(one) not in {int, float, type(None)}]
        assert not strange, f"{name}: {strange}"
