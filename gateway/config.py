"""Read the gateway's file into settings. A file that is not exactly right is refused whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from gateway import tls
from gateway.clients_file import client_settings
from gateway.config_file import (
    AdminFile,
    GatewayFile,
    MatchFile,
    NeverCanaryFile,
    RetryFile,
    RouteFile,
    SlotFile,
    StickyFile,
    decode,
)
from gateway.file_values import EnvironmentValue, Percent, parse_address
from gateway.observe_file import observe_settings
from gateway.record_file import record_settings, spool_settings
from gateway.settings import (
    Address,
    AdminSettings,
    GatewaySettings,
    MatchSettings,
    NeverCanarySettings,
    RetrySettings,
    RouteSettings,
    StickySettings,
    TimeoutSettings,
)
from gateway.upstreams_file import (
    breaker_settings,
    mirror_settings,
    upstream_settings,
)
from mlops.contracts.plan import MAX_CANARY_SHARE_BP, Slot
from mlops.contracts.slot_values import TOKEN
from mlops.service.tokens import TokenFile, provider_of

MAX_FILE_BYTES = 1024 * 1024
"""A thousand routes are a quarter of this."""
MAX_ATTEMPTS = 5
"""Past this a retry only adds load to servers that are already failing."""
MAX_WORKERS = 256
"""Each takes a core; no machine in sight has more."""
ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


Environ = Mapping[str, str]


class ConfigError(ValueError):
    """The file cannot be used: names file and key, what was expected and what came."""


def load(path: Path, environ: Environ | None) -> GatewaySettings:
    """Read and check `path`; tokens and header secrets come from `environ`, and certificates are
    read, so that none that cannot be used is found only when it is needed.

    `environ` is None for a program that opens no port and asks nobody: all of these are left out.

    Raises:
        ConfigError: anything at all is wrong with the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: longer than {MAX_FILE_BYTES:,} bytes")
    try:
        settings = parse(data.decode(), environ)
        if environ is not None:
            tls.check(settings)
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not UTF-8 at byte {exc.start}") from exc
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return settings


def parse(text: str, environ: Environ | None) -> GatewaySettings:
    """`load` without the file. Raises ValueError starting with the key's path."""
    return _gateway(decode(text), environ)


@contextmanager
def _at(path: str) -> Iterator[None]:
    """Put the key's path before whatever is said about its value."""
    try:
        yield
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _gateway(file: GatewayFile, environ: Environ | None) -> GatewaySettings:
    if not file.routes:
        raise ValueError("routes: expected at least one route, got none")
    routes = []
    names: set[str] = set()
    for index, route in enumerate(file.routes):
        path = f"routes[{index}]"
        if route.name in names:
            raise ValueError(f"{path}.name: {route.name!r} is the name of an earlier route too")
        names.add(route.name)
        routes.append(_route(route, path, environ))
    return GatewaySettings(
        listen=_listen(file.listen),
        admin=_admin(file.admin, environ),
        state_dir=_state_dir(file.state),
        routes=tuple(routes),
        spool=None if file.spool is None else spool_settings(file.spool),
        tls=file.tls,
        observe=observe_settings(file.observe),
        workers=_workers(file.workers),
        drain_s=file.drain.seconds,
        clients=client_settings(file.limits, file.forwarded),
    )


def _state_dir(text: str) -> Path:
    if not text:
        raise ValueError("state: expected a directory, got an empty text")
    return Path(text)


def _workers(count: int) -> int:
    if not 0 <= count <= MAX_WORKERS:
        raise ValueError(f"workers: expected 0 (one for each core) to {MAX_WORKERS}, got {count}")
    return count or len(os.sched_getaffinity(0))


def _listen(value: str | list[str]) -> tuple[Address, ...]:
    texts = [value] if isinstance(value, str) else value
    if not texts:
        raise ValueError("listen: expected at least one address, got an empty list")
    addresses = []
    for index, text in enumerate(texts):
        with _at("listen" if isinstance(value, str) else f"listen[{index}]"):
            address = parse_address(text)
            if address in addresses and address.port != 0:
                raise ValueError(f"{text!r} stands twice")
            addresses.append(address)
    return tuple(addresses)


