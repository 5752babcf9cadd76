"""Counts of one endpoint under any order of events, and the choice between several."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.pool import (
    CLOSED,
    DIALING,
    IDLE,
    IN_USE,
    RESERVED,
    Endpoint,
    pick,
)
from gateway.upstream_settings import (
    IDLE_TIMEOUT_S,
    MAX_IDLE,
    MAX_PENDING,
    PoolSettings,
    UpstreamSettings,
)

IDLE_NS = int(IDLE_TIMEOUT_S * 1e9)
SMALL = UpstreamSettings(pool=PoolSettings(connections=4, pending=6, idle=2))


class Connection:
    def __init__(self, state=DIALING):
        self.idle_since_ns = 0
        self.pool_state = state


class PoolMachine(RuleBasedStateMachine):
    """A shell that dials when it may, serves waiters in order, and loses connections at random.

    The model: which connections a request has, which are promised to one, who waits, in order.
    """

    def __init__(self):
        super().__init__()
        self.pool = Endpoint("http://h:1", SMALL)
        self.busy, self.reserved, self.waiting = [], [], []
        self.dials, self.number, self.now_ns = [], 0, 0

    def dial_if_needed(self):
        if self.pool.may_dial():
            self.pool.dial_begun()
            self.dials.append(Connection())

    @rule()
    def request(self):
        self.number += 1
        connection = self.pool.take()
        if connection is not None:
            assert connection not in self.busy + self.reserved
            self.reserved.append(connection)
        elif self.pool.wait(self.number):
            self.waiting.append(self.number)
            self.dial_if_needed()
        else:
            assert len(self.waiting) == 6

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def starts(self, data):
        """A reserved connection goes to its request, to who waits longest, or back."""
        connection = data.draw(st.sampled_from(self.reserved))
        self.reserved.remove(connection)
        self.serve(connection)

    def serve(self, connection):
        waiter = self.pool.next_waiter()
        if waiter is not None:
            assert waiter == self.waiting.pop(0)
            connection.pool_state = IN_USE
            self.busy.append(connection)
        elif not self.pool.put_back(connection, self.now_ns):
            assert len(self.pool.idle) == 2
            self.pool.closed(connection)

    @precondition(lambda self: self.dials)
    @rule(works=st.booleans(), lost_at_once=st.booleans())
    def dial_ends(self, works, lost_at_once):
        connection = self.dials.pop(0)
        if lost_at_once:
            self.pool.closed(connection)
        if works and self.pool.dialled(connection):
            assert not lost_at_once
            self.serve(connection)
        else:
            self.pool.dial_failed("refused", self.now_ns)
            if self.pool.next_waiter() is not None:
                self.waiting.pop(0)
            self.dial_if_needed()

    @precondition(lambda self: self.busy)
    @rule()
    def answered(self):
        self.serve(self.busy.pop(0))

    @rule(data=st.data())
    def lost(self, data):
        known = self.busy + self.reserved + list(self.pool.idle)
        if known:
            connection = data.draw(st.sampled_from(known))
            for held in (self.busy, self.reserved):
                if connection in held:
                    held.remove(connection)
            self.pool.closed(connection)
            self.pool.closed(connection)
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
            assert connection not in self.busy + self.reserved
            assert self.pool.outstanding >= len(self.busy)
            self.pool.closed(connection)

    @invariant()
    def counts_hold(self):
        pool = self.pool
        assert pool.open == len(self.busy) + len(self.reserved) + len(pool.idle)
        assert pool.open + pool.dialing <= 4
        assert pool.dialing == len(self.dials)
        assert len(pool.idle) <= 2
        assert pool.outstanding == len(self.busy) + len(self.reserved) + len(self.waiting)
        assert list(pool.waiters) == self.waiting

    @invariant()
    def states_say_who_has_a_connection(self):
        assert {each.pool_state for each in self.pool.idle} <= {IDLE}
        assert {each.pool_state for each in self.reserved} <= {RESERVED}
        assert {each.pool_state for each in self.dials} <= {DIALING, CLOSED}
        assert not set(self.pool.idle) & {*self.busy, *self.reserved}

    @invariant()
    def nobody_waits_for_nothing(self):
        if self.waiting:
            assert not self.pool.idle
            assert self.pool.dialing or self.busy or self.reserved


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_connection_used_last_is_taken_first():
    pool, first, second = Endpoint("http://h:1"), Connection(IN_USE), Connection(IN_USE)
    assert pool.put_back(first, 1)
    assert pool.put_back(second, 2)
    assert pool.take() is second
    assert pool.take_stale(1 + IDLE_NS) == [first]


def test_idle_connections_are_bounded_and_a_retired_endpoint_keeps_none():
    pool = Endpoint("http://h:1")
    assert all(pool.put_back(Connection(IN_USE), 0) for _ in range(MAX_IDLE))
    assert not pool.put_back(Connection(IN_USE), 0)
    pool.retired = True
    pool.take()
    assert not pool.put_back(Connection(IN_USE), 0)


@settings(deadline=None)
@given(since_ns=st.integers(0, 1 << 62))
def test_a_connection_is_stale_once_it_has_been_idle_for_the_whole_timeout(since_ns):
    pool, connection = Endpoint("http://h:1"), Connection(IN_USE)
    assert pool.put_back(connection, since_ns)
    assert not pool.take_stale(since_ns + IDLE_NS - 1)
    assert pool.take_stale(since_ns + IDLE_NS) == [connection]


def test_who_finds_the_queue_full_does_not_wait_not_even_at_its_head():
    pool = Endpoint("http://h:1")
    assert all(pool.wait(number) for number in range(MAX_PENDING))
    assert not pool.wait(-1)
    assert not pool.wait(-1, first=True)
    assert pool.next_waiter() == 0
    assert pool.wait(-1, first=True)
    assert pool.next_waiter() == -1


@pytest.mark.parametrize(
    ("url", "host"), [("http://h:1", "h:1"), ("https://h", "h"), ("unix:/run/s", "localhost")]
)
def test_a_socket_has_no_host_of_its_own(url, host):
    assert Endpoint(url).host == host


def test_an_endpoint_is_down_after_refusals_in_a_row_and_comes_back():
    pool, other = Endpoint("http://h:1"), Endpoint("http://h:2")
    for _ in range(3):
        assert pick([pool], 0, 0, even_if_down=False) is pool
        pool.dial_begun()
        pool.dial_failed("refused", 0)
    assert pick([pool], 0, 0, even_if_down=False) is None
    assert pick([pool], 0, 0, even_if_down=True) is pool
    assert {pick([pool, other], bits, 0, even_if_down=True) for bits in range(8)} == {other}
    assert pick([pool], 0, 999_999_999, even_if_down=False) is None
    assert pick([pool], 0, 1_000_000_000, even_if_down=False) is pool
    pool.dial_begun()
    pool.dial_failed("refused again", 1_000_000_000)
    assert pick([pool], 0, 1_999_999_999, even_if_down=False) is None
    assert pick([pool], 0, 2_000_000_000, even_if_down=False) is pool
    pool.dial_begun()
    assert pool.dialled(Connection())
    assert (pool.failures, pool.down_until_ns) == (0, 0)


def test_one_request_at_a_time_tries_an_endpoint_that_refused():
    pool = Endpoint("http://h:1")
    for failures in range(1, 4):
        assert pool.is_well(0)
        pool.dial_begun()
        pool.dial_failed("refused", 0)
        pool.try_again(0)
        assert pool.failures == failures
    assert not pool.is_well(0)
    assert pick([pool], 0, 1_000_000_000, even_if_down=False) is pool
    pool.try_again(1_000_000_000)
    assert pick([pool], 0, 1_500_000_000, even_if_down=False) is None
    assert pick([pool], 0, 2_000_000_000, even_if_down=False) is pool
    assert not pool.is_well(2_000_000_000)
    pool.dial_begun()
    assert pool.dialled(Connection())
    assert pool.is_well(0)


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


def test_each_of_many_is_one_of_the_two_drawn_as_often_as_any_other():
    random, count = Random(1), 16
    for free in range(count):
        endpoints = [Endpoint(f"http://h:{number}") for number in range(count)]
        for endpoint in endpoints:
            endpoint.open = int(endpoint is not endpoints[free])
        drawn = [pick(endpoints, random.getrandbits(32), 0, even_if_down=True) for _ in range(2000)]
        assert 0.095 < drawn.count(endpoints[free]) / len(drawn) < 0.16  # 2 of 16


def test_a_connection_that_failed_a_request_is_avoided_by_its_next_attempt():
    one, other = Endpoint("http://h:1"), Endpoint("http://h:2")
    both = [one, other]
    assert {pick(both, bits, 0, even_if_down=True, avoid=one) for bits in range(8)} == {other}
    assert pick([one], 0, 0, even_if_down=True, avoid=one) is one
    other.down_until_ns = 1
    assert pick(both, 0, 0, even_if_down=False, avoid=one) is one


def test_a_connection_withdrawn_while_idle_is_handed_to_nobody_and_counted_until_it_is_lost():
    pool = Endpoint("http://h:1")
    pool.dial_begun()
    connection = Connection()
    assert pool.dialled(connection)
    assert pool.put_back(connection, 0)
    pool.withdraw(connection)
    pool.withdraw(connection)
    assert (pool.take(), pool.open) == (None, 1)
    pool.closed(connection)
    assert (pool.open, connection.pool_state) == (0, CLOSED)
