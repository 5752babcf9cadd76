"""Random exchanges on kept connections: the same through the gateway as without it, by h11.

Requests and answers are written by chance, and often like the ones before them; h11 reads both on
both sides. What one hop may change is left out of the comparison. The records are held to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import h11
import pytest

from gateway.settings import TimeoutSettings

PATIENT = TimeoutSettings(connect_s=5, first_byte_s=20, idle_s=20)
MOST_BYTES = 200_000
CASE = b"x-case"
"""Names the answer that the upstream is to give."""
CONNECTIONS = 40
"""For each seed; one to five exchanges on each."""
OF_ONE_HOP = {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"x-hop"}
ADDED = {b"x-request-id", b"x-served-by"}
ADDED_BEFORE = ADDED | {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
STATUSES = (*[200] * 6, 201, 204, 206, 301, 304, 400, 404, 418, 429, 500, 529, 599)
METHODS = (b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS")
TOKENS = b"!#$%&'*+-.^_`|~019abcXYZ"
TARGETS = b"abc/.%?&=;:@!$'()*+,~[]{}|\\^\"<>`"
VALUES = b'abc ,;="\t\\()<>@:/[]{}\x80\xe9\xff'

Lines = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """What h11 read of one request or answer."""

    first: tuple[object, ...] = ()
    headers: Lines = field(default_factory=list)
    body: bytes = b""
    trailers: Lines = field(default_factory=list)
    interim: list[tuple[int, Lines]] = field(default_factory=list)

    def end_to_end(self, added: set[bytes]) -> Message:
        """Without what belongs to one hop, and what the gateway adds."""
        left_out = OF_ONE_HOP | added
        kept = [(name, value) for name, value in self.headers if name.lower() not in left_out]
        return Message(self.first, sorted(kept), self.body, self.trailers, self.interim)


@dataclass
class Exchanged:
    """One request and the answer to it, as they are sent."""

    method: bytes
    target: bytes
    body: bytes
    request: bytes
    request_like: Lines
    answer_body: bytes
    answer: bytes
    answer_like: tuple[int, Lines]
    closes: bool
    """The upstream, after its answer."""


class Dice:
    """Draws messages. Everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.count = 0

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def some(self, alphabet: bytes, most: int) -> bytes:
        return bytes(self.random.choices(alphabet, k=self.random.randint(0, most)))

    def lines(self) -> Lines:
        drawn = [
            (b"X-" + self.some(TOKENS, 9), self.some(VALUES, 30).strip())
            for _ in range(self.random.randint(0, 6))
        ]
        for name, value, chance in (
            (b"Content-Type", b"application/json", 0.4),
            (b"Set-Cookie", b"a=1; Path=/", 0.2),
            (b"Set-Cookie", b"b=2, 3", 0.2),
            (b"Cookie", b"a=1; b", 0.2),
            (b"Date", b"now %d" % self.random.randrange(3), 0.4),
            (b"Connection", self.random.choice([b"close", b"Keep-Alive", b"X-Hop"]), 0.2),
            (b"X-Hop", b"1", 0.1),
        ):
            if self.chance(chance):
                drawn.append((name, value))
        self.random.shuffle(drawn)
        return drawn

    def body(self) -> bytes:
        most = self.random.choice([0, 0, 20, 20, 2_000, 100_000])
        return self.random.randbytes(self.random.randint(0, most))

    def framed(self, body: bytes, *, chunked: bool) -> tuple[Lines, bytes]:
        if not chunked:
            return [(b"Content-Length", b"%d" % len(body))], body
        step = self.random.choice([5, 100, 60_000]) if len(body) < 3_000 else 4_000
        parts = [body[at : at + step] for at in range(0, len(body), step)]
        end = b"0\r\nX-Sum: 1\r\n\r\n" if self.chance(0.2) else b"0\r\n\r\n"
        chunks = b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part) for part in parts)
        return [(b"Transfer-Encoding", b"chunked")], chunks + end

    def pieces(self, data: bytes) -> list[bytes]:
        if self.chance(0.6) or len(data) < 2:
            return [data]
        cuts = sorted(self.random.sample(range(1, len(data)), min(4, len(data) - 1)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def exchanged(self, before: Exchanged | None) -> Exchanged:
        """Like the one before it in most of its lines, as those of one client are."""
        self.count += 1
        method, target = self.random.choice(METHODS), b"/" + self.some(TARGETS, 30)
        lines, status, answered = self.lines(), self.random.choice(STATUSES), self.lines()
        if before is not None and self.chance(0.7):
            method, target, lines = before.method, before.target, before.request_like
            status, answered = before.answer_like
        body, answer_body = self.body(), self.body()
        framing, sent = self.framed(body, chunked=self.chance(0.3))
        if method == b"HEAD" or (not body and self.chance(0.7)):
            framing, sent, body = [], b"", b""
        named = [(b"Host", b"h:1"), *lines, (CASE, b"%d" % self.count), *framing]
        request = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, _block(named), sent)
        closes = any(value == b"close" for name, value in answered if name == b"Connection")
        framing, given = self.framed(answer_body, chunked=self.chance(0.3))
        if status in (204, 304):
            framing, given, answer_body = [], b"", b""
        elif method == b"HEAD":
            given = answer_body = b""
        elif self.chance(0.1):
            framing, given, closes = [], answer_body, True
        phrase = self.random.choice([b" OK", b" ", b" Because", b" \xe9t\xe9"])
        early = b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" if self.chance(0.1) else b""
        head = b"HTTP/1.1 %d%b\r\n%b\r\n" % (status, phrase, _block([*answered, *framing]))
        return Exchanged(
            *(method, target, body, request, lines),
            *(answer_body, early + head + given, (status, answered), closes),
        )


def _block(lines: Lines) -> bytes:
    return b"".join(b"%b: %b\r\n" % line for line in lines)


class Server:
    """Answers by the case that a request names, and keeps what h11 read of it."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.port = 0
        self.cases: dict[bytes, Exchanged] = {}
        self.seen: dict[bytes, list[Message]] = {}
        self.unreadable: list[str] = []
        """What came and is no request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, MOST_BYTES)
        try:
            while (request := await read(connection, reader)) is not None:
                case = dict(request.headers)[CASE]
                self.seen.setdefault(case, []).append(request)
                await some_turns(self.dice.random.choice([0, 6, 60]))
                for piece in self.dice.pieces(self.cases[case].answer):
                    writer.write(piece)
                    await some_turns()
                if self.cases[case].closes:
                    break
                if connection.trailing_data[0]:
                    self.unreadable.append(
                        f"behind a request: {connection.trailing_data[0]!r:.200}"
                    )
                connection = h11.Connection(h11.SERVER, MOST_BYTES)
        except h11.RemoteProtocolError as error:
            self.unreadable.append(str(error))
        finally:
            writer.close()


