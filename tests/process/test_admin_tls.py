"""The admin port behind mutual TLS: a real gateway, the library's client and the command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from cli.main import main
from mlops.deployment.errors import GatewayUnavailable
from mlops.deployment.gateway_client import GatewayClient
from mlops.service.tls import Trust
from mlops.service.tls_settings import ClientTls
from tests.certificates import issue
from tests.process.gateway_process import OPERATOR, Gateway, Servers, route

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


async def routes(gateway: Gateway, tls: ClientTls) -> list[Any]:
    async with GatewayClient(gateway.admin, OPERATOR, trust=Trust(tls)) as client:
        return await client.routes()


async def test_only_who_shows_a_certificate_of_ours_reaches_the_admin_port(
    gateway: Gateway, servers: Servers, tmp_path: Path
) -> None:
    ours, others = trustme.CA(), trustme.CA()
    server = issue(tmp_path, ours, "server")
    person = issue(tmp_path, ours, "person", "ann.example")
    stranger = issue(tmp_path, others, "stranger")
    gateway.write_file(
        route(servers),
        admin={
            "listen": "127.0.0.1:0",
            "tokens": {"operator": {"env": "OPERATOR"}},
            "tls": {"cert": server.cert, "key": server.key, "client_ca": server.ca},
        },
    )
    await gateway.start()
    assert gateway.admin.startswith("https://")
    assert await routes(gateway, person)
    # Nobody without a certificate, nobody with another's, and nobody is told what we are not.
    for refused in (
        ClientTls(ca=server.ca),
        ClientTls(ca=server.ca, cert=stranger.cert, key=stranger.key),
        ClientTls(ca=stranger.ca, cert=person.cert, key=person.key),
    ):
        with pytest.raises(GatewayUnavailable):
            await routes(gateway, refused)
    environment = {
        "MLOPS_GATEWAY_ADMIN_URLS": gateway.admin,
        "GATEWAY_OPERATOR_TOKEN": OPERATOR,
        "MLOPS_TLS_CA": server.ca,
    }
    shown = {"MLOPS_TLS_CERT": person.cert, "MLOPS_TLS_KEY": person.key}
    for more, code in ((shown, 0), ({}, 1)):
        ended = await asyncio.to_thread(
            CliRunner().invoke, main, ["weights", "get", "rag"], env=environment | more
        )
        assert ended.exit_code == code, ended.output
    environment |= shown
    for more, code in (({}, 0), ({"MLOPS_TLS_CA": stranger.ca}, 1)):
        healthy = await asyncio.create_subprocess_exec(
            sys.executable, "deploy/healthy", f"{gateway.admin}/readyz", env=environment | more,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await healthy.wait() == code
    # The authority is replaced, and the server's certificate with it; a reload takes it up at once.
    next_server = issue(tmp_path, others, "server")
    async with GatewayClient(gateway.admin, OPERATOR, trust=Trust(person)) as client:
        await client.call("POST", "/v1/reload", None, object)
    assert await routes(gateway, ClientTls(ca=next_server.ca, cert=stranger.cert, key=stranger.key))
    with pytest.raises(GatewayUnavailable):
        await routes(gateway, person)
    assert await gateway.end() == 0
