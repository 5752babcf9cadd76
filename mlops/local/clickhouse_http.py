"""ClickHouse's HTTP interface in front of an embedded engine.

What a client sees is what a server would show, with these differences: any user and password are
taken (we listen on loopback alone), answers are sent whole rather than streamed, and external
tables are not supported.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Protocol

import lz4.frame
from aiohttp import BodyPartReader, web

from mlops.local.clickhouse_call import (
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    CANNOT_DECOMPRESS,
    DEFAULT_SESSION_TIMEOUT_S,
    NOT_IMPLEMENTED,
    TOO_MANY_BYTES,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    Answer,
    Call,
    EngineError,
)
from mlops.local.clickhouse_statement import insert_head

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 << 20
"""Largest request body, as received and as inflated: a batch of the recorder has tens of MB."""

THREADS = 8
"""Statements running at once; the engine has threads of its own for each of them."""

MAX_REQUESTS = 256
"""Requests accepted and not answered yet; past that a client is told to come back (code 202)."""

_RESERVED = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
"""Parameters of the HTTP interface; every other one is a setting."""

_BAD_REQUEST = (6, 26, 27, 36, 38, 41, 43, 53, 62, 70, 72, 117, 349, 427, CANNOT_DECOMPRESS)
_NOT_FOUND = (46, 47, 50, 56, 60, 73, 81, 115)
_STATUS = {
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    NOT_IMPLEMENTED: 501,
    TOO_MANY_BYTES: 413,
    TOO_MANY_SIMULTANEOUS_QUERIES: 503,
    159: 408,
    164: 403,
    497: 403,
    AUTHENTICATION_FAILED: 403,
}
"""HTTP status by error code, as ClickHouse's `exceptionCodeToHTTPStatus`; anything else is 500."""

