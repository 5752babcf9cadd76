"""What long runs call growth, and which failures they put down to a killed worker."""

from __future__ import annotations

from random import Random

import pytest

from bench.endurance.chaos import SEEN_S, with_a_worker
from bench.endurance.soak import REST_MORE, as_many, growth
from bench.endurance.traffic import Failure

HOUR_S = 3600


def series(slope: float, noise: float, warm_up: float = 0.0) -> list[tuple[float, float]]:
    """720 samples around 100 that grow by `slope` in the hour, after another climb at first."""
    random = Random(1)
    return [
        (
            at_s,
            100
            + slope * at_s / HOUR_S
            + random.gauss(0, noise)
            - max(0.0, warm_up * (1 - 5 * at_s / HOUR_S)),
        )
        for at_s in range(0, HOUR_S, 5)
    ]


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (series(0, 0), True),
        (series(0, 10), True),
        (series(0, 3, warm_up=80), True),
        (series(4, 1), True),
        (series(10, 0), False),
        (series(20, 10), False),
        (series(-30, 1), True),
        (list(zip(range(0, 50, 5), [1, 9, 1, 9, 1, 9, 1, 9, 1, 30], strict=True)), False),
        ([(0.0, 5.0), (5.0, 5.0)], True),
    ],
    ids=[
        "flat",
        "noise",
        "warming up",
        "a little",
        "a line",
        "in noise",
        "falling",
        "not sure",
        "too short",
    ],
)
def test_what_was_not_seen_flat_is_growth(found: list[tuple[float, float]], holds: bool) -> None:
    assert growth("memory", "MiB", found).holds is holds


def test_growth_is_told_in_percent_of_the_median() -> None:
    measured = growth("memory", "MiB", series(25, 0))
    assert measured.value == pytest.approx(100 * 20 / 115, rel=0.01)


def test_the_growth_of_what_is_not_ours_is_told_without_a_goal() -> None:
    told = growth("threads", "", series(50, 0), is_judged=False)
    assert told.value > 30
    assert (told.goal, told.holds) == ("", True)


@pytest.mark.parametrize(
    ("after", "holds"), [(100.0, True), (105 + REST_MORE, True), (106 + REST_MORE, False)]
)
def test_at_rest_next_to_nothing_may_be_left_over(after: float, holds: bool) -> None:
    assert as_many("descriptors at rest", 100.0, after).holds is holds


def test_how_sure_a_slope_is_stands_beside_it() -> None:
    noisy, quiet = (growth("p99", "ms", series(0, noise)).peers for noise in (10, 1))
    assert noisy["standard error, %"] == pytest.approx(10 * quiet["standard error, %"], rel=0.1)


@pytest.mark.parametrize(
    ("began_s", "ended_s", "lost"),
    [
        (9.0, 10.1, True),
        (10.0 + SEEN_S, 11.5, True),
        (10.1 + SEEN_S, 11.5, False),
        (8.0, 9.9, False),
    ],
    ids=["under way", "on its connection", "later", "before"],
)
def test_a_killed_worker_excuses_what_it_had_under_way(
    began_s: float, ended_s: float, lost: bool
) -> None:
    failure = Failure("ClientPayloadError", began_s, ended_s)
    assert with_a_worker(failure, [3.0, 10.0]) is lost
    assert not with_a_worker(failure, [])
