"""A client and a server that we did not write: aiohttp on both ends."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web


async def test_aiohttp_on_both_ends(world):
    async def echo(request):
        answer = web.StreamResponse(headers={"x-length": str(request.content_length)})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for part in request.content.iter_chunked(10_000):
            await answer.write(part)
        await answer.write_eof()
        return answer

    app = web.Application(client_max_size=0)
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        await world.gateway(f"http://127.0.0.1:{runner.addresses[0][1]}")
        url = f"http://127.0.0.1:{world.address.port}/echo"
        body = bytes(range(256)) * 2000

        async def parts():
            for start in range(0, len(body), 30_000):
                yield body[start : start + 30_000]

        async def post(session, data, length):
            async with session.post(url, data=data, expect100=length == "None") as answer:
                assert answer.headers["x-served-by"] == "stable;1"
                assert answer.headers["x-length"] == length
                assert await answer.read() == body

        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            for _ in range(3):
                await asyncio.gather(
                    *(post(session, body, str(len(body))) for _ in range(4)),
                    *(post(session, parts(), "None") for _ in range(4)),
                )
        await world.records(24)
    finally:
        await runner.cleanup()
