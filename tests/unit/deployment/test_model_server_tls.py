"""Model servers behind mutual TLS, as a deployment and the doctor reach them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from mlops.config import PlacesSettings, read_config
from mlops.deployment.errors import ServerUnavailable
from mlops.deployment.pool import Pool
from mlops.doctor.checks import _server
from mlops.doctor.findings import State
from mlops.service.tls import ServerContext
from mlops.service.tls_settings import ClientTls, ServerTls
from tests.certificates import issue

SERVED = b'{"model": "m", "version": "1.0.0"}'


class Server:
    """A model server, as far as its clients here ask it."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    async def served(self, _: web.Request) -> web.Response:
        return web.Response(body=SERVED)

    async def load(self, request: web.Request) -> web.Response:
        asked = await request.read()
        self.loaded.append(msgspec.json.decode(asked)["version"])
        return web.Response(body=asked)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, ClientTls]:
    """What a client may believe and show, by who it is."""
    ours, others = trustme.CA(), trustme.CA()
    person, stranger = issue(tmp_path, ours, "person"), issue(tmp_path, others, "stranger")
    return {
        "ours": person,
        "believes others": ClientTls(ca=stranger.ca, cert=person.cert, key=person.key),
        "believes the system's": ClientTls(cert=person.cert, key=person.key),
        "shows nothing": ClientTls(ca=person.ca),
        "shows others'": ClientTls(ca=person.ca, cert=stranger.cert, key=stranger.key),
        "server": issue(tmp_path, ours, "server"),
    }


@pytest.fixture
async def url(server: Server, shown: dict[str, ClientTls]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/healthz", server.served)
    app.router.add_get("/admin/models", server.served)
    app.router.add_post("/admin/models", server.load)
    own = shown["server"]
    assert own.cert is not None
    assert own.key is not None
    context = ServerContext(ServerTls(cert=own.cert, key=own.key, client_ca=own.ca)).front
    running = TestServer(app, scheme="https", host="127.0.0.1")
    await running.start_server(ssl=context)
    yield str(running.make_url("")).rstrip("/")
    await running.close()


def places(url: str, tls: ClientTls, folder: Path) -> PlacesSettings:
    """As the environment gives them."""
    environ = {
        "MLOPS_MODEL_POOL_A": url,
        "MODEL_SERVER_TOKEN": "token",
        "MLOPS_TLS_CA": tls.ca,
        "MLOPS_TLS_CERT": tls.cert,
        "MLOPS_TLS_KEY": tls.key,
    }
    given = {name: value for name, value in environ.items() if value is not None}
    return read_config(given, folder).places


async def test_a_pool_is_loaded_by_who_is_believed_and_believes(
    server: Server, url: str, shown: dict[str, ClientTls], tmp_path: Path
) -> None:
    asked = places(url, shown["ours"], tmp_path)
    async with Pool(asked.pool_a, asked, actor="a test") as pool:
        await pool.load("m", "1.1.0")
        await pool.put_back()
    assert server.loaded == ["1.1.0", "1.0.0"]
    (finding,) = await _server("model server a", url, asked)
    assert (finding.state, finding.what) == (State.OK, "serves m 1.0.0")


@pytest.mark.parametrize(
    "who", ["believes others", "believes the system's", "shows nothing", "shows others'"]
)
async def test_anybody_else_loads_nothing(
    server: Server, url: str, shown: dict[str, ClientTls], tmp_path: Path, who: str
) -> None:
    asked = places(url, shown[who], tmp_path)
    async with Pool(asked.pool_a, asked, actor="a test") as pool:
        with pytest.raises(ServerUnavailable):
            await pool.load("m", "1.1.0")
    assert server.loaded == []
    (finding,) = await _server("model server a", url, asked)
    assert finding.state is State.WARNING
