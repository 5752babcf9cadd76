"""How the log is read: in parts that can be read in time, each once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from agent.observer import READ_S, Observer
from agent.watch import Watch
from mlops.contracts.evidence import AnsweredCounts, Evidence
from mlops.contracts.plan import Arm
from mlops.feature_store.errors import Unavailable

DAY_S = 86_400


class Log:
    """Complete up to a second; answers nothing longer than it can, and so many times."""

    def __init__(self, through: int, answers: int = 1_000) -> None:
        self.through, self.answers = through, answers
        self.asked: list[tuple[int, int]] = []
        self.is_answered = False

    def counts(self, since: int, closed: int) -> tuple[AnsweredCounts, ...]:
        """Stable each second, the canary each ten minutes: generation 2, whose lease ended."""
        arms = [(Arm.STABLE, 1), (Arm.CANARY, 600)]
        return tuple(
            AnsweredCounts(second=second, generation=2, arm=arm, answered=1, dropped=0)
            for second in range(since, closed + 1)
            for arm, every in arms
            if second % every == 0
        )

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        assert until is not None
        self.answers -= 1
        if self.answers < 0 or until - since >= READ_S:
            raise Unavailable("took too long")
        closed = max(since - 1, min(until, self.through))
        self.asked.append((since, closed))
        answered = self.counts(since, closed) if self.is_answered else ()
        span = {"since": since, "closed_through": closed, "log_through": self.through}
        return Evidence(route=route, answered=answered, **span)


def observing(world: SimpleNamespace, log: Log):
    release, _ = world.begun()
    release = replace(release, started_at_s=1000.0)
    observer = Observer(log, lambda now_s: int(now_s) - 1)

    async def at(now_s: float):
        return await observer.observe(release, world.POLICY, (), now_s)

    return at


async def test_two_days_are_read_in_parts_after_a_restart(world: SimpleNamespace) -> None:
    log = Log(through=1000 + 2 * DAY_S)
    observe = observing(world, log)
    now_s = 1000.0 + 2 * DAY_S
    await observe(now_s)
    assert log.asked[0] == (1000, 1000 + READ_S - 1)
    assert log.asked[-1][1] == now_s - 1
    assert all(one[1] + 1 == other[0] for one, other in zip(log.asked, log.asked[1:], strict=False))


async def test_what_was_read_before_the_log_went_away_is_not_read_again(
    world: SimpleNamespace,
) -> None:
    log = Log(through=1000 + DAY_S, answers=10)
    observe = observing(world, log)
    await observe(1000.0 + DAY_S)
    assert len(log.asked) == 10
    log.answers = 1_000
    await observe(1000.0 + DAY_S)
    assert log.asked[10][0] == log.asked[9][1] + 1


async def test_the_end_of_a_part_is_not_the_end_of_a_lease(world: SimpleNamespace) -> None:
    """All that stable answered until the canary's last answer is judged, and nothing after it."""
    log = Log(through=1000 + 4 * READ_S)
    log.is_answered = True
    judged: list[int] = []

    class Judged(Watch):
        def absorb(self, *args: object) -> None:
            judged.extend(c.second for e in self._waiting for c in e.answered)
            super().absorb(*args)

    release, _ = world.begun()
    release = replace(release, started_at_s=1000.0, lapsed_generations=(2,))
    watch = Judged(release, world.POLICY)
    observer = Observer(log, lambda now_s: int(now_s) - 1)
    observer._watches[release.id] = watch
    await observer.observe(release, world.POLICY, (), 1000.0 + 4 * READ_S)
    last = max(second for second in range(1000, log.through) if second % 600 == 0)
    assert sorted(set(judged)) == list(range(1000, last + 1))


@pytest.mark.parametrize("through", [999, 1500, 1000 + READ_S - 1])
async def test_reading_ends_where_the_log_does(world: SimpleNamespace, through: int) -> None:
    log = Log(through=through)
    seen = await observing(world, log)(1000.0 + DAY_S)
    assert log.asked[-1][1] == through
    assert len(log.asked) <= 2
    assert (seen is None) is (through < 1000)


async def test_a_log_that_is_ahead_says_how_far_it_is(world: SimpleNamespace) -> None:
    log = Log(through=5_000)
    seen = await observing(world, log)(2_000.0)
    assert log.asked[-1][1] == 1_999
    assert seen is not None
    assert seen.closed_through_s == 5_000.0
