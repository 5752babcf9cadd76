"""Blocks follow the clock and the generations, whatever was in them and however they were read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.policy import Policy
from agent.windows import MAX_BLOCK_S, Block, Cutter, Roles
from mlops.contracts.evidence import (
    AnsweredCounts,
    Evidence,
    ScoreCounts,
    SecondCounts,
    latency_bin,
)

POLICY = Policy(block_s=5, settle_s=5)


def second(
    at: int, arm: str, requests: int, *, generation: int = 1, errors: int = 0
) -> SecondCounts:
    return SecondCounts(
        second=at,
        generation=generation,
        arm=arm,
        rows=requests,
        requests=requests,
        errors=errors,
        latency_bins={100: requests},
    )


def evidence(
    rows: list[SecondCounts],
    *,
    through: int,
    since: int = 100,
    answered: tuple[AnsweredCounts, ...] = (),
    scores: tuple[ScoreCounts, ...] = (),
) -> Evidence:
    return Evidence(
        route="rag",
        since=since,
        closed_through=through,
        seconds=tuple(rows),
        answered=answered,
        scores=scores,
    )


def busy(first: int, last: int, *, generation: int = 1) -> list[SecondCounts]:
    return [
        second(at, arm, count, generation=generation)
        for at in range(first, last + 1)
        for arm, count in (("canary", 2), ("stable", 18))
    ]


def full(blocks: list[Block]) -> list[tuple[int, int, int, bool]]:
    return [
        (block.start_second, block.seconds, block.generation, block.settled)
        for block in blocks
        if not block.guard_only
    ]


def test_blocks_are_cut_by_the_clock_and_the_first_is_not_compared() -> None:
    blocks = Cutter(POLICY, Roles.STEPS).feed(evidence(busy(100, 112), through=112), {1: 1000})
    assert full(blocks) == [(100, 5, 1, False), (105, 5, 1, True)]
    assert blocks[-1].candidate.requests + blocks[-1].control.requests == 20
    settled = next(block for block in blocks if block.settled and not block.guard_only)
    assert (settled.candidate.requests, settled.control.requests) == (10, 90)
    assert settled.candidate.latency_bins == {100: 10}
    assert settled.share_bp == 1000


def test_the_guard_sees_every_closed_second_once() -> None:
    blocks = Cutter(POLICY, Roles.STEPS).feed(evidence(busy(100, 112), through=111), {1: 1000})
    looks = [block for block in blocks if block.guard_only]
    assert [look.start_second for look in looks] == list(range(100, 112))
    assert {look.seconds for look in looks} == {1}


def test_seconds_that_are_not_closed_wait() -> None:
    cutter = Cutter(POLICY, Roles.STEPS)
    rows = busy(100, 120)
    assert full(cutter.feed(evidence(rows, through=103), {1: 1000})) == []
    assert cutter.next_second == 104
    assert full(cutter.feed(evidence(rows, through=104), {1: 1000})) == [(100, 5, 1, False)]


def test_reading_in_pieces_gives_the_same_blocks_as_reading_at_once() -> None:
    rows = busy(100, 119) + busy(117, 150, generation=2)
    shares = {1: 1000, 2: 2500}
    whole = Cutter(POLICY, Roles.STEPS).feed(evidence(rows, through=150), shares)
    pieces = Cutter(POLICY, Roles.STEPS)
    parts: list[Block] = []
    for through in (99, 103, 104, 117, 118, 131, 150):
        parts += pieces.feed(evidence(rows[::-1], through=through), shares)
    assert parts == whole


def test_a_block_never_mixes_generations_and_stragglers_are_not_compared() -> None:
    rows = busy(100, 119) + busy(117, 135, generation=2)
    blocks = full(Cutter(POLICY, Roles.STEPS).feed(evidence(rows, through=135), {1: 1000, 2: 2500}))
    assert (115, 2, 1, True) in blocks
    assert (117, 5, 1, False) in blocks
    assert (117, 5, 2, False) in blocks
    assert (122, 5, 2, True) in blocks


def test_low_traffic_waits_for_twenty_requests_but_no_longer_than_a_minute() -> None:
    slow = [second(at, "stable", 1) for at in range(100, 150)]
    blocks = full(Cutter(POLICY, Roles.STEPS).feed(evidence(slow, through=149), {1: 1000}))
    assert blocks == [(100, 5, 1, False), (105, 20, 1, True), (125, 20, 1, True)]
    rare = [second(at, "stable", 1) for at in (100, 110, 140)]
    blocks = full(Cutter(POLICY, Roles.STEPS).feed(evidence(rare, through=300), {1: 1000}))
    assert blocks == [(100, 5, 1, False), (110, MAX_BLOCK_S, 1, True)]


def test_outcomes_do_not_move_the_cuts() -> None:
    calm = busy(100, 140)
    failing = [second(one.second, one.arm, one.requests, errors=one.requests) for one in calm]
    cuts = [
        full(Cutter(POLICY, Roles.STEPS).feed(evidence(rows, through=140), {1: 1000}))
        for rows in (calm, failing)
    ]
    assert cuts[0] == cuts[1]


def test_only_the_releases_generations_and_both_arms_count() -> None:
    rows = [*busy(100, 110), *busy(100, 110, generation=9), second(101, "holdback", 50)]
    blocks = Cutter(POLICY, Roles.STEPS).feed(evidence(rows, through=110), {1: 1000})
    assert {block.generation for block in blocks} == {1}
    assert sum(b.candidate.requests + b.control.requests for b in blocks if b.guard_only) == 220


def test_in_bake_stable_is_judged_against_the_holdback() -> None:
    rows = [
        second(at, arm, n) for at in range(100, 110) for arm, n in (("stable", 19), ("holdback", 1))
    ]
    blocks = Cutter(POLICY, Roles.BAKE).feed(evidence(rows, through=109), {1: 500})
    assert (blocks[-1].candidate.requests, blocks[-1].control.requests) == (95, 5)
    assert blocks[-1].share_bp == 9500


def test_tallies_and_late_scores_lie_in_the_block_of_their_second() -> None:
    answered = (AnsweredCounts(second=106, generation=1, arm="canary", answered=7, dropped=3),)
    scores = tuple(
        ScoreCounts(
            second=107,
            generation=1,
            arm="stable",
            name="relevance_score",
            count=2,
            total=1.0,
            total_squares=0.5,
        )
        for _ in range(2)
    )
    read = evidence(busy(100, 109), through=109, answered=answered, scores=scores)
    block = Cutter(POLICY, Roles.STEPS).feed(read, {1: 1000})[-1]
    assert (block.candidate.answered, block.candidate.dropped) == (7, 3)
    assert block.control.scores["relevance_score"].count == 4


def test_the_settling_time_can_be_longer_than_a_block() -> None:
    cutter = Cutter(replace(POLICY, settle_s=12), Roles.STEPS)
    blocks = full(cutter.feed(evidence(busy(100, 121), through=121), {1: 1000}))
    assert blocks == [
        (100, 5, 1, False),
        (105, 5, 1, False),
        (110, 2, 1, False),
        (112, 5, 1, True),
        (117, 5, 1, True),
    ]


def test_a_gap_in_what_was_read_is_refused() -> None:
    cutter = Cutter(POLICY, Roles.STEPS)
    cutter.feed(evidence([], through=110), {})
    with pytest.raises(ValueError, match="begins at second 120, expected 111"):
        cutter.feed(evidence([], since=120, through=130), {})


def test_answers_that_never_end_are_counted_once_each_when_they_pass_a_minute() -> None:
    """Ten are open for long, three of them end later on, two more come."""
    told = {105: 10, 106: 10, 107: 7, 108: 9, 109: 9}
    answered = tuple(
        AnsweredCounts(
            second=at, generation=1, arm="canary", answered=2, dropped=0, long_open=still_open
        )
        for at, still_open in told.items()
    )
    late = SecondCounts(
        second=107,
        generation=1,
        arm="canary",
        rows=3,
        requests=2,
        errors=0,
        cancelled=1,
        latency_bins={latency_bin(70e6): 2},
        cancelled_bins={latency_bin(90e6): 1},
    )
    read = evidence([*busy(100, 109), late], through=109, answered=answered)
    block = Cutter(POLICY, Roles.STEPS).feed(read, {1: 1000})[-1]
    assert block.candidate.hanging == 12
    assert block.candidate.ended_long == 3
    assert block.control.hanging == 0


def test_late_scores_keep_where_they_lie() -> None:
    score = ScoreCounts(
        second=106,
        generation=1,
        arm="canary",
        name="grade",
        count=2,
        total=1.5,
        total_squares=1.2,
        bins={100: 1, 199: 1},
    )
    read = evidence(busy(100, 109), through=109, scores=(score, score))
    block = Cutter(POLICY, Roles.STEPS).feed(read, {1: 1000})[-1]
    assert block.candidate.scores["grade"].bins == {100: 2, 199: 2}
