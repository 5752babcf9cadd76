"""The gateway's file as typed values. Unknown keys and unusable values stop it at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from mlops.contracts.plan import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSettings:
    """Which requests a route takes; the first route that matches wins."""

    prefix: str = "/"
    host: str | None = None
    methods: frozenset[bytes] = frozenset()
    """Empty: every method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StickySettings:
    """Where the key is found. All absent: a random key for each request."""

    header: str | None = None
    cookie: str | None = None
    json: str | None = None
    """A JSON pointer into the request's body. Costs a parse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    connect_s: float = 1.0
    first_byte_s: float = 60.0
    """From the request sent to the first byte of the answer."""
    idle_s: float = 60.0
    """Longest silence once bytes flow, in either direction; also of an idle client connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    attempts: int = 2
    """In all, the first included."""
    budget_percent: float = 20.0
    """Retries allowed, as a share of recent requests."""
    on: frozenset[str] = frozenset({"connect", "reset", "502", "503"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    profile: str = "auto"
    bodies_bytes: int = 64 * 1024
    """Longest part of each body kept for the recorder."""
    sample_percent: float = 100.0
    """Share of exchanges whose bodies are kept. Those of errors always are; a row has every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    name: str
    model: str
    match: MatchSettings
    stable: Slot
    canary: Slot | None = None
    canary_share_bp: int = 0
    managed: bool = False
    sticky: StickySettings = field(default_factory=StickySettings)
    override: bool = False
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    record: RecordSettings = field(default_factory=RecordSettings)


class ForwardedMode(Enum):
    REPLACE = "replace"
    """A client's own values are dropped, unless the client is trusted."""
    APPEND = "append"
    """Every client is a proxy that is trusted; its values come first."""
    OFF = "off"
    """Nothing is added and nothing removed."""


class ForwardedForm(Enum):
    X_FORWARDED = "x-forwarded"
    FORWARDED = "forwarded"
    """RFC 7239."""
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedSettings:
    """What upstreams are told about the client."""

    mode: ForwardedMode = ForwardedMode.REPLACE
    form: ForwardedForm = ForwardedForm.X_FORWARDED
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    """Proxies whose values are appended to."""
    trusts_unix: bool = False
    """Whether a client on a Unix socket is one of them."""
    via: str | None = None
    """Our name in `Via`; None: no such header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Bounds on what clients may send. Each has its own status."""

    connections: int = 10_000
    """Open client connections of one worker; the next ones are answered 503."""
    target_bytes: int = 8 * 1024
    """Of a request's target, as in nginx and Apache; 414."""
    headers_bytes: int = 32 * 1024
    """Of a header block, and of the trailers and chunk extensions of one body; 431.
    nginx takes 4 x 8 KiB."""
    body_bytes: int | None = None
    """Of a request's body; 413. None: no bound, for it is streamed and never held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What holds for every client, before a route is known."""

    limits: LimitSettings = field(default_factory=LimitSettings)
    forwarded: ForwardedSettings = field(default_factory=ForwardedSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    dir: Path
    limit_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    host: str = "127.0.0.1"
    port: int = 8001
    operator_token: str | None = field(default=None, repr=False)
    viewer_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host` and `port`, or `path` of a Unix socket."""

    host: str | None = None
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    listen: tuple[Address, ...]
    admin: AdminSettings
    state_dir: Path
    routes: tuple[RouteSettings, ...]
    spool: SpoolSettings | None = None
    """None: a plain proxy that records nothing."""
    workers: int = 1
    clients: ClientSettings = field(default_factory=ClientSettings)
