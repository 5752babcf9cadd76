"""Two answers to one query: what is compared, what is proved, and how often it is wrong."""

from __future__ import annotations

import random
from dataclasses import replace as amended

import pytest

from agent.judge import Verdict
from agent.pairs import PairsJudge, overlap_at, rank_biased_overlap
from agent.policy import PairsCheck, Policy, SetMirror, SetWeight
from agent.policy_file import PolicyError, parse_policy
from agent.release import Release
from agent.watch import PairsWatch, part_of_alpha
from mlops.contracts.evidence import Pair, PairSide
from mlops.contracts.plan import Slot

POLICY = Policy(steps=(SetMirror(2000), SetWeight(500)))
ALPHA = 0.05
STABLE = Slot(version="a", endpoints=("http://127.0.0.1:9",))


def side(version: str, **changes: object) -> PairSide:
    values: dict[str, object] = {
        "version": version,
        "arm": "stable",
        "outcome": "ok",
        "status": 200,
        "latency_us": 50_000,
        "relevance_score": 0.8,
        "answer_chars": 400,
        "retrieved_ids": ["d1", "d2", "d3"],
        "retrieved_scores": [0.9, 0.8, 0.7],
    }
    return PairSide(**(values | changes))


def pair(second: int = 0, served: object = None, mirror: object = None) -> Pair:
    return Pair(
        request_id="r",
        generation=2,
        ended_at_us=second * 1_000_000,
        served=side("a") if served is None else served,
        mirror=side("b") if mirror is None else mirror,
    )


def verdict_after(pairs: list[Pair], policy: Policy = POLICY) -> tuple[Verdict, str, int]:
    """The first verdict that is not UNDECIDED, its reason, and after how many pairs."""
    judge = PairsJudge(policy, alpha=ALPHA)
    for number, one in enumerate(pairs, 1):
        judge.absorb([one])
        said = judge.judgement()
        if said.verdict is not Verdict.UNDECIDED:
            return said.verdict, said.reasons[0], number
    return Verdict.UNDECIDED, "", len(pairs)


def test_equal_answers_prove_themselves() -> None:
    verdict, reason, pairs = verdict_after([pair()] * 1_000)
    assert verdict is Verdict.HEALTHY
    assert pairs <= 260
    assert "pairs prove no harm" in reason


@pytest.mark.parametrize(
    ("mirror", "named", "policy"),
    [
        (side("b", outcome="upstream_error", status=500), "errors", POLICY),
        (side("b", latency_us=90_000), "latency", POLICY),
        (side("b", answer_chars=100), "length", POLICY),
        (
            side("b", relevance_score=0.5),
            "score",
            amended(POLICY, pairs=PairsCheck(score=0.1)),
        ),
        (
            side("b", retrieved_ids=["x", "y", "z"]),
            "overlap",
            amended(POLICY, pairs=PairsCheck(overlap=0.5)),
        ),
    ],
)
def test_a_candidate_that_is_always_worse_is_found_within_some_pairs(
    mirror: PairSide, named: str, policy: Policy
) -> None:
    verdict, reason, pairs = verdict_after([pair(mirror=mirror)] * 200, policy)
    assert verdict is Verdict.REGRESSED
    assert reason.startswith(f"pairs, {named}")
    assert pairs <= 25


def test_what_the_policy_does_not_ask_for_is_told_and_not_judged() -> None:
    other = side("b", retrieved_ids=["x", "y", "z"], relevance_score=0.1)
    judge = PairsJudge(POLICY, alpha=ALPHA)
    judge.absorb([pair(mirror=other)] * 500)
    said = judge.judgement()
    assert said.verdict is Verdict.HEALTHY
    assert said.checks["overlap_at_k"].candidate_value == 0
    assert "score" not in said.checks


def test_failures_of_both_and_cancelled_ones_say_nothing_against_the_candidate() -> None:
    failed = side("a", outcome="timeout")
    judge = PairsJudge(POLICY, alpha=ALPHA)
    judge.absorb([pair(served=failed, mirror=side("b", outcome="timeout"))] * 300)
    assert judge.judgement().verdict is Verdict.HEALTHY
    fresh = PairsJudge(POLICY, alpha=ALPHA)
    fresh.absorb([pair(mirror=side("b", outcome="cancelled"))] * 300)
    said = fresh.judgement()
    assert said.verdict is Verdict.UNDECIDED
    assert "do the gateways mirror" in said.reasons[0]


