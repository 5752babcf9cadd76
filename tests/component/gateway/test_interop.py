"""Clients and servers that we did not write: the same through the gateway as without it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import openai
import pytest
import requests
import uvicorn
from aiohttp import web

from gateway.settings import TimeoutSettings
from tests.component.gateway import echo_server

ROOT = Path(__file__).parents[3]
PATIENT = TimeoutSettings(connect_s=5, first_byte_s=20, idle_s=20)
BODY = bytes(range(256)) * 500
OWN = {
    *("date", "server", "x-request-id", "x-served-by", "connection", "keep-alive", "via"),
    "transfer-encoding",
}
"""Of one hop or one moment."""
ASKED = (
    ("GET", "/file", b""),
    ("HEAD", "/file", b""),
    ("GET", "/stream", b""),
    ("GET", "/events", b""),
    ("GET", "/empty", b""),
    ("GET", "/gone", b""),
    ("GET", "/missing", b""),
    ("POST", "/echo", b""),
    ("POST", "/echo", BODY),
    ("PUT", "/echo", b"chunked"),
    ("DELETE", "/gone", b""),
)
"""The body `chunked` is sent without a length."""

Answered = tuple[int, dict[str, str], bytes]


def answered(status: int, headers: object, body: bytes) -> Answered:
    """What must be the same with and without the gateway."""
    pairs = {name.lower(): value for name, value in headers.items()}  # type: ignore[attr-defined]
    return status, {name: value for name, value in pairs.items() if name not in OWN}, body


async def with_httpx(url: str) -> list[Answered]:
    async def pieces() -> AsyncIterator[bytes]:
        yield BODY
        yield b"end"

    got = []
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        for method, path, body in ASKED:
            content = pieces() if body == b"chunked" else body
            answer = await client.request(method, path, content=content)
            got.append(answered(answer.status_code, answer.headers, answer.content))
    return got


async def with_aiohttp(url: str) -> list[Answered]:
    async def pieces() -> AsyncIterator[bytes]:
        yield BODY
        yield b"end"

    got = []
    async with aiohttp.ClientSession(url) as session:
        for method, path, body in ASKED:
            data = pieces() if body == b"chunked" else body
            async with session.request(method, path, data=data, expect100=bool(body)) as answer:
                got.append(answered(answer.status, answer.headers, await answer.read()))
    return got


def _with_requests(url: str) -> list[Answered]:
    got = []
    with requests.Session() as session:
        for method, path, body in ASKED:
            data = iter((BODY, b"end")) if body == b"chunked" else body
            answer = session.request(method, url + path, data=data, timeout=20)
            got.append(answered(answer.status_code, answer.headers, answer.content))
    return got


async def with_requests(url: str) -> list[Answered]:
    return await asyncio.to_thread(_with_requests, url)


def _with_curl(url: str) -> list[Answered]:
    """With an `Upgrade` to HTTP/2 where there is no body (uvicorn would lose it), else `Expect`."""
    got = []
    for method, path, body in ASKED:
        command = ["curl", "-sS", "--max-time", "20", "-D", "/dev/stderr", url + path]
        command += ["-I"] if method == "HEAD" else ["-X", method]
        if not body:
            command += ["--http2"]
        else:
            command += ["-H", "Expect: 100-continue", "--data-binary", "@-"]
        if body == b"chunked":
            command += ["-H", "Transfer-Encoding: chunked"]
        done = subprocess.run(command, input=body, capture_output=True, check=True)
        *_, head = done.stderr.decode("latin-1").strip().split("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        content = b"" if method == "HEAD" else done.stdout
        got.append(answered(int(first.split(" ")[1]), headers, content))
    return got


async def with_curl(url: str) -> list[Answered]:
    return await asyncio.to_thread(_with_curl, url)


@asynccontextmanager
async def on_uvicorn(parser: str) -> AsyncIterator[str]:
    config = uvicorn.Config(
        echo_server.asgi, http=parser, lifespan="off", log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    listens = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server.serve(sockets=[listens]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listens.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listens.close()


@asynccontextmanager
async def on_aiohttp() -> AsyncIterator[str]:
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", echo_server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def on_gunicorn() -> AsyncIterator[str]:
    """A process of its own, on a socket that it inherits."""
    with socket.create_server(("127.0.0.1", 0)) as listens:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-m", "gunicorn", "--worker-class", "gthread"),
            *("--bind", f"fd://{listens.fileno()}", "--threads", "4", "--log-level", "error"),
            "tests.component.gateway.echo_server:wsgi",
            cwd=ROOT,
            pass_fds=(listens.fileno(),),
        )
        try:
            yield f"http://127.0.0.1:{listens.getsockname()[1]}"
        finally:
            process.terminate()
            await process.wait()


CLIENTS = {
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "requests": with_requests,
} | ({"curl": with_curl} if shutil.which("curl") else {})  # a program, not a package
SERVERS = {
    "uvicorn, h11": lambda: on_uvicorn("h11"),
    "uvicorn, httptools": lambda: on_uvicorn("httptools"),
    "aiohttp": on_aiohttp,
    "gunicorn": on_gunicorn,
}


@pytest.mark.parametrize("server", SERVERS)
async def test_the_same_through_the_gateway_as_without_it(world, server):
    async with SERVERS[server]() as url:
        await world.gateway(url, timeouts=PATIENT)
        through = f"http://127.0.0.1:{world.address.port}"
        for name, client in CLIENTS.items():
            direct, proxied = await client(url), await client(through)
            for asked, ours, theirs in zip(ASKED, proxied, direct, strict=True):
                assert ours == theirs, (name, asked[:2])
        records = await world.records(len(CLIENTS) * len(ASKED))
        assert {record.status for record in records} == {200, 204, 404, 410}
        assert [record.events for record in records if record.events] == [5] * len(CLIENTS)
        await world.proxy.drain(0)


async def test_the_openai_package(world):
    """Chat, chat as a stream, embeddings: what applications send to a model server."""

    async def chat(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        assert request.headers["authorization"] == "Bearer secret"
        message = {"role": "assistant", "content": asked["messages"][0]["content"].upper()}
        shared = {"id": "c1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(shared | {"object": "chat.completion", "choices": [choice]})
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for word in message["content"].split():
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = shared | {"object": "chat.completion.chunk", "choices": [choice]}
            await answer.write(b"data: " + web.json_response(chunk).body + b"\n\n")
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def embed(request: web.Request) -> web.Response:
        texts = (await request.json())["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5]}
            for index, text in enumerate(texts)
        ]
        return web.json_response({"object": "list", "model": "m", "data": data})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/embeddings", embed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await world.gateway(f"http://127.0.0.1:{runner.addresses[0][1]}", timeouts=PATIENT)
        base = f"http://127.0.0.1:{world.address.port}/v1"
        asked = [{"role": "user", "content": "one two three"}]
        async with openai.AsyncOpenAI(base_url=base, api_key="secret", max_retries=0) as client:
            whole = await client.chat.completions.create(model="m", messages=asked)
            assert whole.choices[0].message.content == "ONE TWO THREE"
            stream = await client.chat.completions.create(model="m", messages=asked, stream=True)
            words = [chunk.choices[0].delta.content async for chunk in stream]
            assert words == ["ONE", "TWO", "THREE"]
            embedded = await client.embeddings.create(
                model="m", input=["a", "bcd"], encoding_format="float"
            )
            assert [each.embedding for each in embedded.data] == [[1.0, 0.5], [3.0, 0.5]]
        records = await world.records(3)
        assert [record.events for record in records] == [0, 4, 0]
        await world.proxy.drain(0)
    finally:
        await runner.cleanup()
