"""Whatever an upstream answers: passed on as it was meant, or never passed off as complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import h11

from tests.fuzz.harness import MAX_INCOMPLETE_BYTES, Rig, Transport, cuts

SECOND = b"the second answer"
OURS = b'{"error":'
ASKED = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
"""The input itself decides which of these it answers, where nobody says."""


@dataclass
class Answer:
    """What a client makes of the bytes that it gets."""

    interim: list[int] = field(default_factory=list)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    is_malformed: bool = False
    rest: bytes = b""

    @property
    def is_ours(self) -> bool:
        """The gateway answered in place of the upstream."""
        return self.status == 502 and (self.body.startswith(OURS) or not self.body)

    @property
    def essence(self) -> tuple[list[int], int, bytes, dict[str, str]]:
        return self.interim, self.status, self.body, self.trailers


def read(asked: bytes, data: bytes, *, ended: bool) -> Answer:
    """Read `data` with h11 as the answer to `asked`."""
    answer = Answer()
    connection = h11.Connection(h11.CLIENT, MAX_INCOMPLETE_BYTES)
    head = [("host", "a")] + ([("connection", "close")] if b"close" in asked else [])
    connection.send(h11.Request(method=asked.split(b" ")[0], target="/", headers=head))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                answer.interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {k.decode(): v.decode("latin-1") for k, v in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answer.is_whole = True
                answer.trailers = {k.decode(): v.decode("latin-1") for k, v in event.headers}
                answer.rest = connection.trailing_data[0]
                return answer
            else:
                return answer
    except h11.RemoteProtocolError:
        answer.is_malformed = True
        return answer


@dataclass
class Played:
    answer: Answer
    is_aborted: bool
    """The client's connection ended in a way that no client takes for an end."""
    was_kept: bool
    """The upstream's connection went back into the pool."""
    is_open: bool


def play(asked: bytes, pieces: list[bytes]) -> Played:
    """Answer one request with `pieces` and the end of the connection; then ask once more."""
    rig = Rig()
    rig.feed(asked)
    [upstream] = rig.upstreams
    for piece in pieces:
        if upstream.closing:
            break
        upstream.protocol.data_received(piece)
        rig.settle()
    was_kept = not upstream.closing and upstream.protocol.exchange is None
    if not upstream.closing and not was_kept:
        if not upstream.protocol.eof_received():
            upstream.close()
        rig.settle()
    client = rig.transport
    written = bytes(client.written)
    is_open = not (client.closing or client.ended)
    answer = read(asked, written, ended=client.closing and not client.is_aborted)
    assert not answer.is_malformed, written
    assert not answer.rest, "more than one answer"
    assert len(rig.records) == 1, "one exchange, one record"
    if is_open:
        assert answer.is_whole
        ask_again(rig, client)
    rig.finish()
    return Played(answer, client.is_aborted, was_kept, is_open)


def ask_again(rig: Rig, client: Transport) -> None:
    """Nothing of the first answer is left for the second."""
    before = len(client.written)
    asked = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
    rig.feed(asked)
    upstream = rig.upstreams[-1]
    upstream.protocol.data_received(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(SECOND), SECOND)
    )
    rig.settle()
    second = read(asked, bytes(client.written[before:]), ended=False)
    assert (second.status, second.body, second.rest) == (200, SECOND, b"")


def check_answers(data: bytes, asked: bytes = b"") -> None:
    """Whole or in pieces: the same answer; cut short: visibly so; kept: only if nothing follows."""
    asked = asked or ASKED[crc32(data) % len(ASKED)]
    whole, in_pieces = play(asked, [data]), play(asked, cuts(data))
    for played in (whole, in_pieces):
        answer = played.answer
        assert answer.is_whole or played.is_aborted, "passed off as complete, or left hanging"
    if not (whole.answer.is_ours or in_pieces.answer.is_ours):
        assert whole.answer.is_whole == in_pieces.answer.is_whole
    if whole.answer.is_whole and in_pieces.answer.is_whole:
        assert whole.answer.is_ours == in_pieces.answer.is_ours
        if not whole.answer.is_ours:
            assert whole.answer.essence == in_pieces.answer.essence
        assert whole.is_open == in_pieces.is_open
        # llhttp takes empty lines after an answer for nothing; in a read of their own we do not.
        assert whole.was_kept == in_pieces.was_kept or data.endswith((b"\r", b"\n"))
    reference = read(asked, data, ended=True)
    if whole.answer.is_whole and not whole.answer.is_ours and not reference.is_malformed:
        assert reference.is_whole
        assert whole.answer.status == reference.status
        assert whole.answer.body == reference.body, "another parser sees another body"
        if whole.was_kept:
            # Empty lines before the next answer are no answer.
            assert not reference.rest.strip(b"\r\n"), "kept with bytes that answer nothing"
