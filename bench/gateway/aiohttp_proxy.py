"""What most teams would write: aiohttp's server in front of aiohttp's client, on uvloop.

Splits by the user's header and passes bodies on as they come. It records nothing.
"""

from __future__ import annotations

import sys
from hashlib import blake2b

import uvloop
from aiohttp import ClientSession, TCPConnector, web

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)


class Proxy:
    def __init__(self, upstream: str) -> None:
        self._arms = {"stable": upstream, "canary": upstream}
        self._session: ClientSession

    async def start(self, _: web.Application) -> None:
        self._session = ClientSession(connector=TCPConnector(limit=0), auto_decompress=False)

    async def stop(self, _: web.Application) -> None:
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("x-user-id", "").encode()
        bucket = int.from_bytes(blake2b(key, digest_size=8).digest(), "big") % 10_000
        arm = "canary" if bucket < 1_000 else "stable"
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP]
        body = await request.read() if (request.content_length or 0) < 65_536 else request.content
        url = self._arms[arm] + request.path_qs
        async with self._session.request(request.method, url, headers=headers, data=body) as got:
            answer = web.StreamResponse(status=got.status)
            for name, value in got.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    answer.headers.add(name, value)
            answer.headers["x-served-by"] = arm
            await answer.prepare(request)
            async for chunk in got.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer


def main() -> None:
    port, upstream_port = (int(text) for text in sys.argv[1:])
    proxy = Proxy(f"http://127.0.0.1:{upstream_port}")
    application = web.Application(client_max_size=1 << 30)
    application.on_startup.append(proxy.start)
    application.on_cleanup.append(proxy.stop)
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    uvloop.install()
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