_BINARY = frozenset({"Native", "RowBinary", "Arrow", "ArrowStream", "Parquet", "ORC"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Runs(Protocol):
    """What the front needs of an engine."""

    timezone: str
    version: str

    def run(self, call: Call) -> Answer:
        """Run one statement; blocking. Raises EngineError: it was refused."""


def inflate_lz4(body: bytes, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Inflate every frame: a client sends one frame per block, and a body holds many blocks.

    Raises:
        EngineError: not lz4, cut off, or larger than `limit_bytes` when inflated.
    """
    inflated: list[bytes] = []
    left = limit_bytes
    rest = body
    while rest:
        frame = lz4.frame.LZ4FrameDecompressor()
        try:
            piece = frame.decompress(rest, max_length=left + 1)
        except RuntimeError as error:
            raise EngineError.of(
                CANNOT_DECOMPRESS, f"the body is not lz4 frames: {error}"
            ) from error
        if len(piece) > left:
            raise EngineError.of(TOO_MANY_BYTES, f"the body inflates to over {limit_bytes:,} bytes")
        if not frame.eof:
            raise EngineError.of(CANNOT_DECOMPRESS, "the last lz4 frame of the body is cut off")
        left -= len(piece)
        inflated.append(piece)
        rest = frame.unused_data or b""
    return b"".join(inflated)


class Front:
    """The request handler: reads a request into a `Call`, runs it on a thread, answers."""

    def __init__(self, engine: Runs) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="statement")
        self._requests = 0
        self._running = 0
        self._running_lock = Lock()

    def application(self) -> web.Application:
        """The routes of ClickHouse's HTTP interface."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/", self._root)
        for path in ("/ping", "/replicas_status"):
            application.router.add_get(path, _pong)
        return application

    def close(self) -> bool:
        """Start no more statements. False: some still run, and the engine may not be closed."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._running_lock:
            return self._running == 0

    def _run(self, call: Call) -> Answer:
        with self._running_lock:
            self._running += 1
        try:
            return self._engine.run(call)
        finally:
            with self._running_lock:
                self._running -= 1

    async def _root(self, request: web.Request) -> web.Response:
        headers = {
            "X-ClickHouse-Query-Id": request.query.get("query_id") or str(uuid.uuid4()),
            "X-ClickHouse-Timezone": self._engine.timezone,
            "X-ClickHouse-Server-Display-Name": "embedded",
        }
        self._requests += 1
        try:
            if self._requests > MAX_REQUESTS:
                raise EngineError.of(
                    TOO_MANY_SIMULTANEOUS_QUERIES, f"{MAX_REQUESTS} requests are waiting, the limit"
                )
            _check_origin(request)
            call = await _call_of(request)
            if not call.sql:
                return web.Response(text="Ok.\n")
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._run, call)
        except EngineError as error:
            return self._problem(error, headers)
        finally:
            self._requests -= 1
        return _response(answer, headers)

    def _problem(self, error: EngineError, headers: dict[str, str]) -> web.Response:
        return web.Response(
            status=_STATUS.get(error.code, 500),
            text=f"{error.text} (version {self._engine.version})\n",
            headers={**headers, "X-ClickHouse-Exception-Code": str(error.code)},
        )


async def _pong(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


def _check_origin(request: web.Request) -> None:
    """No web page may reach us: not by another name for 127.0.0.1, not by a form posted here."""
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if host not in _LOOPBACK_NAMES:
        raise EngineError.of(
            AUTHENTICATION_FAILED, f"host {host!r} is not a name of this machine's loopback"
        )
    if "Origin" in request.headers:
        raise EngineError.of(AUTHENTICATION_FAILED, "requests of web pages are not taken")


async def _call_of(request: web.Request) -> Call:
    query: dict[str, str] = dict(request.query)
    if request.content_type == "multipart/form-data":
        query.update(await _form_fields(request))
        body = b""
    else:
        body = await _body(request)
    sql, data = _statement(query.get("query", ""), body)
    head = insert_head(sql)
    if head is not None:
        data = sql[head.data_at :] + data
    settings = {
        name: value
        for name, value in query.items()
        if name not in _RESERVED and not name.startswith("param_")
    }
    if request.method in ("GET", "HEAD"):
        settings["readonly"] = "2"  # as a server does: a GET changes nothing
    return Call(
        sql=_text(sql) if head is None else head.sql,
        insert=head,
        data=data,
        database=query.get("database") or request.headers.get("X-ClickHouse-Database") or "",
        default_format=query.get("default_format")
        or request.headers.get("X-ClickHouse-Format")
        or "TabSeparated",
        settings=settings,
        parameters={name[6:]: text for name, text in query.items() if name.startswith("param_")},
        session_id=query.get("session_id", ""),
        session_timeout_s=_number(query, "session_timeout", DEFAULT_SESSION_TIMEOUT_S),
        session_check=query.get("session_check", "0") == "1",
    )


def _statement(in_address: str, body: bytes) -> tuple[bytes, bytes]:
    """Statement and rows. The address holds the statement and the body its rows, or its rest."""
    if not in_address:
        return body, b""
    sql = in_address.encode()
    if insert_head(sql) is not None:
        return sql, body
    return (sql + b"\n" + body if body else sql), b""


def _text(sql: bytes) -> str:
    try:
        return sql.decode().strip()
    except UnicodeDecodeError as error:
        raise EngineError.of(
            BAD_ARGUMENTS, f"the statement is not UTF-8 at byte {error.start}"
        ) from None


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(query.get(name, default))
    except ValueError:
        raise EngineError.of(
            BAD_ARGUMENTS, f"{name} is {query[name]!r}, expected a number"
        ) from None


async def _body(request: web.Request) -> bytes:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise EngineError.of(
            TOO_MANY_BYTES, f"the body has over {MAX_BODY_BYTES:,} bytes"
        ) from None
    encoding = request.headers.get("Content-Encoding", "").lower()
    if encoding == "lz4":
        inflate: Callable[[bytes], bytes] = inflate_lz4
        return await asyncio.to_thread(inflate, body)
    if encoding in ("", "identity", "gzip", "deflate", "br", "zstd"):
        return body  # aiohttp has inflated these while reading, within the same bound
    raise EngineError.of(NOT_IMPLEMENTED, f"Content-Encoding {encoding!r} is not one we inflate")


async def _form_fields(request: web.Request) -> dict[str, str]:
    """Parameters sent as a form, which clients do when they are too long for an address."""
    fields: dict[str, str] = {}
    left = MAX_BODY_BYTES
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if not isinstance(part, BodyPartReader) or part.filename or not part.name:
            raise EngineError.of(
                NOT_IMPLEMENTED, "external tables are not supported by this engine"
            )
        content = bytes(await part.read(decode=True))
        left -= len(content)
        if left < 0:
            raise EngineError.of(TOO_MANY_BYTES, f"the form has over {MAX_BODY_BYTES:,} bytes")
        fields[part.name] = _text(content)
    return fields


def _response(answer: Answer, headers: dict[str, str]) -> web.Response:
    headers["X-ClickHouse-Summary"] = json.dumps(answer.summary)
    content_type = "text/plain; charset=UTF-8"
    if answer.output_format is not None:
        headers["X-ClickHouse-Format"] = answer.output_format
        if answer.output_format in _BINARY:
            content_type = "application/octet-stream"
    headers["Content-Type"] = content_type
    arguments: dict[str, Any] = {"body": answer.body, "headers": headers}
    return web.Response(**arguments)