async def read(connection: h11.Connection, reader: asyncio.StreamReader) -> Message | None:
    """The next message; None at the end of the connection before one."""
    message = Message()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(10):
                connection.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.InformationalResponse):
            message.interim.append((event.status_code, list(event.headers.raw_items())))
        elif isinstance(event, h11.Request):
            message.first = (event.method, event.target, event.http_version)
            message.headers = list(event.headers.raw_items())
        elif isinstance(event, h11.Response):
            message.first = (event.status_code, event.reason)
            message.headers = list(event.headers.raw_items())
        elif isinstance(event, h11.Data):
            message.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            message.trailers = list(event.headers.raw_items())
            return message
        else:
            assert isinstance(event, h11.ConnectionClosed), event
            return None


async def some_turns(count: int = 6) -> None:
    """Of the loop that all of this runs on, so that what was written is read on its own."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ask(
    port: int, asked: list[Exchanged], dice: Dice, *, pipelined: bool = False
) -> list[Message]:
    """Answers to as many of these as come before the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[Message] = []
    unread = b""
    to_send = [dice.pieces(each.request) for each in asked]
    if pipelined:
        to_send = [[piece for pieces in to_send for piece in pieces], *([] for _ in asked[1:])]
    try:
        for each, pieces in zip(asked, to_send, strict=True):
            for piece in pieces:
                writer.write(piece)
                await some_turns()
            connection = h11.Connection(h11.CLIENT, MOST_BYTES)
            connection.send(h11.Request(method=each.method, target="/", headers=[("host", "h")]))
            connection.send(h11.EndOfMessage())
            if unread:
                connection.receive_data(unread)
            answer = await read(connection, reader)
            assert answer is not None
            answers.append(answer)
            unread, _ = connection.trailing_data
            if connection.their_state is h11.MUST_CLOSE:
                break
    finally:
        writer.close()
    return answers


def differences(through: Message, straight: Message) -> list[str]:
    """Short: pytest would compare long bodies for minutes."""
    names = ("first", "headers", "body", "trailers", "interim")
    pairs = [(name, getattr(through, name), getattr(straight, name)) for name in names]
    return [f"{name}: {a!r:.500} not {b!r:.500}" for name, a, b in pairs if a != b]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(Dice(0))
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_through_the_gateway_as_without_it(world, server, seed):
    server.dice = dice = Dice(seed)
    await world.gateway(f"http://127.0.0.1:{server.port}", timeouts=PATIENT)
    told: list[Exchanged] = []
    for _ in range(CONNECTIONS):
        asked: list[Exchanged] = []
        for _ in range(dice.random.randint(1, 5)):
            asked.append(dice.exchanged(asked[-1] if asked else None))
            server.cases[b"%d" % dice.count] = asked[-1]
        cases = list(server.cases)[-len(asked) :]
        answers = await ask(world.address.port, asked, dice, pipelined=dice.chance(0.3))
        for case, each, answer in zip(cases, asked, answers, strict=False):
            (straight,) = await ask(server.port, [each], dice)
            assert differences(answer.end_to_end(ADDED), straight.end_to_end(set())) == []
            seen, seen_straight = server.seen[case]
            assert differences(seen.end_to_end(ADDED_BEFORE), seen_straight.end_to_end(set())) == []
            told.append(each)
    assert server.unreadable == []
    assert len(told) > CONNECTIONS
    for record, each in zip(await world.records(len(told)), told, strict=True):
        assert (record.method, record.target) == (each.method, each.target)
        assert record.status == each.answer_like[0]
        assert record.request_bytes == len(each.body)
        assert record.response_bytes == len(each.answer_body)
        bodies_are_kept = each.body.startswith(record.request_body) and (
            each.answer_body.startswith(record.response_body)
        )
        assert bodies_are_kept
        assert 0 < record.first_byte_us <= record.latency_us
