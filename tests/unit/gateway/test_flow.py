"""Whatever happens in whatever order: every exchange that got an arm gives exactly one record."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.client_rules import ClientRules
from gateway.deadlines import NEVER
from gateway.downstream import Downstream
from gateway.exchange import ENDED
from gateway.flow import Flow
from gateway.lanes import RouteState
from gateway.mirror import MIRROR_KIND
from gateway.outcome import Failure
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.settings import (
    ClientSettings,
    MatchSettings,
    RetrySettings,
    RouteSettings,
    StickySettings,
)
from gateway.tunnel import TunnelEnd
from gateway.upstream import Upstream
from gateway.upstream_settings import MirrorSettings
from mlops.contracts.plan import RoutePlan, Slot

STABLE = Slot(version="1", endpoints=("http://h:1",))
CANARY = Slot(version="2", endpoints=("http://h:2",))

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n"
REQUESTS = (
    REQUEST + b"Content-Length: 2\r\n\r\nhi",
    REQUEST + b"Content-Length: 4\r\n\r\nhi",
    REQUEST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    REQUEST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly",
)
MORE = (b"hi", b"0\r\n\r\n", b"zz\r\n", b"\0")
ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no",
    b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly",
    b"0\r\nX-Sum: 1\r\n\r\n",
    b"HTTP/1.1 ",
    b"garbage\r\n",
    b"0\r\n\r\n",
    b"k",
)


class Transport:
    """Reports a closed connection only later, as the real ones do."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.closing = self.lost = False
        self.reads = True
        protocol.connection_made(self)

    def write(self, data):
        assert not self.lost

    def close(self):
        self.closing = True

    abort = close

    def is_closing(self):
        return self.closing

    def set_write_buffer_limits(self, high):
        assert high > 0

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def pause_reading(self):
        assert not self.lost
        self.reads = False

    def resume_reading(self):
        assert not self.lost
        self.reads = True

    def is_reading(self):
        return self.reads

    def set_protocol(self, protocol):
        self.protocol = protocol

    def report(self):
        if self.closing and not self.lost:
            self.lost = True
            self.protocol.connection_lost(None)


class Spool:
    last_drop_reason = ""

    def __init__(self):
        self.offered = []

    def offer(self, record):
        assert record.state == ENDED
        self.offered.append(record)
        return True


