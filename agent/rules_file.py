"""Read the agent's rules: `gates`, `notices`, `freeze`, `maxWeight`, `embeddingGuard`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from standardwebhooks import Webhook

from agent.condition import Condition
from agent.freeze import parse_freeze
from agent.policy_values import Place, duration_s, percent_bp
from agent.rules import EMBEDDING_SPACE, ClickHouse, Gate, Prometheus, Provider, Rules, Target, Web
from mlops.contracts.plan import MAX_CANARY_SHARE_BP

MAX_GATE_TIMEOUT_S = 60.0


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{env: NAME}`: the value stands in the environment."""

    env: str

    def read(self, environ: Mapping[str, str], what: str) -> str:
        """Raises ValueError, naming `what` it is for, where the environment lacks it."""
        value = environ.get(self.env, "")
        if not value:
            raise ValueError(f"{what}: the environment has no {self.env}; expected it there")
        return value


class _WebFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str | Named
    token: Named | None = None


class _PrometheusFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    query: str
    token: Named | None = None


class _ClickHouseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str


class _ProviderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    web: _WebFile | None = None
    prometheus: _PrometheusFile | None = None
    clickhouse: _ClickHouseFile | None = None


class GateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An item of `gates`."""

    name: str
    provider: _ProviderFile
    success_condition: str | None = None
    timeout: str = "5s"


class NoticeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item of `notices`."""

    name: str
    slack: Named | None = None
    webhook: str | Named | None = None
    secret: Named | None = None
    events: list[str] = []


class RulesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The keys of the agent's file that are rules."""

    gates: list[GateFile] = []
    notices: list[NoticeFile] = []
    freeze: Any = None
    max_weight: Any = None
    """Percent, or a mapping of routes to percent in which `*` is every other."""
    embedding_guard: bool = True


def read_rules(given: RulesFile, environ: Mapping[str, str]) -> Rules:
    """Raises ValueError saying what is not understood, or what the environment lacks."""
    place = Place("")
    gates = [_gate(one, environ) for one in given.gates]
    targets = tuple(_target(one, environ) for one in given.notices)
    for what, names in (
        ("gates", [EMBEDDING_SPACE, *(gate.name for gate in gates)]),
        ("notices", [target.name for target in targets]),
    ):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{what}: {', '.join(sorted(twice))} is there twice")
    return Rules(
        gates={gate.name: gate for gate in gates},
        notices=targets,
        freeze=() if given.freeze is None else parse_freeze(given.freeze, place / "freeze"),
        max_share_bp=_caps(given.max_weight, place / "maxWeight"),
        guards_embedding_space=given.embedding_guard,
    )


def _gate(given: GateFile, environ: Mapping[str, str]) -> Gate:
    what = f"gates: {given.name}"
    timeout_s = duration_s(given.timeout, Place(what) / "timeout")
    if not given.name or not 0.1 <= timeout_s <= MAX_GATE_TIMEOUT_S:
        raise ValueError(f"{what}: expected a name, and a timeout from 100ms to 1m")
    provider = _provider(given.provider, environ, what)
    condition = None if given.success_condition is None else Condition(given.success_condition)
    if condition is None and not isinstance(provider, Web):
        raise ValueError(f"{what}: expected a successCondition, such as result[0] < 0.05")
    return Gate(name=given.name, provider=provider, condition=condition, timeout_s=timeout_s)


def _provider(given: _ProviderFile, environ: Mapping[str, str], what: str) -> Provider:
    named = [one for one in (given.web, given.prometheus, given.clickhouse) if one is not None]
    if len(named) != 1:
        raise ValueError(f"{what}: expected one provider: web, prometheus or clickhouse")
    match named[0]:
        case _WebFile(url, token):
            return Web(url=_url(url, environ, what), token=_token(token, environ, what))
        case _PrometheusFile(address, query, token):
            return Prometheus(
                address=_url(address, environ, what).rstrip("/"),
                query=query,
                token=_token(token, environ, what),
            )
        case _ClickHouseFile(query):
            return ClickHouse(query=query)


def _target(given: NoticeFile, environ: Mapping[str, str]) -> Target:
    what = f"notices: {given.name}"
    if not given.name or (given.slack is None) == (given.webhook is None):
        raise ValueError(f"{what}: expected a name, and either slack or webhook")
    secret = given.secret.read(environ, what) if given.secret else ""
    if secret:
        _check_secret(secret, what)
    return Target(
        name=given.name,
        url=_url(given.slack or given.webhook or "", environ, what),
        is_slack=given.slack is not None,
        secret=secret,
        events=tuple(given.events),
    )


def _check_secret(secret: str, what: str) -> None:
    try:
        Webhook(secret)
    except (ValueError, RuntimeError, Exception) as error:
        raise ValueError(f"{what}: expected a secret as whsec_ and base64") from error


def _caps(value: object, place: Place) -> dict[str, int]:
    if value is None:
        return {}
    given = value if isinstance(value, dict) else {"*": value}
    return {str(route): _cap(percent, place / str(route)) for route, percent in given.items()}


def _cap(value: object, place: Place) -> int:
    expected = f"a percentage above 0 and at most {MAX_CANARY_SHARE_BP / 100:g}"
    share_bp = percent_bp(value, place, expected)
    if not 0 < share_bp <= MAX_CANARY_SHARE_BP:
        raise place.error(expected, value)
    return share_bp


def _token(named: Named | None, environ: Mapping[str, str], what: str) -> str:
    return named.read(environ, what) if named else ""


def _url(given: str | Named, environ: Mapping[str, str], what: str) -> str:
    """Never shows what came: an address may be a secret as a whole."""
    url = given.read(environ, what) if isinstance(given, Named) else given
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{what}: expected an address that begins with http:// or https://")
    return url
