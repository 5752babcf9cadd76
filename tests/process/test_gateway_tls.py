"""A real gateway that ends TLS: workers read new certificates on reload, and refuse bad ones."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from tests.process.gateway_process import DEADLINE_S, Gateway, Servers, route

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

EVERYTHING = {
    "pool": {"connections": 8},
    "circuit_breaker": {"requests": 100},
    "health_check": {"path": "/query", "interval": "200ms", "timeout": "200ms"},
    "outlier_detection": {"failure_percentage": 50},
    "timeouts": {"total": "30s"},
    "max_canary": 50,
    "never_canary": {"keys": ["vip"], "header": "x-tenant", "values": ["acme"]},
    "tls": {"verify": False},
    "mirror": {"percent": 10},
}


def issue(directory: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("127.0.0.1")
    for blob, name in ((issued.cert_chain_pems[0], "cert"), (issued.private_key_pem, "key")):
        blob.write_to_path(str(directory / f"{name}.new"))
        (directory / f"{name}.new").replace(directory / f"{name}.pem")


async def shown(gateway: Gateway, authority: trustme.CA) -> tuple[str, int]:
    """The serial number of the certificate that a new connection gets, and an answer's status."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.write(b"GET /query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return serial, int(answer.split(b" ")[1])


async def test_workers_show_new_certificates_after_a_reload_and_refuse_bad_ones(
    gateway: Gateway, servers: Servers, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issue(tmp_path, authority)
    tls = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    gateway.write_file(route(servers, **EVERYTHING), tls=tls, workers=2)
    await gateway.start()
    assert gateway.url.startswith("https://")
    first, status = await shown(gateway, authority)
    assert status == 200
    issue(tmp_path, authority)
    await gateway.done("POST", "/v1/reload")
    async with asyncio.timeout(DEADLINE_S):
        while first in {(await shown(gateway, authority))[0] for _ in range(8)}:
            await asyncio.sleep(0.02)
    second, _ = await shown(gateway, authority)
    (tmp_path / "key.pem").write_text("no key")
    refused, body = await gateway.ask("POST", "/v1/reload")
    assert refused == 422
    assert b"tls: " in body
    assert {await shown(gateway, authority) for _ in range(8)} == {(second, 200)}
    await gateway.until(lambda status: status.upstreams["stable"][0].healthy)
    assert await gateway.end() == 0
