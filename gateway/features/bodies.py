"""From bytes on the wire to JSON values: content codings, server-sent events, strictness."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Protocol, TypeVar

import msgspec

from gateway.features import tensors
from gateway.features.model import NOT_JSON, TRUNCATED, UNDECODABLE, UNKNOWN_SHAPE, Body

MAX_DECODED_BYTES = 8 * 1024**2
"""Longest body after its coding is undone: 64 KiB of gzip can stand for 64 MB."""
MAX_CODINGS = 2
"""Applied on top of each other; more is not seen outside attacks."""

Value = TypeVar("Value")
Read_co = TypeVar("Read_co", covariant=True)


class Decoder(Protocol[Read_co]):
    """What is used of `msgspec.json.Decoder`."""

    @property
    def type(self) -> object:
        """What it makes of JSON, for `msgspec.convert`."""

    def decode(self, buf: bytes, /) -> Read_co:
        """Raises `msgspec.DecodeError`: not JSON, or of another shape."""


ANY: Decoder[object] = msgspec.json.Decoder()


class Unreadable(Exception):
    """No values can be had from the body; the message is the reason that the row carries."""


def plain(body: Body) -> tuple[bytes, bool]:
    """The body without its content codings, and whether it is cut (RFC 9110 §8.4).

    Raises:
        Unreadable: the coding is unknown, the data is not in it, or it is too long.
    """
    data, is_cut = body.data, body.is_cut
    if not body.content_encoding:
        return data, is_cut
    codings = [name.strip().lower() for name in body.content_encoding.split(",")]
    codings = [name for name in codings if name and name != "identity"]
    if len(codings) > MAX_CODINGS:
        raise Unreadable(UNDECODABLE)
    for coding in reversed(codings):  # listed in the order in which they were applied
        try:
            data, is_whole = _decoded(coding, data)
        except zlib.error as exc:
            raise Unreadable(UNDECODABLE) from exc
        is_cut = is_cut or not is_whole
    return data, is_cut


def value_of(body: Body, decoder: Decoder[Value], elements: int = 0) -> Value:
    """The body as what `decoder` makes of its JSON.

    With `elements`, tensors in binary may follow the JSON: so many elements of each are in it.

    Raises:
        Unreadable: it is empty, cut, in an unknown coding, not JSON, or JSON of another shape.
    """
    data, is_cut = plain(body)
    if is_cut:
        raise Unreadable(TRUNCATED)
    try:
        return _parsed(data, decoder)
    except Unreadable:
        if not elements:
            raise
        return _with_tensors(data, decoder, elements)


def _with_tensors(data: bytes, decoder: Decoder[Value], elements: int) -> Value:
    try:
        value = tensors.filled(data, elements)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(NOT_JSON) from exc
    try:
        return msgspec.convert(value, decoder.type)  # type: ignore[no-any-return]
    except msgspec.ValidationError as exc:
        raise Unreadable(UNKNOWN_SHAPE) from exc


def events_of(body: Body, decoder: Decoder[Value]) -> tuple[list[Value], bool]:
    """Every value in a stream of server-sent events, and whether the stream was cut.

    A cut stream still gives the events that are whole; others than JSON (`[DONE]`) are passed over.
    """
    data, is_cut = plain(body)
    values: list[Value] = []
    for text in _event_data(data):
        if text == b"[DONE]":
            continue
        try:
            values.append(_parsed(text, decoder))
        except Unreadable:
            continue
    return values, is_cut


def is_event_stream(body: Body) -> bool:
    """By its content type alone."""
    kind = body.content_type
    return kind != "application/json" and (
        kind.partition(";")[0].strip().lower() == "text/event-stream"
    )


def _event_data(data: bytes) -> Iterator[bytes]:
    """The data of each whole event: an empty line ends it (HTML Living Standard §9.2.6)."""
    lines: list[bytes] = []
    for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            yield b"\n".join(lines)
            lines = []


def _parsed(data: bytes, decoder: Decoder[Value]) -> Value:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # NaN, Infinity and 1e999 are not JSON or no numbers, yet servers send them: one such field
        # is dropped later, the others are kept.
        return msgspec.convert(json.loads(data), decoder.type)  # type: ignore[no-any-return]
    except msgspec.ValidationError as exc:
        raise Unreadable(UNKNOWN_SHAPE) from exc
    except (ValueError, RecursionError) as exc:
        raise Unreadable(NOT_JSON) from exc


def _decoded(coding: str, data: bytes) -> tuple[bytes, bool]:
    match coding:
        case "gzip" | "x-gzip":
            return _inflated(data, 16 + zlib.MAX_WBITS)
        case "deflate":
            try:
                return _inflated(data, zlib.MAX_WBITS)
            except zlib.error:  # many servers mean the bare format by this name
                return _inflated(data, -zlib.MAX_WBITS)
        case _:
            raise Unreadable(UNDECODABLE)


def _inflated(data: bytes, window_bits: int) -> tuple[bytes, bool]:
    """Members one after the other, and whether the last one was whole."""
    parts: list[bytes] = []
    room = MAX_DECODED_BYTES
    while True:
        member = zlib.decompressobj(window_bits)
        part = member.decompress(data, room)
        room -= len(part)
        parts.append(part)
        if member.unconsumed_tail or room <= 0:
            raise Unreadable(UNDECODABLE)
        data = member.unused_data
        if not member.eof or not data:
            return b"".join(parts), member.eof
