"""A gate that asks a real Prometheus, which scrapes a real endpoint."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.condition import Condition
from agent.providers import Providers
from agent.rules import Gate, Prometheus
from mlops.feature_store.settings import ClickHouseSettings
from tests.releases import release

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]


async def metrics(_: web.Request) -> web.Response:
    return web.Response(text='load{route="rag"} 7\nload{route="other"} 99\n')


async def test_a_query_decides(tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target = f"127.0.0.1:{runner.addresses[0][1]}"
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "scrape_configs: [{job_name: t, scrape_interval: 1s, "
        f"static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    providers = Providers(ClickHouseSettings())

    async def ask(query: str, condition: str) -> tuple[bool, str]:
        provider = Prometheus(address=address, query=query)
        gate = Gate(name="g", provider=provider, condition=Condition(condition))
        return await providers.ask(gate, release())

    try:
        query = 'load{route="{{args.route}}"}'
        async with asyncio.timeout(60):
            while not (await ask(query, "result[0] == 7"))[0]:
                await asyncio.sleep(0.2)
        assert not (await ask(query, "result[0] > 7"))[0]
        passed, why = await ask('load{route="none"}', "result[0] == 7")
        assert not passed
        assert "0 values" in why
        passed, why = await ask("sum(", "result[0] == 7")
        assert not passed
        assert "parse error" in why
        assert (await ask("scalar(sum(load))", "result == 106"))[0]
    finally:
        server.terminate()
        await server.wait()
        await providers.close()
        await runner.cleanup()
    with pytest.raises(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(address):
            pass
