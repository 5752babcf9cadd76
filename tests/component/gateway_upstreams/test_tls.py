"""TLS on both sides: who is believed, who is not, and certificates that change while it serves."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import uvloop

from gateway import listening
from gateway.plans import seed_plan
from gateway.proxy import Proxy
from gateway.record import OUTCOMES
from gateway.routing import LivePlan
from gateway.settings import Address
from gateway.tls import Contexts
from gateway.upstream_settings import (
    HealthCheckSettings,
    UpstreamSettings,
    UpstreamTlsSettings,
)
from mlops.service.tls_settings import ServerTls
from tests.component.gateway.conftest import OK, Client, read_request, until
from tests.component.gateway_upstreams.conftest import a_route

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@dataclass
class Files:
    """An authority, and a certificate of it for this machine."""

    authority: trustme.CA
    ca: str
    cert: str
    key: str


def written(directory: Path, name: str = "localhost", authority: trustme.CA | None = None) -> Files:
    directory.mkdir(exist_ok=True)
    authority = authority or trustme.CA()
    issued = authority.issue_cert(name, "127.0.0.1")
    paths = [directory / each for each in ("ca.pem", "cert.pem", "key.pem")]
    for path, blob in zip(
        paths,
        (authority.cert_pem, issued.cert_chain_pems[0], issued.private_key_pem),
        strict=True,
    ):
        new = path.with_suffix(".new")
        blob.write_to_path(str(new))
        new.replace(path)
    return Files(authority, *map(str, paths))


async def secure_upstream(world, files, *, client_ca=None):
    """An `https://` server; its connections' peer certificates, once they are there."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    peers = []
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader, writer):
        peers.append(writer.get_extra_info("peercert"))
        try:
            while await read_request(reader) is not None:
                writer.write(OK)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    world._upstreams.append(type("Started", (), {"server": server})())
    return f"https://localhost:{server.sockets[0].getsockname()[1]}", peers


async def ask(world):
    client = await world.client()
    await client.send(GET)
    status, _, body = await client.answer()
    return status, body


def tls(**settings):
    return UpstreamSettings(tls=UpstreamTlsSettings(**settings))


async def test_an_upstream_that_the_authority_vouches_for_is_spoken_to_over_tls(world, tmp_path):
    files = written(tmp_path)
    url, peers = await secure_upstream(world, files)
    await world.serve(a_route("rag", url, upstream=tls(ca=files.ca)))
    assert await ask(world) == (200, b"ok")
    assert await ask(world) == (200, b"ok")
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "unable to get local issuer certificate"),
        ({"ca": "own", "server_name": "other.example"}, "Hostname mismatch"),
    ],
    ids=["unknown authority", "other name"],
)
async def test_an_upstream_that_is_not_who_it_should_be_gets_no_request(
    world, tmp_path, settings, problem
):
    files = written(tmp_path)
    url, peers = await secure_upstream(world, files)
    if "ca" in settings:
        settings = settings | {"ca": files.ca}
    await world.serve(a_route("rag", url, upstream=tls(**settings)))
    assert (await ask(world))[0] == 502
    (health,) = world.proxy.upstreams("rag")["stable"]
    assert "the server's certificate is not trusted" in health.reason
    assert problem.lower() in health.reason.lower()
    assert peers == []


async def test_verification_can_be_turned_off_and_a_name_given(world, tmp_path):
    files = written(tmp_path, "models.internal")
    url, _ = await secure_upstream(world, files)
    await world.serve(a_route("rag", url, upstream=tls(verify=False)))
    assert (await ask(world))[0] == 200
    await world.proxy.drain(0)
    named = tls(ca=files.ca, server_name="models.internal")
    await world.serve(a_route("rag", url, upstream=named))
    assert (await ask(world))[0] == 200


