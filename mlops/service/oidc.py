"""Callers whom an identity provider vouches for: its tokens (JWT) verified, their claims a grant.

RFC 8725 is kept: the algorithm comes from a short list and from the key, never from the token
alone; issuer and audience are compared to the letter; a token without an end is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mlops.service.oidc_settings import OidcSettings
from mlops.service.tls import Trust
from mlops.service.tokens import NOTHING, Grant, KeysAway, Role

log = logging.getLogger(__name__)

KEYS_LIFE_S: Final = 300.0
"""A key that the provider withdraws is believed no longer than this."""
KEYS_STALE_S: Final = 12 * 3600.0
"""While the provider is away, its last keys are believed so long: operators are not locked out by
somebody else's outage, and do not depend on keys of yesterday."""
ASK_AGAIN_S: Final = 10.0
"""Least time between two questions: tokens with made-up keys make no load over there."""
ASK_TIMEOUT_S: Final = 3.0
MAX_KEYS_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
"""Providers publish two or three."""
LEEWAY_S: Final = 30.0
"""How far the provider's clock and ours may be apart."""
MAX_NAME_CHARS: Final = 128


Key = jwt.PyJWK | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
"""Of a provider; without the name of its algorithm where the provider gives none."""


class Identities:
    """One provider's tokens. Its keys are fetched when first needed, and when a new one signs."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._trust = Trust(settings.tls)
        self._keys: Mapping[str, Key] = {}
        self._read_at_s = float("-inf")
        self._asked_at_s = float("-inf")
        self._asking = asyncio.Lock()

    async def grant_of(self, token: str) -> Grant:
        """What the token's claims grant; nothing where anything about it is not right.

        Raises:
            KeysAway: it cannot be told, as the provider's keys cannot be read.
        """
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                log.info("a token was refused: no key of %s signed it", self._settings.issuer)
                return NOTHING
            claims = jwt.decode(
                token,
                key,
                algorithms=sorted(self._settings.algorithms),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            log.info("a token was refused: %s", error)
            return NOTHING
        return grant_of_claims(claims, self._settings)

    # ---- keys ----------------------------------------------------------------------------------

    async def _key(self, name: str | None) -> Key | None:
        """The key of this name; without one, the only key there is."""
        if self._found(name) is None or self._clock() - self._read_at_s > KEYS_LIFE_S:
            async with self._asking:
                await self._ask(name)
        if self._clock() - self._read_at_s > KEYS_STALE_S:
            raise KeysAway(f"the keys of {self._settings.issuer} cannot be read")
        return self._found(name)

    def _found(self, name: str | None) -> Key | None:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name or "")

    async def _ask(self, name: str | None) -> None:
        now_s = self._clock()
        is_fresh = now_s - self._read_at_s <= KEYS_LIFE_S
        if (self._found(name) is not None and is_fresh) or now_s - self._asked_at_s < ASK_AGAIN_S:
            return
        self._asked_at_s = now_s
        try:
            self._keys = parse_keys(await self._content())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.warning(
                "the keys of %s stay as they are: %s: %s",
                self._settings.issuer, self._settings.jwks, str(error) or "no answer in time",
            )  # fmt: skip
        else:
            self._read_at_s = now_s

    async def _content(self) -> bytes:
        if not self._settings.is_address:
            return await asyncio.to_thread(_read, Path(self._settings.jwks))
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                self._settings.jwks,
                allow_redirects=False,
                ssl=self._trust.context(),
                server_hostname=self._trust.server_name,
            ) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            content = await answer.content.read(MAX_KEYS_BYTES + 1)
            while not answer.content.at_eof() and len(content) <= MAX_KEYS_BYTES:
                content += await answer.content.read(MAX_KEYS_BYTES + 1)
            return content


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_KEYS_BYTES + 1)


def parse_keys(content: bytes) -> Mapping[str, Key]:
    """A JSON Web Key Set (RFC 7517) by key id; keys that verify nothing we accept are left out.

    A key that names its algorithm (`alg`, optional) verifies that one alone; another the accepted
    ones of its kind.

    Raises:
        ValueError: it is not one, or far too long.
    """
    if len(content) > MAX_KEYS_BYTES:
        raise ValueError(f"more than {MAX_KEYS_BYTES:,} bytes")
    try:
        given = msgspec.json.decode(content, type=dict[str, Any]).get("keys")
    except msgspec.DecodeError as error:
        raise ValueError(f"not a JSON Web Key Set: {error}") from error
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise ValueError(f"expected `keys`, a list of up to {MAX_KEYS}")
    found: dict[str, Key] = {}
    for one in given:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            made = jwt.PyJWK(one)  # without `alg` it guesses: the first of the kind
            found[str(one.get("kid", ""))] = made if "alg" in one else made.key
        except jwt.PyJWTError:
            continue  # of a kind that is newer than we are
    if not found:
        raise ValueError("no key in it verifies signatures")
    return found


def grant_of_claims(claims: Mapping[str, Any], settings: OidcSettings) -> Grant:
    """What verified claims grant."""
    role = max(
        (Role[settings.roles[one].upper()] for one in _texts(claims, settings.role_claim)
         if one in settings.roles),
        default=Role.NOBODY,
    )  # fmt: skip
    if role is Role.NOBODY:
        log.info("a token was refused: %s names no role of ours", settings.role_claim)
        return NOTHING
    routes = None
    if settings.routes_claim is not None:
        routes = frozenset(_texts(claims, settings.routes_claim))
    name = str(_claim(claims, settings.name_claim) or "")[:MAX_NAME_CHARS]
    return Grant(role, name if name.isprintable() else "", routes)


def _texts(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    found = _claim(claims, path)
    if isinstance(found, str):
        return (found,)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this very name (some are addresses, with dots), else the one dots lead to."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found