def runs(worse: float, better: float, count: int, pairs: int) -> list[Verdict]:
    """Verdicts of runs in which latency differs beyond the tolerance that often, either way."""
    draws = random.Random(20_261_125)
    found = []
    for _ in range(count):
        judge = PairsJudge(POLICY, alpha=ALPHA)
        first = Verdict.UNDECIDED
        for _ in range(pairs // 5):
            block = []
            for _ in range(5):
                draw = draws.random()
                slow = 90_000 if draw < worse else 30_000 if draw > 1 - better else 50_000
                block.append(pair(mirror=side("b", latency_us=slow)))
            judge.absorb(block)
            if (first := judge.judgement().verdict) is not Verdict.UNDECIDED:
                break
        found.append(first)
    return found


def test_noise_both_ways_is_not_a_regression_however_often_one_looks() -> None:
    """60 looks each; at the margin itself, where it is hardest: at most alpha, and luck."""
    found = runs(worse=0.21, better=0.19, count=150, pairs=300)
    assert found.count(Verdict.REGRESSED) <= 12


def test_one_worse_than_the_margin_is_not_called_healthy() -> None:
    found = runs(worse=0.05, better=0.0, count=100, pairs=300)
    assert found.count(Verdict.HEALTHY) <= 9


@pytest.mark.parametrize(
    ("one", "other", "overlap", "ranked"),
    [
        ("abc", "abc", 1.0, 1.0),
        ("abc", "xyz", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("abc", "", 0.0, 0.0),
        ("ab", "ba", 1.0, 0.9),  # (1-p)(0 + p) + p^2 with p = 0.9
    ],
)
def test_overlap_and_rank_biased_overlap(
    one: str, other: str, overlap: float, ranked: float
) -> None:
    assert overlap_at(10, one, other) == pytest.approx(overlap)
    assert rank_biased_overlap(one, other, 10) == pytest.approx(ranked)


def test_a_change_at_the_top_weighs_more_than_one_below() -> None:
    top = rank_biased_overlap("abcdef", "xbcdef", 10)
    below = rank_biased_overlap("abcdef", "abcdex", 10)
    assert top < below < 1


def watching() -> PairsWatch:
    release = Release(
        id="rel-1",
        route="rag",
        candidate=Slot(version="b", endpoints=("http://127.0.0.1:10",)),
        base=STABLE,
        policy={},
        reason="",
        started_by="",
        started_at_s=100.0,
    )
    return PairsWatch(release, POLICY)


def test_a_read_that_was_cut_off_takes_no_pair_twice_and_leaves_none_out() -> None:
    watch = watching()
    everything = [pair(second) for second in (100, 101, 101, 102, 102, 102, 103)]
    limit = 4
    while watch.next_second <= 103:
        since = watch.next_second
        left = [one for one in everything if one.ended_at_us >= since * 1_000_000]
        watch.take(left[:limit], 103, limit)
    assert watch.judge.pairs == len(everything)


def test_pairs_of_other_versions_are_left_out() -> None:
    watch = watching()
    watch.take([pair(100, mirror=side("c")), pair(100, served=side("z")), pair(100)], 110, 99)
    assert watch.judge.pairs == 1
    assert watch.next_second == 111


def test_what_mirror_steps_and_bake_may_spend_is_alpha_together() -> None:
    parts = ("mirror", "steps", "bake")
    assert sum(part_of_alpha(POLICY, part) for part in parts) == pytest.approx(POLICY.alpha)
    plain = Policy()
    assert part_of_alpha(plain, "steps") + part_of_alpha(plain, "bake") == pytest.approx(
        plain.alpha
    )


def test_what_is_compared_later_gives_no_evidence_by_being_compared() -> None:
    """Stopping where it looks worst gains nothing: the mean stays 1 at the margin itself."""

    def e_value(*pairs: Pair) -> float:
        judge = PairsJudge(POLICY, alpha=ALPHA)
        judge.absorb(pairs)
        return judge.judgement().e_value

    failed = {"outcome": "upstream_error", "status": 500}
    worse, better = pair(mirror=side("b", **failed)), pair(served=side("a", **failed))
    # With a margin of 2 %: worse in 51 %, better in 49 %. After a better one, a pair that brings
    # the first latency and length.
    assert 0.51 * e_value(worse) + 0.49 * e_value(better, pair()) <= 1.0 + 1e-9


@pytest.mark.parametrize("pairs", [{"overlap": 1}, {"overlap": "100%"}, {"margin": "100%"}])
def test_a_policy_whose_pairs_could_never_be_decided_is_refused(pairs: dict[str, object]) -> None:
    steps = [{"setMirror": 10}, {"setWeight": 5}]
    with pytest.raises(PolicyError, match="above 0 and below 100%"):
        parse_policy({"steps": steps, "pairs": pairs})
