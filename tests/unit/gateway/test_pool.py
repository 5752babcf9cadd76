"""Counts of one endpoint under any order of events, and the choice between several."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.pool import DOWN_AFTER_FAILURES, DOWN_NS, IDLE_NS, MAX_IDLE, Endpoint, pick


class Connection:
    idle_since_ns = 0


class PoolMachine(RuleBasedStateMachine):
    """A shell that dials when it may, serves waiters in order, and loses connections at random."""

    def __init__(self):
        super().__init__()
        self.pool = Endpoint("http://h:1", max_connections=4, max_waiters=6)
        self.busy, self.waiting, self.served, self.number, self.now_ns = [], [], [], 0, 0

    def dial_if_needed(self):
        if self.pool.may_dial():
            self.pool.dial_begun()

    def serve(self, connection):
        waiter = self.pool.next_waiter()
        if waiter is None:
            assert self.pool.put_back(connection, self.now_ns)
        else:
            assert waiter == self.waiting.pop(0)
            self.busy.append(connection)

    @rule()
    def request(self):
        self.number += 1
        connection = self.pool.take()
        if connection is not None:
            self.busy.append(connection)
        elif self.pool.wait(self.number):
            self.waiting.append(self.number)
            self.dial_if_needed()
        else:
            assert len(self.waiting) == 6

    @precondition(lambda self: self.pool.dialing)
    @rule(works=st.booleans())
    def dial_ends(self, works):
        if works:
            self.pool.dialled()
            self.serve(Connection())
        else:
            self.pool.dial_failed("refused", self.now_ns)
            if self.pool.next_waiter() is not None:
                self.waiting.pop(0)
            self.dial_if_needed()

    @precondition(lambda self: self.busy)
    @rule()
    def answered(self):
        self.serve(self.busy.pop(0))

    @precondition(lambda self: self.busy)
    @rule()
    def lost_in_use(self):
        self.pool.closed(self.busy.pop())
        self.dial_if_needed()

    @precondition(lambda self: self.pool.idle)
    @rule()
    def lost_while_idle(self):
        self.pool.closed(self.pool.idle[0])
        self.dial_if_needed()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def gives_up(self, data):
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)
        self.pool.give_up(waiter)
        self.pool.give_up(waiter)

    @rule()
    def time_passes(self):
        self.now_ns += IDLE_NS
        for connection in self.pool.take_stale(self.now_ns):
            self.pool.closed(connection)

    @invariant()
    def counts_hold(self):
        pool = self.pool
        assert pool.open == len(self.busy) + len(pool.idle)
        assert pool.open + pool.dialing <= 4
        assert pool.outstanding == len(self.busy) + len(self.waiting)
        assert list(pool.waiters) == self.waiting

    @invariant()
    def nobody_waits_for_nothing(self):
        if self.waiting:
            assert not self.pool.idle
            assert self.pool.dialing or self.busy


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_connection_used_last_is_taken_first():
    pool, first, second = Endpoint("http://h:1"), Connection(), Connection()
    assert pool.put_back(first, 1)
    assert pool.put_back(second, 2)
    assert pool.take() is second
    assert pool.take_stale(1 + IDLE_NS) == [first]


def test_idle_connections_are_bounded_and_a_retired_endpoint_keeps_none():
    pool = Endpoint("http://h:1")
    assert all(pool.put_back(Connection(), 0) for _ in range(MAX_IDLE))
    assert not pool.put_back(Connection(), 0)
    pool.retired = True
    pool.take()
    assert not pool.put_back(Connection(), 0)


def test_an_endpoint_is_down_after_refusals_in_a_row_and_comes_back():
    pool, other = Endpoint("http://h:1"), Endpoint("http://h:2")
    for _ in range(DOWN_AFTER_FAILURES):
        assert pick([pool], 0, 0, even_if_down=False) is pool
        pool.dial_begun()
        pool.dial_failed("refused", 0)
    assert pick([pool], 0, 0, even_if_down=False) is None
    assert pick([pool], 0, 0, even_if_down=True) is pool
    assert {pick([pool, other], bits, 0, even_if_down=True) for bits in range(8)} == {other}
    assert pick([pool], 0, DOWN_NS, even_if_down=False) is pool
    pool.dial_begun()
    pool.dialled()
    assert (pool.failures, pool.down_until_ns) == (0, 0)


def test_the_less_busy_of_two_is_picked():
    busy, free = Endpoint("http://h:1"), Endpoint("http://h:2")
    busy.open = 3
    assert {pick([busy, free], bits << 4 | 1, 0, even_if_down=True) for bits in range(64)} == {free}
    third = Endpoint("http://h:3")
    drawn = {
        pick([busy, free, third], bits * 40503 & 0xFFFFFFFF, 0, even_if_down=True)
        for bits in range(500)
    }
    assert drawn == {free, third}