async def test_we_show_our_certificate_and_read_it_again_when_it_changes(world, tmp_path):
    server, ours = written(tmp_path / "server"), written(tmp_path / "ours", "first.example")
    url, peers = await secure_upstream(world, server, client_ca=ours.ca)
    await world.serve(a_route("rag", url, upstream=tls(ca=server.ca, cert=ours.cert, key=ours.key)))
    assert (await ask(world))[0] == 200
    written(tmp_path / "ours", "second.example", ours.authority)
    await files_are_read_again(world)
    for endpoint in world.proxy._endpoints.values():
        for idle in list(endpoint.idle):
            idle.transport.close()
    await until(lambda: all(not each.open for each in world.proxy._endpoints.values()))
    assert (await ask(world))[0] == 200
    assert [peer["subjectAltName"][0][1] for peer in peers] == ["first.example", "second.example"]


async def files_are_read_again(world):
    world.proxy.look_at_files()
    await world.proxy._looking


async def test_a_plain_server_behind_https_is_a_bad_gateway(world):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    world._upstreams.append(type("Started", (), {"server": server})())
    port = server.sockets[0].getsockname()[1]
    await world.serve(a_route("rag", f"https://127.0.0.1:{port}"))
    assert (await ask(world))[0] == 502
    (health,) = world.proxy.upstreams("rag")["stable"]
    assert health.reason.startswith("no TLS:")


@pytest.mark.parametrize(
    ("framing", "farewell", "expected"),
    [
        (b"content-length: 100\r\n", False, "truncated"),
        (b"", False, "truncated"),
        (b"", True, "ok"),
    ],
    ids=["by length", "by its end, no farewell", "by its end"],
)
async def test_an_answer_cut_short_is_never_taken_for_whole(
    world, tmp_path, framing, farewell, expected
):
    """RFC 9112, 9.8: what ends with the connection is whole only after a closure alert."""
    if not framing and not farewell and type(asyncio.get_running_loop()) is not uvloop.Loop:
        pytest.skip("asyncio does not tell such an end from a proper one; workers run on uvloop")
    files = written(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)

    async def dies(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\npart" % framing)
        await writer.drain()
        if farewell:
            writer.close()
        else:
            await asyncio.sleep(0.05)
            writer.transport.abort()

    server = await asyncio.start_server(dies, "127.0.0.1", 0, ssl=context)
    world._upstreams.append(type("Started", (), {"server": server})())
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    await world.serve(a_route("rag", url, upstream=tls(ca=files.ca)))
    client = await world.client()
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    answer = await client.rest()
    assert answer.endswith(b"0\r\n\r\n") == farewell
    (record,) = await world.records(1)
    assert OUTCOMES[record.outcome] == expected


async def test_health_checks_go_through_tls_too(world, tmp_path):
    files = written(tmp_path)
    url, peers = await secure_upstream(world, files)
    check = HealthCheckSettings(path="/", interval_s=0.05, timeout_s=5, unhealthy=1)
    upstream = UpstreamSettings(health_check=check, tls=UpstreamTlsSettings(ca=files.ca))
    await world.serve(a_route("rag", url, upstream=upstream))
    await until(lambda: len(peers) >= 2)
    (health,) = world.proxy.upstreams("rag")["stable"]
    assert health.healthy


# ---- towards clients -------------------------------------------------------------------------


async def serve_tls(world, route, settings):
    world.proxy = Proxy([route], world.spool, contexts=Contexts(settings))
    world.proxy.apply(LivePlan(seed_plan(route)))
    await world.listen()


async def tls_client(world, ca, cert=None, key=None, server_hostname="localhost"):
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["http/1.1"])
    if cert:
        context.load_cert_chain(cert, key)
    streams = await asyncio.open_connection(
        "127.0.0.1", world.address.port, ssl=context, server_hostname=server_hostname
    )
    client = Client(*streams)
    world._clients.append(client)
    return client


async def ask_with(world, ca, cert, key):
    client = await tls_client(world, ca, cert, key)
    await client.send(GET)
    return (await client.answer())[0]


def serial(client):
    return client.writer.get_extra_info("peercert")["serialNumber"]


