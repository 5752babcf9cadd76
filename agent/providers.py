"""Where gates get their answers: a webhook, Prometheus, ClickHouse, a version's own server."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from agent.condition import Condition, Undecidable
from agent.embedding_space import MAX_CANARIES, Declaration, contradiction, mismatch
from agent.release import Release, candidate_share_bp
from agent.rules import ClickHouse, Gate, Prometheus, Web
from mlops.contracts.plan import Slot
from mlops.contracts.slot_values import parse_endpoint
from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.tls import Trust, UnusableFiles
from mlops.service.tls_settings import ClientTls

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1024 * 1024
"""A number or a few; an answer beyond this is not meant for us."""

MAX_VALUES = 1_000

EMBEDDING_TIMEOUT_S = 10.0
"""Of one server: a cold encoder takes seconds for its first text."""

DECLARATION_TIMEOUT_S = 3.0
"""A server that takes longer, and never declared anything, counts as one that declares nothing."""

MAX_DECLARING = 10_000
"""Versions times servers that are remembered: years of releases."""

SPACE_PATH = "/v1/embedding-space"
_ARGUMENT = re.compile(r"\{\{\s*args\.([a-z]+)\s*\}\}")

Said = tuple[bool, str, bool]
"""Passed, why, refused for good."""


class _Sample(msgspec.Struct):
    value: tuple[float, str]


class _Data(msgspec.Struct):
    resultType: str
    result: msgspec.Raw


class _PrometheusAnswer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Embedded(msgspec.Struct):
    data: list[_Vector]


class _Nothing(Exception):
    """The answer was not one: says what came."""


class Providers:
    """One HTTP session for all; ClickHouse's client is made when a gate first needs it."""

    def __init__(self, clickhouse: ClickHouseSettings, model_servers: Trust | None = None) -> None:
        """`model_servers`: how those with https are believed; None: by the system's authorities."""
        self._settings = clickhouse
        self._model_servers = model_servers or Trust(ClientTls())
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._declaring: set[tuple[str, str]] = set()
        """Version and endpoint of servers that have declared: from then on silence is a no."""

    async def close(self) -> None:
        """Close what was opened."""
        if self._session is not None:
            await self._session.close()
        if self._client is not None:
            await self._client.close()

    async def ask(self, gate: Gate, release: Release) -> tuple[bool, str]:
        """Whether the gate says yes, and why; the caller bounds the time."""
        try:
            match gate.provider:
                case Web():
                    return await self._web(gate.provider, gate, release)
                case Prometheus():
                    values = await self._prometheus(gate.provider, release)
                case ClickHouse():
                    values = await self._clickhouse(gate.provider, release)
        except (_Nothing, Unavailable, Refused) as error:
            return False, str(error)
        except (aiohttp.ClientError, OSError) as error:
            return False, f"did not answer: {type(error).__name__}"
        assert gate.condition is not None, "checked where the file is read"
        return _decided(gate.condition, values)

    async def _web(self, web: Web, gate: Gate, release: Release) -> tuple[bool, str]:
        status, content = await self._call(
            "POST", web.url, token=web.token, body={"gate": gate.name, **_arguments(release)}
        )
        if not 200 <= status < 300:
            return False, f"answered {status} {content[:200].decode(errors='replace')}".strip()
        if gate.condition is None:
            return True, f"answered {status}"
        try:
            return _decided(gate.condition, msgspec.json.decode(content, type=list[float]))
        except msgspec.MsgspecError as error:
            return False, f"answered {status} without a JSON list of numbers: {error}"

    async def _prometheus(self, prometheus: Prometheus, release: Release) -> list[float]:
        query = _filled(prometheus.query, release)
        status, content = await self._call(
            "POST",
            f"{prometheus.address}/api/v1/query",
            token=prometheus.token,
            form={"query": query},
        )
        try:
            answer = msgspec.json.decode(content, type=_PrometheusAnswer)
            if answer.data is None or answer.status != "success":
                raise _Nothing(f"Prometheus answered {status}: {answer.error or answer.status}")
            return _samples(answer.data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _Nothing(f"answered {status}, and not as Prometheus: {error}") from error

    async def _clickhouse(self, clickhouse: ClickHouse, release: Release) -> list[float]:
        async with self._opening:  # two gates may need it first at once
            if self._client is None:
                self._client = await open_client(self._settings, database=self._settings.database)
        async with translated(self._settings, "gate"):
            answer = await self._client.query(
                clickhouse.query,
                parameters=_arguments(release),
                settings={"readonly": 2, "max_result_rows": MAX_VALUES},
            )
        try:
            return [float(row[0]) for row in answer.result_rows]
        except (TypeError, ValueError) as error:
            raise _Nothing(f"the query's first column is not a number: {error}") from error

    # ---- the embedding space -------------------------------------------------------------------

    async def embedding_space(self, slot: Slot) -> Said:
        """Ask every server of the version. One that declares nothing is not held to anything."""
        said = await asyncio.gather(
            *(self._space_of(endpoint, slot) for endpoint in slot.endpoints)
        )
        for one in said:
            if not one[0]:
                return one
        return said[0]

    async def _space_of(self, endpoint: str, slot: Slot) -> Said:
        try:
            async with asyncio.timeout(EMBEDDING_TIMEOUT_S):
                return await self._checked(endpoint, slot)
        except TimeoutError:
            return False, f"{endpoint}: no answer within {EMBEDDING_TIMEOUT_S:g} s", False
        except (aiohttp.ClientError, OSError, _Nothing) as error:
            return False, f"{endpoint}: declares its embedding space, but {error}", False

    async def _checked(self, endpoint: str, slot: Slot) -> Said:
        declared = await self._declared(endpoint, slot)
        if declared is None:
            return True, "no embedding space is declared", False
        problem = contradiction(declared)
        texts = (
            [one.text for one in declared.index.canaries[:MAX_CANARIES]] if declared.index else []
        )
        if not problem and texts:
            body = {"model": declared.id or declared.model, "input": texts}
            status, content = await self._call_slot("POST", endpoint, "/v1/embeddings", slot, body)
            try:
                vectors = [
                    one.embedding for one in msgspec.json.decode(content, type=_Embedded).data
                ]
            except msgspec.MsgspecError as error:
                raise _Nothing(f"/v1/embeddings answered {status}: {error}") from error
            problem = mismatch(declared, vectors)
        if problem:
            return False, f"version {slot.version} at {endpoint}: {problem}", True
        return True, f"{declared.model}, {declared.dimension} dimensions", False

    async def _declared(self, endpoint: str, slot: Slot) -> Declaration | None:
        """None: nothing is declared. Nobody there is nothing declared, as long as it never was:
        gateways may reach what we cannot."""
        known = (slot.version, endpoint) in self._declaring
        try:
            async with asyncio.timeout(DECLARATION_TIMEOUT_S):
                status, content = await self._call_slot("GET", endpoint, SPACE_PATH, slot, None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if known:
                raise _Nothing(f"{SPACE_PATH} did not answer: {type(error).__name__}") from error
            if endpoint.startswith("https:") and _is_there(error):
                # That it is held to nothing is to be mended in our file.
                log.warning(
                    "%s: not asked for its embedding space, see modelServers.tls: %s",
                    endpoint,
                    error,
                )
            return None
        try:
            declared = msgspec.json.decode(content, type=Declaration) if status == 200 else None
        except msgspec.MsgspecError:
            declared = None  # some other server's page
        if declared is None and (known or status == 503):
            raise _Nothing(f"{SPACE_PATH} answered {status}")
        if declared is not None and len(self._declaring) < MAX_DECLARING:
            self._declaring.add((slot.version, endpoint))
        return declared

    async def _call_slot(
        self, method: str, endpoint: str, path: str, slot: Slot, body: object | None
    ) -> tuple[int, bytes]:
        unix = parse_endpoint(endpoint).path
        if unix is None:
            return await _answer(
                self._opened(),
                method,
                f"{endpoint}{path}",
                body=body,
                headers=slot.headers,
                trust=self._model_servers,
            )
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=unix)) as session:
            url = f"http://localhost{path}"
            return await _answer(session, method, url, body=body, headers=slot.headers)

    async def _call(
        self,
        method: str,
        url: str,
        *,
        token: str = "",
        body: object | None = None,
        form: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await _answer(self._opened(), method, url, body=body, form=form, headers=headers)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session


def _is_there(error: Exception) -> bool:
    """A server failed us after it was connected to. In TLS 1.3 one that wants a certificate and
    gets none just hangs up."""
    return isinstance(error, aiohttp.ClientSSLError) or not isinstance(
        error, aiohttp.ClientConnectorError | TimeoutError
    )


async def _answer(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    body: object | None = None,
    form: dict[str, str] | None = None,
    trust: Trust | None = None,
) -> tuple[int, bytes]:
    try:
        context = True if trust is None else trust.context()
    except UnusableFiles as error:
        raise _Nothing(f"modelServers.{error}") from error
    data: Any = form if body is None else msgspec.json.encode(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    async with session.request(
        method,
        url,
        data=data,
        headers=headers | kind,
        allow_redirects=False,
        ssl=context,
        server_hostname=None if trust is None else trust.server_name,
    ) as answer:
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise _Nothing(f"answered more than {MAX_ANSWER_BYTES} bytes")
        return answer.status, bytes(content)


def _samples(data: _Data) -> list[float]:
    match data.resultType:
        case "vector":
            found = msgspec.json.decode(data.result, type=list[_Sample])
            return [float(one.value[1]) for one in found[:MAX_VALUES]]
        case "scalar":
            return [float(msgspec.json.decode(data.result, type=tuple[float, str])[1])]
        case other:
            raise _Nothing(f"the query gives a {other}; expected a vector or a scalar")


def _decided(condition: Condition, values: Sequence[float]) -> tuple[bool, str]:
    shown = ", ".join(f"{value:g}" for value in values[:5]) or "no value"
    try:
        passed = condition.holds(values)
    except Undecidable as error:
        return False, str(error)
    return passed, f"{condition.text} {'holds' if passed else 'does not hold'} for {shown}"


def _arguments(release: Release) -> dict[str, str | float]:
    return {
        "release": release.id,
        "route": release.route,
        "version": release.candidate.version,
        "stable": release.base.version if release.base else "",
        "phase": release.phase.value,
        "weight": candidate_share_bp(release, release.plan) / 100,
    }


def _filled(query: str, release: Release) -> str:
    """`{{args.route}}`, as in Argo; quoted so that a name cannot end PromQL's string."""
    arguments = _arguments(release)

    def value(found: re.Match[str]) -> str:
        if found[1] not in arguments:
            raise _Nothing(f"no argument {found[1]!r}; expected one of {', '.join(arguments)}")
        given = str(arguments[found[1]])
        return given.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return _ARGUMENT.sub(value, query)
