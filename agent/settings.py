"""The agent's file as typed values. Unknown keys and unusable values stop it at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from agent.drift import DriftSettings
from agent.policy_values import Place, duration_s
from agent.rules import Rules
from agent.rules_file import RulesFile, read_rules
from agent.strict_yaml import read_yaml
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.oidc_settings import OidcSettings
from mlops.service.tls import make
from mlops.service.tls_settings import ClientTls, ServerTls
from mlops.service.tokens import TokenFile, provider_of

MAX_FILE_BYTES = 256 * 1024
ALERT_GROUP = "rag-mlops-alerts"
"""Of `prometheus/rules/alerts.yml`."""

MIN_REFERENCE_S = 60
MAX_REFERENCE_S = 30 * 86_400
"""ClickHouse is read for as long."""

MIN_INTERVAL_S = 0.05
MAX_INTERVAL_S = 5.0
"""A leader acts for 10 s after it last asked, which it does once a cycle. One that asks more rarely
stands by in between: notices wait, and another agent acts in turns with it."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class SettingsError(ValueError):
    """The file or the environment says something that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """One gateway, or a name that has the address of each."""

    url: str
    """Of the admin port."""
    token: str = field(default="", repr=False)
    is_name: bool = False
    """The URL's host is a DNS name, and every address of it is a gateway."""
    tls: ClientTls = field(default_factory=ClientTls)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """Where the console reads which alerts fire."""

    prometheus: str
    """Its address, as `http://127.0.0.1:9090`."""
    groups: frozenset[str]
    """Of rules; others are not shown."""
    token: str = field(default="", repr=False)
    tls: ClientTls = field(default_factory=ClientTls)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """All that an agent is started with."""

    host: str = "127.0.0.1"
    port: int = 8002
    memory: str = "sqlite:///var/agent.sqlite"
    """SQLAlchemy's address of the database. May hold a password."""
    gateways: tuple[GatewaySettings, ...]
    operator_token: str | None = field(default=None, repr=False)
    viewer_token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    oidc: OidcSettings | None = None
    """None: no identity provider's tokens are accepted."""
    tls: ServerTls | None = None
    """None: plain HTTP."""
    interval_s: float = 1.0
    """Between cycles, 50 ms to 5 s. A third of the shortest lease at most."""
    rules: Rules = field(default_factory=Rules)
    drift: DriftSettings | None = field(default_factory=DriftSettings)
    """None: not watched."""
    alerts: AlertSettings | None = None
    """None: the console shows what the agent sees by itself."""
    model_servers_tls: ClientTls = field(default_factory=ClientTls)
    """How those with an `https://` address are asked for their embedding space."""
    clickhouse: ClickHouseSettings


class _TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    env: str


class _GatewayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    dns: str = ""
    token: _TokenFile | None = None
    tls: ClientTls = ClientTls()

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.dns):
            raise ValueError(
                "expected either url, one gateway, or dns, a name that has the address of each"
            )


class _TokensFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operator: _TokenFile | None = None
    viewer: _TokenFile | None = None
    file: str | None = None
    oidc: OidcSettings | None = None


class _DriftFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reference: str = "24h"
    every: str = "30s"


class _AlertsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prometheus: str
    groups: tuple[str, ...] = (ALERT_GROUP,)
    token: _TokenFile | None = None
    tls: ClientTls = ClientTls()


class _ModelServersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tls: ClientTls = ClientTls()


