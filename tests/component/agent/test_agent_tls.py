"""An agent behind mutual TLS that speaks to a gateway behind mutual TLS."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from agent import settings as agent_settings
from agent.app import Agent
from agent.memory import Memory
from agent.settings import SettingsError
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.errors import AgentUnavailable
from mlops.service.tls import ServerContext, Trust
from mlops.service.tls_settings import ClientTls, ServerTls

FILE = """
listen: 127.0.0.1:0
tls: {{cert: {0}/agent.pem, key: {0}/agent.key, client_ca: {0}/ca.pem}}
memory: {0}/agent.sqlite
gateways:
  - url: {1}
    tls: {{ca: {0}/ca.pem, cert: {0}/{2}.pem, key: {0}/{2}.key}}
modelServers: {{tls: {{ca: {0}/models.pem, server_name: models.internal}}}}
tokens: {{operator: {{env: OPERATOR}}}}
interval: 100ms
drift: false
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    authority = trustme.CA()
    for name in ("gateway", "agent", "person"):
        write(tmp_path, authority, name)
    for name in ("ca", "models"):
        authority.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    write(tmp_path, trustme.CA(), "stranger")
    return tmp_path


def write(directory: Path, authority: trustme.CA, name: str) -> None:
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
    issued.private_key_pem.write_to_path(str(directory / f"{name}.key"))


def shows(files: Path, name: str) -> ClientTls:
    return ClientTls(ca=f"{files}/ca.pem", cert=f"{files}/{name}.pem", key=f"{files}/{name}.key")


@pytest.fixture
async def secure_gateway(gateway: Any, files: Path) -> Any:
    """The fixture's gateway, on a port that wants certificates."""
    server = ServerTls(
        cert=f"{files}/gateway.pem", key=f"{files}/gateway.key", client_ca=f"{files}/ca.pem"
    )
    runner = web.AppRunner(gateway.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ServerContext(server).front).start()
    gateway.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield gateway
    await runner.cleanup()


@pytest.fixture
async def started(secure_gateway: Any, log: Any, files: Path) -> Any:
    """Start an agent that shows its gateway the certificate of this name; it, and its address."""
    agents = []

    async def start(shown: str) -> tuple[Agent, str]:
        path = files / "agent.yaml"
        path.write_text(FILE.format(files, secure_gateway.url, shown))
        settings = agent_settings.load(path, {"OPERATOR": "operator"})
        agent = Agent(settings, Memory.open(settings.memory, []), log)
        agents.append(agent)
        return agent, await agent.start()

    yield start
    for agent in agents:
        await agent.stop()


async def has_canary(gateway: Any) -> bool:
    return gateway.plan.canary is not None


async def test_a_release_goes_through_both_doors(
    started: Any, secure_gateway: Any, files: Path, wait: Any
) -> None:
    _, url = await started("agent")
    assert url.startswith("https://")
    request = {
        "route": "rag",
        "version": "2",
        "endpoints": ["http://127.0.0.1:8012"],
        "reason": "a test",
    }
    async with AgentClient(url, "operator", trust=Trust(shows(files, "person"))) as client:
        await client.call("POST", "/v1/releases", request, object)
        await wait(lambda: has_canary(secure_gateway))


@pytest.mark.parametrize("shown", [None, "stranger"])
async def test_who_shows_no_certificate_of_ours_does_not_reach_the_agent(
    started: Any, files: Path, shown: str | None
) -> None:
    _, url = await started("agent")
    tls = ClientTls(ca=f"{files}/ca.pem") if shown is None else shows(files, shown)
    with pytest.raises(AgentUnavailable):
        async with AgentClient(url, "operator", trust=Trust(tls)) as client:
            await client.releases()


async def test_an_agent_whose_certificate_is_not_known_sees_no_gateway(
    started: Any, secure_gateway: Any
) -> None:
    for shown, seen in (("agent", 1), ("stranger", 0)):
        agent, _ = await started(shown)
        view = await agent._gateways.look()
        assert len(view.routes) == seen
        assert [one.gateway for one in view.silent] == [secure_gateway.url] * (1 - seen)


def test_a_file_that_cannot_be_used_stops_the_agent_at_its_start(files: Path) -> None:
    path = files / "agent.yaml"
    for name, said in (
        ("agent.key", "tls: .*agent.key"),
        ("ca.pem", "tls: .*ca.pem"),
        ("models.pem", r"modelServers\.tls: .*models.pem"),
    ):
        path.write_text(FILE.format(files, "https://127.0.0.1:1", "agent"))
        settings = agent_settings.load(path, {"OPERATOR": "operator"})
        assert settings.model_servers_tls.server_name == "models.internal"
        kept = (files / name).read_bytes()
        (files / name).unlink()
        with pytest.raises(SettingsError, match=said):
            agent_settings.load(path, {"OPERATOR": "operator"})
        (files / name).write_bytes(kept)


def test_the_settings_say_nothing_of_tls_where_the_file_does_not(files: Path) -> None:
    path = files / "agent.yaml"
    path.write_text("gateways: [{url: 'http://127.0.0.1:1'}]")
    settings = agent_settings.load(path, {})
    assert settings.tls is None
    assert dataclasses.asdict(settings.gateways[0])["tls"] == ClientTls()
