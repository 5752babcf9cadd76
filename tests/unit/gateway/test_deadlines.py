"""What has passed its deadline is found, in the order in which it was added."""

from __future__ import annotations

from gateway.deadlines import NEVER, Deadlines


class Item:
    def __init__(self, deadline_ns):
        self.deadline_ns = deadline_ns


def test_a_deadline_is_passed_when_its_time_has_come():
    deadlines = Deadlines()
    items = [Item(5), Item(NEVER), Item(3), Item(6)]
    for item in items:
        deadlines.add(item)
    assert deadlines.expired(2) == []
    assert deadlines.expired(5) == [items[0], items[2]]


def test_moving_a_deadline_is_an_assignment():
    deadlines, item = Deadlines(), Item(5)
    deadlines.add(item)
    item.deadline_ns = 50
    assert deadlines.expired(10) == []
    assert deadlines.expired(50) == [item]


def test_what_is_discarded_is_not_found_and_may_be_discarded_while_going_through():
    deadlines, items = Deadlines(), [Item(1), Item(1)]
    for item in items:
        deadlines.add(item)
    for item in deadlines.expired(1):
        deadlines.discard(item)
        deadlines.discard(item)
    assert len(deadlines) == 0
    assert list(deadlines) == []