class AgentFile(RulesFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every key that the file may have."""

    gateways: list[_GatewayFile]
    listen: str = "127.0.0.1:8002"
    tls: ServerTls | None = None
    memory: str = "var/agent.sqlite"
    tokens: _TokensFile = _TokensFile()
    interval: str = "1s"
    drift: _DriftFile | bool = True
    alerts: _AlertsFile | None = None
    model_servers: _ModelServersFile = _ModelServersFile()


def load(path: Path, environ: Mapping[str, str]) -> AgentSettings:
    """Read the agent's file; secrets come from the environment that the file names.

    Raises:
        SettingsError: naming the file, what was expected and what came.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: more than {MAX_FILE_BYTES} bytes")
        given = msgspec.convert(read_yaml(content), AgentFile)
        return _settings(given, environ)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # msgspec's errors name the key's path
        raise SettingsError(f"{path}: {error}") from error


def _settings(given: AgentFile, environ: Mapping[str, str]) -> AgentSettings:
    host, port = _address(given.listen)
    operator = _token(given.tokens.operator, environ)
    token_file = Path(given.tokens.file) if given.tokens.file is not None else None
    if token_file is not None:
        TokenFile(token_file)
    provider_of(given.tokens.oidc)
    has_tokens = any((operator, token_file, given.tokens.oidc))
    if not has_tokens and host not in LOOPBACK:
        raise SettingsError(
            f"listen: {given.listen} without an operator token; expected tokens, or 127.0.0.1"
        )
    if given.tls is not None:
        make("tls", given.tls)
    make("modelServers.tls", given.model_servers.tls)
    if not given.gateways:
        raise SettingsError("gateways: the list is empty; expected at least one url")
    return AgentSettings(
        host=host,
        port=port,
        memory=given.memory if "://" in given.memory else f"sqlite:///{given.memory}",
        gateways=tuple(_gateway(one, environ) for one in given.gateways),
        operator_token=operator,
        viewer_token=_token(given.tokens.viewer, environ),
        token_file=token_file,
        oidc=given.tokens.oidc,
        tls=given.tls,
        interval_s=_interval_s(given.interval),
        drift=_drift(given.drift),
        alerts=_alerts(given.alerts, environ),
        model_servers_tls=given.model_servers.tls,
        rules=read_rules(given, environ),
        clickhouse=ClickHouseSettings.parse(environ),
    )


def _gateway(given: _GatewayFile, environ: Mapping[str, str]) -> GatewaySettings:
    make("gateways.tls", given.tls)
    return GatewaySettings(
        url=_url(given.url or given.dns),
        token=_token(given.token, environ) or "",
        is_name=bool(given.dns),
        tls=given.tls,
    )


def _token(named: _TokenFile | None, environ: Mapping[str, str]) -> str | None:
    if named is None:
        return None
    token = environ.get(named.env, "")
    if not token:
        raise SettingsError(f"tokens: the environment has no {named.env}; expected the token there")
    return token


def _drift(given: _DriftFile | bool) -> DriftSettings | None:  # noqa: FBT001 - as in the file
    if not isinstance(given, _DriftFile):
        return DriftSettings() if given else None
    place = Place("") / "drift"
    reference_s = duration_s(given.reference, place / "reference")
    every_s = duration_s(given.every, place / "every")
    if not MIN_REFERENCE_S <= reference_s <= MAX_REFERENCE_S:
        raise SettingsError("drift.reference: expected 1m to 30d, better a day or a week")
    if not 1 <= every_s <= reference_s:
        raise SettingsError("drift.every: expected 1s to the length of the reference")
    return DriftSettings(reference_s=int(reference_s), every_s=every_s)


def _alerts(given: _AlertsFile | None, environ: Mapping[str, str]) -> AlertSettings | None:
    if given is None:
        return None
    make("alerts.tls", given.tls)
    if not given.groups:
        raise SettingsError("alerts.groups: the list is empty; expected names of rule groups")
    return AlertSettings(
        prometheus=_url(given.prometheus, "alerts.prometheus"),
        groups=frozenset(given.groups),
        token=_token(given.token, environ) or "",
        tls=given.tls,
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"listen: expected HOST:PORT, got {text!r}")
    return host.strip("[]"), int(port)


def _url(text: str, what: str = "gateways") -> str:
    if not _is_address(text):
        raise SettingsError(f"{what}: expected http://HOST:PORT, got {_safe(text)!r}")
    return text.rstrip("/")


def _is_address(text: str) -> bool:
    """Of a server; a path before its own is a proxy's. Who logs in does so with a token."""
    try:
        parts = urlsplit(text)
        has_port = parts.port != 0
    except ValueError:  # a port that is none, brackets that do not close
        return False
    is_http = parts.scheme in ("http", "https") and bool(parts.hostname) and has_port
    return is_http and "@" not in parts.netloc and not (parts.query or parts.fragment)


def _safe(text: str) -> str:
    return text.rpartition("@")[2]


def _interval_s(text: str) -> float:
    seconds = duration_s(text, Place("") / "interval")
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise SettingsError(f"interval: expected a duration from 50ms to 5s, got {text!r}")
    return seconds