async def test_clients_speak_tls_and_those_that_do_not_get_nothing(world, tmp_path):
    files = written(tmp_path)
    upstream = await world.upstream()
    await serve_tls(world, a_route("rag", upstream.url), ServerTls(cert=files.cert, key=files.key))
    client = await tls_client(world, files.ca)
    for _ in range(3):
        await client.send(GET)
        assert (await client.answer())[0] == 200
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    plain = await world.client()
    await plain.send(GET)
    assert not (await plain.rest()).startswith(b"HTTP/")
    assert len(upstream.heads) == 3
    await world.records(3)


async def test_a_big_body_passes_both_ways_with_back_pressure(world, tmp_path):
    files = written(tmp_path)
    big = b"z" * 3_000_000
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(big), big)
    upstream = await world.upstream(answer)
    await serve_tls(world, a_route("rag", upstream.url), ServerTls(cert=files.cert, key=files.key))
    client = await tls_client(world, files.ca)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(big))
    await client.send(big)
    assert (await client.answer())[2] == big
    assert upstream.bodies == [big]


async def test_a_new_certificate_is_shown_to_new_clients_and_old_ones_stay(world, tmp_path):
    files = written(tmp_path)
    upstream = await world.upstream()
    await serve_tls(world, a_route("rag", upstream.url), ServerTls(cert=files.cert, key=files.key))
    before = await tls_client(world, files.ca)
    written(tmp_path, authority=files.authority)
    await files_are_read_again(world)
    after = await tls_client(world, files.ca)
    for client in (before, after):
        await client.send(GET)
        assert (await client.answer())[0] == 200
    assert serial(before) != serial(after)


async def test_bad_new_files_are_refused_and_the_old_ones_stay(world, tmp_path, caplog):
    files = written(tmp_path)
    other = written(tmp_path / "other")
    upstream = await world.upstream()
    await serve_tls(world, a_route("rag", upstream.url), ServerTls(cert=files.cert, key=files.key))
    before = serial(await tls_client(world, files.ca))
    Path(other.key).replace(files.key)
    world.proxy.look_at_files()
    await until(lambda: "the files read before stay in use" in caplog.text)
    world.proxy.look_at_files()
    assert serial(await tls_client(world, files.ca)) == before
    assert caplog.text.count("stay in use") == 1


async def test_a_client_without_the_certificate_asked_for_is_refused(world, tmp_path):
    files, known = written(tmp_path), written(tmp_path / "known")
    unknown = written(tmp_path / "unknown")
    upstream = await world.upstream()
    settings = ServerTls(cert=files.cert, key=files.key, client_ca=known.ca)
    await serve_tls(world, a_route("rag", upstream.url), settings)
    assert await ask_with(world, files.ca, known.cert, known.key) == 200
    for cert, key in ((None, None), (unknown.cert, unknown.key)):
        with pytest.raises(REFUSED):
            await ask_with(world, files.ca, cert, key)
    assert len(upstream.heads) == 1
    # The authority itself is replaced: who was unknown is known now, and the other way round.
    Path(unknown.ca).replace(known.ca)
    await files_are_read_again(world)
    assert await ask_with(world, files.ca, unknown.cert, unknown.key) == 200
    with pytest.raises(REFUSED):
        await ask_with(world, files.ca, known.cert, known.key)
    assert len(upstream.heads) == 2


# ---- Unix sockets ----------------------------------------------------------------------------


async def test_unix_sockets_on_both_sides(world, tmp_path):
    path = tmp_path / "model.sock"

    async def serve(reader, writer):
        assert await read_request(reader) is not None
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    world._upstreams.append(type("Started", (), {"server": server})())
    files = written(tmp_path)
    contexts = Contexts(ServerTls(cert=files.cert, key=files.key))
    route = a_route("rag", f"unix:{path}")
    world.proxy = Proxy([route], world.spool, contexts=contexts)
    world.proxy.apply(LivePlan(seed_plan(route)))
    sockets = await listening.listen(Address(path=str(tmp_path / "gateway.sock")), 1)
    await world.proxy.listen(sockets)
    for each in sockets:
        each.close()
    client = Client(*await asyncio.open_unix_connection(tmp_path / "gateway.sock"))
    world._clients.append(client)
    await client.send(GET)
    assert (await client.answer())[0] == 200
