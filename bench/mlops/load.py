"""Clients of a model server in a process of their own: each asks again once it is answered.

`python -m bench.mlops.load PORT CLIENTS SECONDS BODY`; prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from time import perf_counter

import uvloop

from bench.gateway.client import Connection, post


async def embeddings(port: int, clients: int, seconds: float, body: bytes) -> dict[str, float]:
    """Ask for one embedding at a time from so many connections."""
    request = post("/v1/embeddings", body, 0)
    statuses: Counter[str] = Counter()
    asked = 0
    over = perf_counter() + seconds

    def answered(connection: Connection) -> None:
        nonlocal asked
        statuses[connection.status.decode()] += 1
        if perf_counter() < over:
            asked += 1
            connection.transport.write(request)

    loop = asyncio.get_running_loop()
    started_s = perf_counter()
    connections = [
        (await loop.create_connection(lambda: Connection(answered), "127.0.0.1", port))[1]
        for _ in range(clients)
    ]
    for connection in connections:
        asked += 1
        connection.transport.write(request)
    while perf_counter() < over or (
        sum(statuses.values()) < asked and perf_counter() < over + seconds
    ):
        await asyncio.sleep(0.02)
    took_s = perf_counter() - started_s
    ok = statuses["200"]
    answers = sum(statuses.values())
    return {
        "answered": ok,
        "failed": asked - ok,
        "per_s": ok / took_s,
        "answers_per_s": answers / took_s,
    }


def main() -> None:
    port, clients, seconds, body = sys.argv[1:]
    found = uvloop.run(embeddings(int(port), int(clients), float(seconds), body.encode()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
