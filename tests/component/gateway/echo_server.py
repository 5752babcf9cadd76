"""One small server for three kinds: WSGI (gunicorn), ASGI (uvicorn) and aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

FILE = bytes(range(256)) * 1200
EVENTS = tuple(b"data: %d\n\n" % number for number in range(5))
REASONS = {200: "OK", 204: "No Content", 404: "Not Found", 410: "Gone"}

Response = tuple[int, list[tuple[str, str]], tuple[bytes, ...]]


def respond(path: str, body: bytes) -> Response:
    """Status, headers and pieces; without a content-length it is streamed."""
    if path == "/echo":
        return 200, [("content-type", "a/b"), ("content-length", str(len(body)))], (body,)
    if path == "/file":
        return 200, [("etag", '"x"'), ("content-length", str(len(FILE)))], (FILE,)
    if path == "/stream":
        return 200, [("content-type", "a/b")], tuple(b"part %d" % number for number in range(20))
    if path == "/events":
        return 200, [("content-type", "text/event-stream")], EVENTS
    if path == "/empty":
        return 204, [("x-empty", "yes")], ()
    if path == "/gone":
        return 410, [("content-type", "a/b"), ("content-length", "4")], (b"gone",)
    return 404, [("content-length", "0")], ()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    status, headers, pieces = respond(environ["PATH_INFO"], body)
    start_response(f"{status} {REASONS[status]}", headers)
    return () if environ["REQUEST_METHOD"] == "HEAD" else pieces


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, headers, pieces = respond(scope["path"], body)
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    if scope["method"] != "HEAD":
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def handle(request: web.Request) -> web.StreamResponse:
    """aiohttp's."""
    status, headers, pieces = respond(request.path, await request.read())
    answer = web.StreamResponse(status=status, headers=dict(headers))
    await answer.prepare(request)
    if request.method != "HEAD":
        for piece in pieces:
            await answer.write(piece)
    await answer.write_eof()
    return answer