def _admin(file: AdminFile, environ: Environ | None) -> AdminSettings:
    with _at("admin.listen"):
        address = parse_address(file.listen)
        if address.host is None:
            raise ValueError(f"expected HOST:PORT, got {file.listen!r}")
    with _at("admin.tokens"):
        operator = _secret(file.tokens.operator, "operator", environ)
        viewer = _secret(file.tokens.viewer, "viewer", environ)
        if operator and operator == viewer:
            raise ValueError("operator and viewer are the same token; expected two")
        if file.tokens.file is not None and environ is not None:
            TokenFile(Path(file.tokens.file))
        provider_of(file.tokens.oidc)
    tokens = file.tokens
    has_tokens = any((tokens.operator, tokens.viewer, tokens.file, tokens.oidc))
    if not has_tokens and not is_loopback(address.host):
        raise ValueError(
            f"admin.listen: without admin.tokens only a loopback address is allowed, "
            f"got {file.listen!r}"
        )
    return AdminSettings(
        host=address.host,
        port=address.port,
        operator_token=operator or None,
        viewer_token=viewer or None,
        token_file=Path(file.tokens.file) if file.tokens.file is not None else None,
        oidc=file.tokens.oidc,
        tls=file.tls,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(value: EnvironmentValue | None, what: str, environ: Environ | None) -> str | None:
    if value is None:
        return None
    if environ is None:
        return ""
    found = environ.get(value.env, "")
    if not found:
        raise ValueError(f"{what}: the environment variable {value.env} is not set or empty")
    if not found.isascii() or not found.isprintable() or " " in found:
        raise ValueError(
            f"{what}: the environment variable {value.env} holds characters that a header cannot "
            "carry; expected printable ASCII without spaces"
        )
    return found


def _route(file: RouteFile, path: str, environ: Environ | None) -> RouteSettings:
    if not ROUTE_NAME.fullmatch(file.name):
        raise ValueError(
            f"{path}.name: expected 1 to 63 letters, digits, dots, dashes or underscores, "
            f"got {file.name!r}"
        )
    if file.model == "":
        raise ValueError(f"{path}.model: expected the name of a model, got an empty text")
    canary, share_bp = None, 0
    max_canary_share_bp = _basis_points(file.max_canary, f"{path}.max_canary")
    if file.canary is not None:
        canary = _slot(file.canary, f"{path}.canary", environ)
        share_bp = _share_bp(file, f"{path}.canary.weight", max_canary_share_bp)
    return RouteSettings(
        name=file.name,
        model=file.model or file.name,
        match=_match(file.match, f"{path}.match"),
        stable=_slot(file.stable, f"{path}.stable", environ),
        canary=canary,
        canary_share_bp=share_bp,
        managed=file.managed,
        sticky=_sticky(file.sticky, f"{path}.sticky"),
        override=file.override,
        never_canary=_never_canary(file.never_canary, f"{path}.never_canary"),
        max_canary_share_bp=max_canary_share_bp,
        timeouts=TimeoutSettings(
            connect_s=file.timeouts.connect.seconds,
            first_byte_s=file.timeouts.first_byte.seconds,
            idle_s=file.timeouts.idle.seconds,
            total_s=file.timeouts.total.seconds if file.timeouts.total is not None else None,
        ),
        upstream=upstream_settings(file, path),
        mirror=mirror_settings(file.mirror, f"{path}.mirror"),
        circuit_breaker=breaker_settings(file.circuit_breaker, f"{path}.circuit_breaker"),
        retry=_retry(file.retry, f"{path}.retry"),
        record=record_settings(file.record, f"{path}.record"),
    )


def _share_bp(file: RouteFile, path: str, max_share_bp: int) -> int:
    assert file.canary is not None
    share_bp = _basis_points(file.canary.weight, path)
    if share_bp > max_share_bp:
        raise ValueError(
            f"{path}: expected at most max_canary, {max_share_bp / 100:g}, got {share_bp / 100:g}"
        )
    if file.managed and share_bp:
        raise ValueError(
            f"{path}: the route is managed, its weight comes from the agent; expected 0 or "
            f"no weight, got {share_bp / 100:g}"
        )
    return share_bp


def _basis_points(weight: Percent, path: str) -> int:
    share_bp = round(weight.percent * 100)
    if share_bp > MAX_CANARY_SHARE_BP:
        raise ValueError(
            f"{path}: expected at most {MAX_CANARY_SHARE_BP / 100:g} so that a control remains, "
            f"got {weight.percent:g}"
        )
    if abs(share_bp - weight.percent * 100) > 1e-6:
        raise ValueError(f"{path}: expected at most two decimals, got {weight.percent:g}")
    return share_bp


def _slot(file: SlotFile, path: str, environ: Environ | None) -> Slot:
    headers = {}
    for name, value in file.headers.items():
        with _at(f"{path}.headers"):
            text = _secret(value, name, environ) if isinstance(value, EnvironmentValue) else value
            assert text is not None, "a value that is given resolves or raises"
            headers[name] = text
    with _at(path):
        return Slot(version=file.version, endpoints=tuple(file.endpoints), headers=headers)


def _match(file: MatchFile, path: str) -> MatchSettings:
    if not file.prefix.startswith("/"):
        raise ValueError(f"{path}.prefix: expected a path that starts with /, got {file.prefix!r}")
    for method in file.methods:
        if not TOKEN.fullmatch(method) or method != method.upper():
            raise ValueError(f"{path}.methods: expected methods such as POST, got {method!r}")
    host = file.host.lower() if file.host is not None else None
    if host == "":
        raise ValueError(f"{path}.host: expected a host name, got an empty text")
    methods = frozenset(method.encode() for method in file.methods)
    return MatchSettings(prefix=file.prefix, host=host, methods=methods)


def _sticky(file: StickyFile, path: str) -> StickySettings:
    for key, name in (("header", file.header), ("cookie", file.cookie)):
        if name is not None and not TOKEN.fullmatch(name):
            raise ValueError(f"{path}.{key}: expected the name of a {key}, got {name!r}")
    if file.json is not None and not file.json.startswith("/"):
        raise ValueError(f"{path}.json: expected a JSON pointer such as /user, got {file.json!r}")
    header = file.header.lower() if file.header is not None else None
    return StickySettings(header=header, cookie=file.cookie, json=file.json)


def _never_canary(file: NeverCanaryFile, path: str) -> NeverCanarySettings:
    if file.header is not None and not TOKEN.fullmatch(file.header):
        raise ValueError(f"{path}.header: expected the name of a header, got {file.header!r}")
    if bool(file.values) != (file.header is not None):
        raise ValueError(f"{path}: expected header and values together, or neither")
    for key, texts in (("keys", file.keys), ("values", file.values)):
        if not all(texts):
            raise ValueError(f"{path}.{key}: expected texts, got an empty one")
    return NeverCanarySettings(
        keys=frozenset(text.encode() for text in file.keys),
        header=file.header.lower() if file.header is not None else None,
        values=frozenset(text.encode() for text in file.values),
    )


def _retry(file: RetryFile, path: str) -> RetrySettings:
    if not 1 <= file.attempts <= MAX_ATTEMPTS:
        raise ValueError(f"{path}.attempts: expected 1 to {MAX_ATTEMPTS}, got {file.attempts}")
    on = set()
    for value in file.on:
        word = str(value)
        is_status = len(word) == 3 and word.isdigit() and word.startswith("5")
        if word not in ("connect", "reset", "429") and not is_status:
            raise ValueError(
                f"{path}.on: expected connect, reset, 429 or a status from 500 to 599, "
                f"got {value!r}"
            )
        on.add(word)
    return RetrySettings(
        attempts=file.attempts, budget_percent=file.budget.percent, on=frozenset(on)
    )
