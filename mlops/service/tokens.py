"""Who may look, who may change, and on which routes.

Two tokens may come from the environment; any number of further ones stand in a file, as digests,
each with a name, a role, perhaps routes and a last day. The file is read again when it changes, so
tokens are rotated without a restart.

A token is 256 random bits, so one round of SHA-256 is enough: nothing can be guessed that a slow
digest would have to protect (NIST SP 800-63B, 5.1.2.2, asks for a slow one where secrets are
memorized).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from hmac import compare_digest
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec
import yaml

from mlops.service.oidc_settings import OidcSettings

log = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32
MAX_FILE_BYTES: Final = 1024 * 1024
"""Five thousand tokens."""
JWT_DOTS: Final = 2
"""In a signed token (RFC 7515, 7.1); in none of ours."""
LOOK_S: Final = 1.0
"""Longest time that a changed file goes unnoticed."""


class Role(IntEnum):
    """A greater role may do everything that a smaller one may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Grant:
    """What one caller may do."""

    role: Role
    name: str = ""
    """Of the token; empty for those of the environment, which are known by their role."""
    routes: frozenset[str] | None = None
    """Those it may see and touch; None: every one, and what belongs to the whole process."""

    def may_touch(self, route: str) -> bool:
        """Whether it may see and change this route, as far as its role goes."""
        return self.routes is None or route in self.routes


NOTHING: Final = Grant(Role.NOBODY)


class KeysAway(Exception):
    """Whether a caller's token is right cannot be told now."""


class Provider(Protocol):
    """Who vouches for callers whose tokens are not ours."""

    async def grant_of(self, token: str) -> Grant:
        """What it grants; `NOTHING` where it is not right. Raises KeysAway: it cannot be told."""


def provider_of(settings: OidcSettings | None) -> Provider | None:
    """Raises ValueError: the settings ask for what is not installed."""
    if settings is None:
        return None
    try:
        from mlops.service.oidc import Identities  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ValueError(f"oidc: needs {error.name}: pip install 'rag-mlops[oidc]'") from error
    return Identities(settings)


class TokenEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token of the file."""

    name: str
    role: Literal["viewer", "operator", "admin"]
    sha256: str
    """Of the token, 64 hexadecimal digits."""
    routes: tuple[str, ...] = ()
    """Empty: every route."""
    last_day: date | None = None
    """On which it is accepted (UTC); absent: for ever."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: expected a text, got an empty one")
        try:
            is_digest = len(bytes.fromhex(self.sha256)) == hashlib.sha256().digest_size
        except ValueError:
            is_digest = False
        if not is_digest:
            # What stands there may be a token that was written out: it is not repeated.
            raise ValueError("sha256: expected 64 hexadecimal digits")
        if self.role == "admin" and self.routes:
            raise ValueError("routes: an admin's token is of every route; expected none")

    @property
    def grant(self) -> Grant:
        """What whoever shows the token may do."""
        routes = frozenset(self.routes) if self.routes else None
        return Grant(Role[self.role.upper()], self.name, routes)


def new_token(
    name: str,
    role: Literal["viewer", "operator", "admin"],
    routes: Sequence[str] = (),
    last_day: date | None = None,
) -> tuple[str, TokenEntry]:
    """A token, to be shown once, and what is kept of it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    digest = _digest(token.encode()).hex()
    entry = TokenEntry(name=name, role=role, sha256=digest, routes=tuple(routes), last_day=last_day)
    return token, entry


def parse_entries(text: str) -> tuple[TokenEntry, ...]:
    """The entries of a file: a YAML list.

    Raises:
        ValueError: it is not one, or two have the same name; says where.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    entries = msgspec.convert(raw if raw is not None else [], tuple[TokenEntry, ...])
    times = Counter(entry.name for entry in entries)
    twice = sorted(name for name, count in times.items() if count > 1)
    if twice:
        raise ValueError(f"name: {', '.join(twice)} stands twice")
    return entries


class TokenFile:
    """The entries of a file, as it is now."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError: it cannot be used; later, the last good content stays in force."""
        self._path = path
        self._clock = clock
        self._seen = self._state()
        self._entries = self._read()
        self._looked_at_s = clock()

    def __call__(self) -> tuple[TokenEntry, ...]:
        """As of the last look, which was at most `LOOK_S` ago."""
        now_s = self._clock()
        if now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self._look()
        return self._entries

    def _look(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._entries = self._read()
        except ValueError as error:
            log.error("the tokens before stay in force: %s", error)  # noqa: TRY400
        else:
            log.info("%s: %d tokens are in force", self._path, len(self._entries))

    def _state(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[TokenEntry, ...]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ValueError(f"{self._path}: cannot be read: {error.strerror}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"{self._path}: longer than {MAX_FILE_BYTES:,} bytes")
        try:
            return parse_entries(data.decode())
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error


def _today() -> date:
    return datetime.now(UTC).date()


class Tokens:
    """The tokens in force. Without any, everybody who can connect (loopback) is an operator."""

    def __init__(
        self,
        *,
        operator: str | None,
        viewer: str | None,
        file: Path | None = None,
        provider: Provider | None = None,
        today: Callable[[], date] = _today,
    ) -> None:
        """Raises ValueError: the file cannot be used."""
        given = ((viewer, Grant(Role.VIEWER)), (operator, Grant(Role.OPERATOR)))
        self._given = [(_digest(token.encode()), grant) for token, grant in given if token]
        self._file = TokenFile(file) if file is not None else None
        self._provider = provider
        self._today = today

    @property
    def is_open(self) -> bool:
        """Whether there is no token, and everybody may change everything."""
        return not self._given and self._file is None and self._provider is None

    def grant_of(self, authorization: str) -> Grant:
        """What an `Authorization` header grants.

        Digests of equal length are compared, each in constant time, and always all of them, so
        that timing tells nothing.
        """
        if self.is_open:
            return Grant(Role.OPERATOR)
        scheme, _, given = authorization.partition(" ")
        candidate = _digest(given.strip().encode(errors="replace"))
        found = NOTHING
        for digest, grant in [*self._given, *self._of_file()]:
            if compare_digest(digest, candidate) and grant.role > found.role:
                found = grant
        return found if scheme.lower() == "bearer" else NOTHING

    async def grant_for(self, authorization: str) -> Grant:
        """The same, where a token that is not ours may be an identity provider's.

        Raises:
            KeysAway: it may be, and the provider's keys cannot be read.
        """
        grant = self.grant_of(authorization)
        scheme, _, given = authorization.partition(" ")
        if grant.role is not Role.NOBODY or self._provider is None or scheme.lower() != "bearer":
            return grant
        given = given.strip()
        return await self._provider.grant_of(given) if given.count(".") == JWT_DOTS else NOTHING

    def _of_file(self) -> list[tuple[bytes, Grant]]:
        if self._file is None:
            return []
        today = self._today()
        return [
            (bytes.fromhex(entry.sha256), entry.grant)
            for entry in self._file()
            if entry.last_day is None or today <= entry.last_day
        ]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
