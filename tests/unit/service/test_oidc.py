"""Tokens of an identity provider, against a key server on this machine."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from agent.console.door import Door
from gateway.config import parse
from mlops.service.http import authorizing, refusing
from mlops.service.oidc import (
    ASK_AGAIN_S,
    KEYS_LIFE_S,
    KEYS_STALE_S,
    LEEWAY_S,
    MAX_KEYS_BYTES,
    Identities,
    parse_keys,
)
from mlops.service.oidc_settings import OidcSettings
from mlops.service.tokens import NOTHING, Grant, KeysAway, Role, Tokens

DAY_S = 86_400
"""Some tokens are made when tests are collected, long before they are used."""
ISSUER = "https://login.example/realms/ops"
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("first", "second", "unknown")}
CURVE = ec.generate_private_key(ec.SECP256R1())


class KeyServer:
    """Publishes keys; counts how often it was asked; can be away."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.status = 200
        self.published = ["first"]
        self.content: bytes | None = None

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, body=self.content or key_set(*self.published))


def key_set(*names: str) -> bytes:
    keys = [
        {**json.loads(RSAAlgorithm.to_jwk(KEYS[name].public_key())), "kid": name, "use": "sig"}
        for name in names
    ]
    return json.dumps({"keys": keys}).encode()


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    found = KeyServer()
    app = web.Application()
    app.router.add_get("/keys", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield found
    await runner.cleanup()


class Clock:
    """Monotonic seconds that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identities(server: KeyServer, clock: Clock) -> Identities:
    return Identities(settings(server.url), clock)


def settings(jwks: str, **more: Any) -> OidcSettings:
    roles = {"ops-readers": "viewer", "ops": "operator", "owners": "admin"}
    return OidcSettings(issuer=ISSUER, audience="rag-mlops", jwks=jwks, roles=roles, **more)


def claims(**more: Any) -> dict[str, Any]:
    usual = {
        "iss": ISSUER,
        "aud": ["rag-mlops", "other"],
        "exp": time.time() + DAY_S,
        "sub": "ann",
        "roles": ["staff", "ops"],
    }
    return {name: value for name, value in (usual | more).items() if value is not None}


def token(name: str = "first", *, kid: str | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), KEYS[name], "RS256", headers={"kid": kid or name})


def by_hand(algorithm: str, secret: bytes | None) -> str:
    """What no library makes: without a signature, or an HMAC over what everybody may know."""
    parts = ({"alg": algorithm, "typ": "JWT", "kid": "first"}, claims())
    text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    signature = b"" if secret is None else hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{base64url(signature)}"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


PUBLIC = KEYS["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


async def test_a_token_of_the_provider_grants_what_its_claims_say(identities: Identities) -> None:
    assert await identities.grant_of(token()) == Grant(Role.OPERATOR, "ann")
    assert (await identities.grant_of(token(roles=["ops", "owners"]))).role is Role.ADMIN
    assert (await identities.grant_of(token(roles="ops-readers"))).role is Role.VIEWER


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(token(exp=time.time() - LEEWAY_S - 5), id="expired"),
        pytest.param(token(exp=None), id="without an end"),
        pytest.param(token(nbf=time.time() + DAY_S), id="not yet"),
        pytest.param(token(aud="other"), id="wrong audience"),
        pytest.param(token(aud=None), id="no audience"),
        pytest.param(token(iss="https://login.example/realms/dev"), id="wrong issuer"),
        pytest.param(token("unknown"), id="unknown key"),
        pytest.param(token("unknown", kid="first"), id="signed by somebody else"),
        pytest.param(token(roles=["staff"]), id="no role of ours"),
        pytest.param(token(roles=None), id="no roles"),
        pytest.param(token(roles={"ops": True}), id="roles of another kind"),
        pytest.param(by_hand("none", None), id="alg none"),
        pytest.param(by_hand("HS256", PUBLIC), id="public key as a secret"),
        pytest.param("a.b.c", id="not a token"),
        pytest.param(token()[:-4] + "AAAA", id="changed signature"),
    ],
)
async def test_anything_that_is_not_right_grants_nothing(
    identities: Identities, given: str
) -> None:
    assert await identities.grant_of(given) == NOTHING


async def test_the_keys_are_asked_for_once(identities: Identities, server: KeyServer) -> None:
    for _ in range(5):
        assert (await identities.grant_of(token())).role is Role.OPERATOR
    assert server.asked == 1


async def test_a_new_key_is_asked_for_and_made_up_ones_are_no_load(
    identities: Identities, server: KeyServer, clock: Clock
) -> None:
    await identities.grant_of(token())
    server.published = ["first", "second"]
    for _ in range(20):
        assert await identities.grant_of(token("unknown")) == NOTHING
    assert server.asked == 1
    clock.now_s += ASK_AGAIN_S
    assert (await identities.grant_of(token("second"))).role is Role.OPERATOR
    assert server.asked == 2


async def test_a_key_that_was_withdrawn_ends_with_the_life_of_the_keys(
    identities: Identities, server: KeyServer, clock: Clock
) -> None:
    await identities.grant_of(token())
    server.published = ["second"]
    assert (await identities.grant_of(token())).role is Role.OPERATOR
    clock.now_s += KEYS_LIFE_S + 1
    assert await identities.grant_of(token()) == NOTHING


async def test_a_provider_that_is_away_locks_nobody_out_for_a_while(
    identities: Identities, server: KeyServer, clock: Clock
) -> None:
    server.status = 503
    with pytest.raises(KeysAway):
        await identities.grant_of(token())
    server.status = 200
    clock.now_s += ASK_AGAIN_S
    await identities.grant_of(token())
    server.status = 503
    clock.now_s += KEYS_LIFE_S + 1
    assert (await identities.grant_of(token())).role is Role.OPERATOR
    clock.now_s += KEYS_STALE_S
    with pytest.raises(KeysAway):
        await identities.grant_of(token())


async def test_an_answer_without_end_is_not_read_to_its_end(
    identities: Identities, server: KeyServer
) -> None:
    server.content = b" " * (4 * MAX_KEYS_BYTES)
    with pytest.raises(KeysAway):
        await identities.grant_of(token())


async def test_the_keys_may_stand_in_a_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "keys.json"
    identities = Identities(settings(str(path)), clock)
    with pytest.raises(KeysAway):
        await identities.grant_of(token())
    path.write_bytes(key_set("first"))
    clock.now_s += ASK_AGAIN_S
    assert (await identities.grant_of(token())).role is Role.OPERATOR


async def test_roles_and_routes_may_stand_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set("first"))
    found = Identities(
        settings(
            str(path),
            role_claim="realm_access.roles",
            routes_claim="https://example/routes",
            name_claim="email",
        )
    )
    given = token(
        realm_access={"roles": ["ops"]},
        email="ann@example",
        **{"https://example/routes": ["rag"]},
    )
    grant = await found.grant_of(given)
    assert grant == Grant(Role.OPERATOR, "ann@example", frozenset({"rag"}))
    without = await found.grant_of(token(realm_access={"roles": ["ops"]}))
    assert not without.may_touch("rag")


@pytest.mark.parametrize("named", [None, "RS256", "PS384"])
async def test_a_key_verifies_the_algorithm_it_names_or_any_accepted_one_of_its_kind(
    tmp_path: Path, named: str | None
) -> None:
    key = json.loads(RSAAlgorithm.to_jwk(KEYS["first"].public_key())) | {"kid": "first"}
    key |= {"alg": named} if named else {}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    accepted = frozenset({"RS256", "PS384", "ES256"})
    found = Identities(
        msgspec.structs.replace(settings(str(tmp_path / "keys.json")), algorithms=accepted)
    )
    for algorithm in ("RS256", "RS512", "PS384"):
        given = jwt.encode(claims(), KEYS["first"], algorithm, headers={"kid": "first"})
        is_right = algorithm in accepted and named in (None, algorithm)
        assert (await found.grant_of(given) != NOTHING) is is_right, algorithm


async def test_elliptic_curves_are_keys_too(tmp_path: Path) -> None:
    key = json.loads(ECAlgorithm.to_jwk(CURVE.public_key()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    found = Identities(settings(str(tmp_path / "keys.json")))
    given = jwt.encode(claims(), CURVE, "ES256")
    assert (await found.grant_of(given)).role is Role.OPERATOR


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no json", "not a JSON Web Key Set"),
        (b'{"keys": 1}', "expected `keys`"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}', "no key in it"),
        (json.dumps({"keys": [{}] * 101}).encode(), "up to 100"),
    ],
)
def test_what_is_no_set_of_keys_is_said(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_keys(content)


# ---- through the door ---------------------------------------------------------------------------


@pytest.fixture
async def client(server: KeyServer, identities: Identities) -> AsyncIterator[TestClient]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    tokens = Tokens(operator="ours", viewer=None, provider=identities)
    door = Door(tokens)
    app = web.Application(
        middlewares=[
            refusing({}, max_body_bytes=1000),
            authorizing(tokens, public=door.public, realm="test", sessions=door.sessions),
        ]
    )
    app.router.add_route("*", "/v1/routes/{route}", answer)
    app.add_routes(door.routes())
    async with TestClient(TestServer(app), cookie_jar=aiohttp.CookieJar(unsafe=True)) as found:
        yield found


@pytest.mark.parametrize(
    ("bearer", "read", "change"),
    [
        ("ours", 200, 200),
        (token(), 200, 200),
        (token(roles=["ops-readers"]), 200, 403),
        (token(roles=["staff"]), 401, 401),
        (token(exp=1), 401, 401),
        ("wrong", 401, 401),
    ],
    ids=["ours", "operator", "viewer", "no role", "expired", "wrong"],
)
async def test_both_kinds_of_token_are_asked_for_the_same_roles(
    client: TestClient, bearer: str, read: int, change: int
) -> None:
    headers = {"Authorization": f"Bearer {bearer}"}
    for method, status in (("GET", read), ("POST", change)):
        async with client.request(method, "/v1/routes/rag", headers=headers) as answer:
            assert answer.status == status


async def test_while_the_keys_are_away_it_is_said_so_and_our_own_tokens_still_open(
    client: TestClient, server: KeyServer
) -> None:
    server.status = 500
    for bearer, status in ((token(), 503), ("ours", 200)):
        headers = {"Authorization": f"Bearer {bearer}"}
        async with client.get("/v1/routes/rag", headers=headers) as answer:
            assert answer.status == status


async def test_a_browser_logs_in_with_the_providers_token(client: TestClient) -> None:
    origin = {"Origin": f"http://{client.host}:{client.port}"}
    async with client.post("/console/login", json={"token": token()}, headers=origin) as answer:
        assert answer.status == 200
    async with client.get("/console/me") as answer:
        assert (await answer.json())["name"] == "ann"
    async with client.get("/v1/routes/rag") as answer:
        assert answer.status == 200


# ---- the file -----------------------------------------------------------------------------------

FILE = """
admin:
  listen: 0.0.0.0:8001
  tokens:
    oidc: {issuer: "https://a", audience: rag, roles: {ops: operator}, %s}
routes: [{name: rag, match: {}, stable: {version: A, endpoints: ["http://127.0.0.1:1"]}}]
"""


def test_a_provider_is_enough_to_leave_loopback() -> None:
    found = parse(FILE % 'jwks: "https://a/keys"', {}).admin.oidc
    assert found is not None
    assert found.roles == {"ops": "operator"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('jwks: "http://login.example/keys"', r"admin\.tokens\.oidc: jwks: whoever answers"),
        ("jwks: keys.json, algorithms: [HS256]", "algorithms: expected some of .*, got HS256"),
        ("jwks: keys.json, algorithms: [none]", "got none"),
        ("jwks: keys.json, issuers: a", "unknown key 'issuers'"),
        ("audiences: a", "audiences|jwks"),
    ],
)
def test_a_mistake_in_the_file_is_named(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(FILE % given, {})
