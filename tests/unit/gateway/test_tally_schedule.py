"""Which seconds are tallied, also after a pause, a clock set back, and a spool that is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.tallies import MAX_PENDING_TALLIES, MAX_SECONDS_CAUGHT_UP, TallySchedule
from mlops.contracts.tally import Tally


class MemorySpool:
    """Takes tallies while it has room."""

    def __init__(self) -> None:
        self.room = 0
        self.seconds: list[int] = []

    def offer_tally(self, tally: Tally) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.seconds.append(tally.second)
        return True


def test_each_second_is_tallied_once() -> None:
    schedule = TallySchedule(99)
    assert list(schedule.due(100)) == [100]
    assert list(schedule.due(100)) == []
    assert list(schedule.due(101)) == [101]


def test_after_a_pause_every_skipped_second_gets_its_tally() -> None:
    schedule = TallySchedule(99)
    assert list(schedule.due(104)) == [100, 101, 102, 103, 104]
    assert len(schedule.due(10_000)) == MAX_SECONDS_CAUGHT_UP


@given(st.lists(st.integers(0, 500), max_size=40))
def test_the_watermark_never_goes_back(passed: list[int]) -> None:
    schedule = TallySchedule(0)
    told = [second for now in passed for second in schedule.due(now)]
    assert told == sorted(set(told))
    assert not told or told[-1] == max(passed)


def test_tallies_wait_in_order_for_a_full_spool() -> None:
    schedule, spool = TallySchedule(0), MemorySpool()
    for second in (1, 2, 3):
        schedule.offer(spool, Tally(worker="w", second=second))
    assert spool.seconds == []
    spool.room = 2
    schedule.offer(spool, Tally(worker="w", second=4))
    assert spool.seconds == [1, 2]
    spool.room = 10
    schedule.offer(spool, Tally(worker="w", second=5))
    assert spool.seconds == [1, 2, 3, 4, 5]


def test_no_more_than_ten_minutes_of_tallies_wait() -> None:
    schedule, spool = TallySchedule(0), MemorySpool()
    for second in range(MAX_PENDING_TALLIES + 5):
        schedule.offer(spool, Tally(worker="w", second=second))
    spool.room = 10_000
    schedule.offer(spool, Tally(worker="w", second=9_999))
    assert len(spool.seconds) == MAX_PENDING_TALLIES
    assert spool.seconds[-1] == 9_999