class FlowMachine(RuleBasedStateMachine):
    """One client connection after the other, two upstreams, and everything that can go wrong."""

    mirror = MirrorSettings()

    def __init__(self):
        super().__init__()
        self.spool, self.pools = Spool(), {}
        self.dials, self.transports, self.callbacks = [], [], []
        self.route = RouteState(
            RouteSettings(
                name="rag",
                model="m",
                match=MatchSettings(),
                stable=STABLE,
                sticky=StickySettings(header="x-user-id"),
                retry=RetrySettings(attempts=3),
                mirror=self.mirror,
            ),
            says_served_by=True,
        )
        plan = RoutePlan(
            route="rag",
            generation=1,
            salt="s",
            stable=STABLE,
            canary=CANARY,
            canary_share_bp=5000,
        )
        self.route.apply(LivePlan(plan), lambda url: self.pools.setdefault(url, Endpoint(url)))
        self.flow = Flow(
            self.spool,
            self.dial,
            self.callbacks.append,
            ClientRules(ClientSettings()),
            Random(7),
        )
        self.flow.serve([self.route], set())
        self.connect_client()

    def dial(self, endpoint, connect_s):
        self.dials.append(endpoint)

    def connect_client(self):
        self.client = Downstream(self.flow)
        self.transport = Transport(self.client)
        self.transports.append(self.transport)

    def upstreams(self):
        return [
            each.protocol
            for each in self.transports
            if isinstance(each.protocol, Upstream) and not each.closing
        ]

    def switched(self):
        """Both ends of every tunnel that is open."""
        return [
            each
            for each in self.transports
            if isinstance(each.protocol, TunnelEnd) and not each.closing
        ]

    @rule(data=st.sampled_from(REQUESTS + MORE))
    def client_sends(self, data):
        if self.transport.closing:
            self.transport.report()
            self.connect_client()
        self.transport.protocol.data_received(data)

    @rule()
    def client_goes_away(self):
        self.transport.close()
        self.transport.report()

    @precondition(lambda self: not self.transport.closing)
    @rule()
    def client_stops_reading(self):
        self.transport.protocol.pause_writing()

    @precondition(lambda self: not self.transport.closing)
    @rule()
    def client_reads_again(self):
        self.transport.protocol.resume_writing()

    @precondition(lambda self: self.switched())
    @rule(data=st.data(), ends=st.booleans())
    def a_tunnel_moves(self, data, ends):
        end = data.draw(st.sampled_from(self.switched()))
        if not ends:
            end.protocol.data_received(b"any bytes")
        elif not end.protocol.eof_received():
            end.close()

    @rule()
    def deadline_passes(self):
        if not self.transport.closing:
            self.client.on_deadline()

    @precondition(lambda self: self.dials)
    @rule(works=st.booleans(), slow=st.booleans())
    def dial_ends(self, works, slow):
        endpoint = self.dials.pop(0)
        if works:
            upstream = Upstream(self.flow, endpoint)
            self.transports.append(Transport(upstream))
            assert endpoint.dialled(upstream)
            upstream.serve_first(0)
        else:
            failure = Failure.CONNECT_TIMEOUT if slow else Failure.CONNECT
            self.flow.dial_failed(endpoint, failure, "refused", 1.0)

    @precondition(lambda self: self.upstreams())
    @rule(data=st.data(), answer=st.sampled_from(ANSWERS))
    def upstream_sends(self, data, answer):
        upstream = data.draw(st.sampled_from(self.upstreams()))
        upstream.data_received(answer)

    @precondition(lambda self: self.upstreams())
    @rule(data=st.data(), is_full=st.booleans())
    def upstream_takes_more_or_no_more(self, data, is_full):
        upstream = data.draw(st.sampled_from(self.upstreams()))
        if is_full is upstream.is_full or (is_full and upstream.exchange is None):
            return  # transports report changes only, and nothing was written to an idle one
        if is_full:
            upstream.pause_writing()
        else:
            upstream.resume_writing()

    @precondition(lambda self: self.upstreams())
    @rule(data=st.data(), clean=st.booleans())
    def upstream_closes(self, data, clean):
        upstream = data.draw(st.sampled_from(self.upstreams()))
        if clean:
            upstream.eof_received()
        upstream.transport.close()

    @rule()
    def the_loop_turns(self):
        while self.callbacks:
            self.callbacks.pop(0)()
        for transport in list(self.transports):
            transport.report()

    @rule()
    def deadlines_of_copies_pass(self):
        self.flow.end_late_mirrors(NEVER - 1)

    @invariant()
    def every_exchange_is_open_or_recorded_once(self):
        offered = self.spool.offered
        copies = [record for record in offered if record.kind == MIRROR_KIND]
        of_clients = self.flow.in_flight - len(self.flow.mirrors)
        assert self.route.requests == len(offered) - len(copies) + of_clients
        assert len({id(record) for record in offered}) == len(offered)
        assert of_clients in (0, 1)
        assert self.route.mirroring.under_way == len(self.flow.mirrors) <= 3
        assert all(copy.attempts == 1 for copy in (*copies, *self.flow.mirrors))

    @invariant()
    def a_client_that_waits_for_nothing_is_read(self):
        client, transport = self.client, self.transport
        is_idle = client.current is None and not (client.queue or self.callbacks)
        if is_idle and transport.protocol is client and not transport.closing:
            assert transport.reads

    @invariant()
    def an_idle_connection_owes_its_upstream_nothing(self):
        for pool in self.pools.values():
            assert not any(each.is_full or each._reading_paused for each in pool.idle)

    def teardown(self):
        self.client_goes_away()
        self.the_loop_turns()
        self.flow.cut_mirrors()
        self.the_loop_turns()
        assert self.flow.in_flight == 0
        assert sum(sum(cell.answered.values()) for cell in self.route.cells.values()) == len(
            self.spool.offered
        )
        assert not any(pool.waiters for pool in self.pools.values())
        for url, pool in self.pools.items():
            mine = [up for up in self.upstreams() if up.endpoint.url == url]
            assert pool.open == len(mine) == len(pool.idle)


class MirroringMachine(FlowMachine):
    """The same, with a copy of every request that stable answered."""

    mirror = MirrorSettings(percent=100, outstanding=3)


TestFlow = FlowMachine.TestCase
TestFlow.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestMirroring = MirroringMachine.TestCase
TestMirroring.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
