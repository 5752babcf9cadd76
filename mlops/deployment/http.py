"""One JSON API as its clients here call it: bounded in time and size, failures told apart."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from copy import copy
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from mlops.contracts.api import Problem
from mlops.service.tls import Trust, UnusableFiles
from mlops.service.tls_settings import ClientTls

T = TypeVar("T")

DEFAULT_TIMEOUT_S: Final = 3.0
"""Our servers answer in milliseconds; past this one counts as unreachable."""

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Some hundreds of routes or releases; an answer beyond this is not from our servers."""

MAX_CONNECTIONS: Final = 8
"""A few calls are in flight to one server at a time."""


def reason_of(error: Exception) -> str:
    """Why a call did not come through, without the client library's own terms."""
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "not an address; expected http://HOST:PORT"
        case aiohttp.ClientConnectorDNSError():
            return f"host {error.host} is not known"
        case aiohttp.ClientSSLError():
            return str(error)
        case aiohttp.ClientConnectorError() if error.os_error.errno:
            return f"{os.strerror(error.os_error.errno).lower()} by {error.host}:{error.port}"
    return str(error) or type(error).__name__


class JsonClient(ABC):
    """Calls of one server. A subclass says which exceptions its failures are."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        actor: str = "",
        server_name: str = "",
        trust: Trust | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """`actor` says who does it, in `x-actor`; printable text. `server_name` is HOST[:PORT]
        where `url` names one address of it. `trust`: None believes the system's authorities."""
        self.url = url.rstrip("/")
        self.server_name = server_name
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if actor:
            self._headers["x-actor"] = actor
        if server_name:
            self._headers["Host"] = server_name
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._trust = trust or Trust(ClientTls())
        self._tls_name = self._trust.server_name or urlsplit(f"//{server_name}").hostname
        self._session: aiohttp.ClientSession | None = None

    def on_behalf_of(self, actor: str) -> Self:
        """A client of the same server, with the same token, for somebody else; close it too."""
        other = copy(self)
        other._session = None  # noqa: SLF001 - it is one of us
        other._headers = {**self._headers, "x-actor": actor}  # noqa: SLF001
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Safe to repeat."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @abstractmethod
    def unavailable(self, message: str) -> Exception:
        """The exception for a server that does not answer, or cannot now."""

    @abstractmethod
    def refused(self, message: str, status: int, problem: Problem) -> Exception:
        """The exception for a server that understood and refused."""

    async def call(self, method: str, path: str, body: object, expected: type[T]) -> T:
        """Send `body` as JSON (None: nothing), read the answer as `expected`.

        Raises:
            What `unavailable` and `refused` make.
        """
        what = f"{method} {self.url}{path}"
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._open().request(
                method,
                f"{self.url}{path}",
                data=data,
                headers=headers,
                allow_redirects=False,
                ssl=self._trust.context(),
                server_hostname=self._tls_name,
            ) as answer:
                content = await self._bounded(answer, what)
        except TimeoutError as error:
            raise self.unavailable(f"{what}: no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, UnusableFiles) as error:
            raise self.unavailable(f"{what}: {reason_of(error)}") from error
        if answer.status >= 400:
            raise self._refusal(what, answer.status, content)
        try:
            return msgspec.json.decode(content, type=expected)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise self.unavailable(
                f"{what}: answered {answer.status} with something that is not expected: {error}"
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            )
        return self._session

    async def _bounded(self, answer: aiohttp.ClientResponse, what: str) -> bytes:
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise self.unavailable(f"{what}: answered more than {MAX_ANSWER_BYTES} bytes")
        return bytes(content)

    def _refusal(self, what: str, status: int, content: bytes) -> Exception:
        try:
            problem = msgspec.json.decode(content, type=Problem)
        except (msgspec.DecodeError, msgspec.ValidationError):
            excerpt = content[:200].decode(errors="replace")
            problem = Problem(error=excerpt or "no body", code="")
        message = f"{what}: {status} {problem.error}"
        if status >= 500:
            return self.unavailable(message)
        return self.refused(message, status, problem)
