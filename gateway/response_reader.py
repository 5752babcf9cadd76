"""Reads one answer after the other off an upstream connection, and writes the heads anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.event_stream import EventStream, is_event_stream
from gateway.framing import (
    CHUNK_FRAMING_BYTES,
    MAX_LENGTH_DIGITS,
    MAX_RESPONSE_HEAD_BYTES,
    NEVER_TRAILERS,
    RESPONSE_DROPPED,
    RESPONSE_SPECIAL,
    drop_named,
    has_no_body,
    joined,
    remove,
    status_line,
)
from gateway.server_timing import timing_line

if TYPE_CHECKING:
    from gateway.exchange import Exchange

MAX_INTERIM_ANSWERS: Final = 8
"""1xx answers before the real one; more is an upstream that makes no progress."""

END_OF_HEAD: Final = b"\r\n\r\n"

_VERSIONS: Final = frozenset({"1.1", "1.0"})
_LENGTH: Final = frozenset({b"content-length"})


class BadAnswer(Exception):
    """The head is HTTP, but not an answer that can be passed on."""


class ResponseReader(asyncio.Protocol):
    """What llhttp reports of the answer to `exchange`; the other half of `Upstream`."""

    __slots__ = (
        "_body",
        "_chunks_out",
        "_close_delimited",
        "_done",
        "_framing_bytes",
        "_head_bytes",
        "_head_ready",
        "_head_sent",
        "_interim",
        "_interim_heads",
        "_parser",
        "_parts",
        "_phrase",
        "_reusable",
        "_special",
        "_status",
        "_switches",
        "_trailers",
        "exchange",
    )

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        """Whose answer is awaited; None while the connection is idle."""
        self._parser = HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        """Make ready for the next answer."""
        self._parts: list[bytes] = []
        self._special: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_ready = self._head_sent = self._done = False
        self._close_delimited = self._chunks_out = self._switches = False
        self._head_bytes = self._framing_bytes = self._interim = self._status = 0
        self._interim_heads = self._phrase = self._trailers = b""
        self._reusable = True

    def _parsed(self, data: bytes) -> bytes | None:
        """None where llhttp could make nothing of it; what follows a whole answer does not count.

        After a switch of protocols: the first bytes of the new one.
        """
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :] if self._switches else None
        except HttpParserError:
            self._reusable = False
            return b"" if self._done else None
        return b""

    def _frames_too_much(self, data: bytes, exchange: Exchange) -> bool:
        """Count what of `data`, just parsed, is neither head nor body; whether that is too much.

        A head that is whole now is measured, too: before, only reads that did not end it counted.
        """
        if self._head_sent:
            self._framing_bytes += len(data)
        elif self._head_bytes + len(data) > MAX_RESPONSE_HEAD_BYTES and self._has_long_head():
            return True
        elif b"transfer-encoding" in self._special and not exchange.head_only:
            # Where other reads hold a part of the head, or 1xx came before it, too much is counted.
            end = -1 if self._head_bytes else data.find(END_OF_HEAD)
            self._framing_bytes += len(data) if end < 0 else len(data) - end - len(END_OF_HEAD)
        else:
            self._framing_bytes = 0
        return self._framing_bytes > MAX_RESPONSE_HEAD_BYTES

    def on_message_begin(self) -> None:
        """A second answer to one request is none."""
        if self._done:
            raise BadAnswer("bytes after a whole answer; expected none")

    def on_status(self, phrase: bytes) -> None:
        """In pieces, where it comes in several reads."""
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole field line, or a trailer; hop-by-hop ones are kept apart and not passed on."""
        if self._head_ready:
            self._on_trailer(name, value)
            return
        lower = name.lower()
        if lower in RESPONSE_SPECIAL:
            special = self._special
            if lower in special:
                value = joined(lower, special[lower], value)
            special[lower] = value
            if lower in RESPONSE_DROPPED:
                return
        self._parts += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        """Decide how the body is framed on both sides; BadAnswer where that cannot be believed."""
        parser = self._parser
        status = parser.get_status_code()
        special = self._special
        if status < 200:
            self._on_interim(status)
            return
        if parser.get_http_version() not in _VERSIONS:
            raise BadAnswer(f"HTTP version {parser.get_http_version()}; expected 1.1 or 1.0")
        self._status = status
        self._head_ready = True
        self._reusable = parser.should_keep_alive()
        exchange = self.exchange
        assert exchange is not None
        length = special.get(b"content-length")
        if length is not None and len(length) > MAX_LENGTH_DIGITS:
            raise BadAnswer(f"Content-Length {length!r}; expected a number of bytes")
        if length is None or b"transfer-encoding" in special:
            self._set_framing(exchange, special.get(b"transfer-encoding"))
        if exchange.head_only:
            self._done = True  # llhttp does not know that this answers a HEAD and waits for a body

    def _has_long_head(self) -> bool:
        """Whether the fields of the answer are longer than a head may be."""
        dropped = [value for name, value in self._special.items() if name in RESPONSE_DROPPED]
        return sum(map(len, self._parts)) + sum(map(len, dropped)) > MAX_RESPONSE_HEAD_BYTES

    def _on_interim(self, status: int) -> None:
        """A 1xx: passed on to who knows what it is, but for the 100 that we gave ourselves."""
        exchange = self.exchange
        assert exchange is not None
        special, parts = self._special, self._parts
        self._interim += 1
        if status < 100 or self._interim > MAX_INTERIM_ANSWERS:
            raise BadAnswer(f"status {status}; expected the answer to a request")
        if b"transfer-encoding" in special or special.get(b"content-length", b"0") != b"0":
            raise BadAnswer(f"status {status} with a body; expected none")
        if b"connection" in special:
            drop_named(parts, special[b"connection"])
        if status == 101:
            protocol = special.get(b"upgrade", b"")
            if not exchange.upgrade or protocol.lower() != exchange.upgrade.lower():
                raise BadAnswer(f"a switch to {protocol!r}; nobody asked for that")
            self._switches = True  # the new protocol begins where llhttp stops
            return
        if status > 100 and not exchange.http10:
            remove(parts, _LENGTH)
            self._interim_heads += b"".join((status_line(status, self._phrase), *parts, b"\r\n"))
        self._parts = []
        self._special = {}
        self._phrase = b""

    def _set_framing(self, exchange: Exchange, coding: bytes | None) -> None:
        if coding is not None and (
            coding.lower() != b"chunked" or self._parser.get_http_version() != "1.1"
        ):
            raise BadAnswer(f"Transfer-Encoding {coding!r}; expected exactly chunked, in HTTP/1.1")
        if not exchange.head_only and not has_no_body(self._status):
            self._close_delimited = coding is None
            self._chunks_out = not exchange.http10

    def _on_trailer(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"connection":
            self._reusable = False  # llhttp obeys it, and takes no further answer
        if self._chunks_out and lower not in NEVER_TRAILERS:
            self._trailers += b"%b: %b\r\n" % (name, value)
            if len(self._trailers) > MAX_RESPONSE_HEAD_BYTES:
                raise BadAnswer("trailers longer than a head may be")

    def on_chunk_header(self) -> None:
        """What a chunk needs to be framed is not counted as framing."""
        if self._done:
            self._reusable = False  # a body after the answer to a HEAD
        self._framing_bytes -= CHUNK_FRAMING_BYTES

    def on_body(self, data: bytes) -> None:
        """A piece, without what frames it."""
        if self._done:
            self._reusable = False  # a body after an answer that has none
            return
        if not self._head_ready:
            raise BadAnswer("a body before the head of an answer; expected none")
        self._framing_bytes -= len(data)
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Also of each 1xx, after which the answer is still to come."""
        if self._head_ready:
            self._done = True

    def _head(self, exchange: Exchange) -> list[bytes]:
        """The head of the answer as the client gets it, with our own headers."""
        special, parts, status = self._special, self._parts, self._status
        if b"connection" in special:
            drop_named(parts, special[b"connection"])
        if status == 204 and b"content-length" in special:
            remove(parts, _LENGTH)
        exchange.status = status
        content_type = special.get(b"content-type")
        if content_type is not None:
            exchange.response_content_type = content_type
        if b"content-encoding" in special:
            exchange.response_content_encoding = special[b"content-encoding"]
        elif content_type is not None and is_event_stream(content_type):
            exchange.stream = EventStream()
        lane = exchange.lane
        head = [
            status_line(status, self._phrase),
            *parts,
            lane.served_by,
            timing_line(exchange) if exchange.is_timed else b"",
            b"x-request-id: ",
            exchange.request_id,
        ]
        if self._chunks_out:
            head.append(b"\r\ntransfer-encoding: chunked")
        head.append(b"\r\nconnection: close\r\n\r\n" if exchange.close else b"\r\n\r\n")
        return head

    def _switching_head(self, exchange: Exchange) -> bytes:
        """The head after which both connections speak the protocol that the client asked for."""
        exchange.status = 101
        return b"".join(
            (
                status_line(101, self._phrase),
                *self._parts,
                b"connection: upgrade\r\nupgrade: ",
                self._special[b"upgrade"],
                b"\r\n",
                exchange.lane.served_by,
                b"x-request-id: ",
                exchange.request_id,
                b"\r\n\r\n",
            )
        )
