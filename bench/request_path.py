"""CPU of the request path's own Python: fake transports, no kernel, no event loop.

`python -m bench.request_path` tells what a change to the request path brings long before it shows
through the noise of `make bench-gateway`. The best of many short batches is the figure: what is
above it is the machine's doing.
"""

from __future__ import annotations

import sys
from random import Random
from time import process_time
from typing import Any

from bench.report import Measured, write
from gateway.client_rules import ClientRules
from gateway.downstream import Downstream
from gateway.flow import Flow
from gateway.lanes import RouteState
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.settings import ClientSettings, MatchSettings, RouteSettings, StickySettings
from gateway.upstream import Upstream
from mlops.contracts.plan import RoutePlan, Slot

BATCHES = 60
BATCH = 1_000
CONNECTIONS = 64
USERS = 1_000

BODY = b'{"query_text": "what is the convolution of two sequences", "user_id": "u", "top_k": 5}'
ANSWER_BODY = b'{"answer": "42", "documents": ["a", "b", "c"], "relevance_score": 0.5}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 23:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b"
) % (len(ANSWER_BODY), ANSWER_BODY)

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TOKEN = b'data: {"choices": [{"index": 0, "delta": {"content": "token"}}]}\n\n'
EVENT = b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)


class Transport:
    """Takes what is written and does nothing with it."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""

    def get_extra_info(self, name: str) -> object:
        """The client's address; it is told to the upstream."""
        return ("127.0.0.1", 1234) if name == "peername" else None


def request(number: int, path: bytes) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: %d\r\nx-user-id: user-%d\r\n"
        b"content-type: application/json\r\n\r\n%b"
    ) % (path, len(BODY), number, BODY)


def connections() -> list[Downstream]:
    """Client connections of one gateway with a 90/10 split and one endpoint that always answers."""
    slot = Slot(version="1", endpoints=("http://127.0.0.1:1",))
    route = RouteState(
        RouteSettings(
            name="bench",
            model="bench",
            match=MatchSettings(),
            stable=slot,
            sticky=StickySettings(header="x-user-id"),
        ),
        says_served_by=True,
    )
    endpoints: dict[str, Any] = {}

    def dial(endpoint: Any, connect_s: float) -> None:
        upstream = Upstream(flow, endpoint)
        upstream.connection_made(transport)
        endpoint.dialled(upstream)
        upstream.serve_first(0)

    transport: Any = Transport()
    flow = Flow(None, dial, lambda call: call(), ClientRules(ClientSettings()), Random(1))
    flow.serve([route], {b"x-user-id"})
    plan = RoutePlan(
        route="bench", generation=1, salt="s", stable=slot, canary=slot, canary_share_bp=1000
    )
    route.apply(LivePlan(plan), lambda url: endpoints.setdefault(url, Endpoint(url)))
    made = [Downstream(flow) for _ in range(CONNECTIONS)]
    for each in made:
        each.connection_made(transport)
    return made


def best_us(paths: tuple[bytes, ...]) -> float:
    """CPU per request where each connection asks for `paths` in turn; the best batch."""
    clients = connections()
    requests = [
        request(number % USERS, paths[number // CONNECTIONS % len(paths)])
        for number in range(CONNECTIONS * len(paths) * USERS // 8)
    ]
    best = float("inf")
    number = 0
    for _ in range(BATCHES):
        began_s = process_time()
        for _ in range(BATCH):
            client = clients[number % CONNECTIONS]
            client.data_received(requests[number % len(requests)])
            upstream_of(client).data_received(ANSWER)
            number += 1
        best = min(best, (process_time() - began_s) / BATCH * 1e6)
    return best


def best_event_us() -> float:
    """CPU per server-sent event, one chunk and one read each, as model servers send them."""
    clients = connections()
    for number, client in enumerate(clients):
        client.data_received(request(number, b"/stream"))
        upstream_of(client).data_received(STREAM_HEAD)
    best = float("inf")
    for _ in range(BATCHES):
        began_s = process_time()
        for number in range(BATCH):
            upstream_of(clients[number % CONNECTIONS]).data_received(EVENT)
        best = min(best, (process_time() - began_s) / BATCH * 1e6)
    return best


def upstream_of(client: Downstream) -> Any:
    assert client.current is not None
    return client.current.upstream


def main() -> int:
    rows = [
        Measured(name="request like the one before it", value=best_us((b"/query",)), unit="µs"),
        Measured(
            name="request unlike the one before it",
            value=best_us((b"/query", b"/other")),
            unit="µs",
        ),
        Measured(name="event of a stream", value=best_event_us(), unit="µs"),
    ]
    write("request_path", rows, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
