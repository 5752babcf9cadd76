"""The gateway's file as typed values. Unknown keys and unusable values stop it at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from gateway.features.pointers import Pointer
from gateway.upstream_settings import (
    BreakerSettings,
    MirrorSettings,
    UpstreamSettings,
)
from mlops.contracts.plan import MAX_CANARY_SHARE_BP, Slot
from mlops.service.oidc_settings import OidcSettings
from mlops.service.tls_settings import ServerTls


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchSettings:
    """Which requests a route takes; the first route that matches wins."""

    prefix: str = "/"
    host: str | None = None
    methods: frozenset[bytes] = frozenset()
    """Empty: every method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StickySettings:
    """Where the key is found, in this order. All absent: a random key for each request."""

    header: str | None = None
    cookie: str | None = None
    json: str | None = None
    """A JSON pointer into the request's body. Costs a parse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverCanarySettings:
    """Who is never put on the canary, whatever the weights and the request say."""

    keys: frozenset[bytes] = frozenset()
    """Sticky keys."""
    header: str | None = None
    """In lower case; a tenant's, say."""
    values: frozenset[bytes] = frozenset()
    """Of `header`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """Longest waits of one exchange, in seconds."""

    connect_s: float = 1.0
    first_byte_s: float = 60.0
    """From the request sent to the first byte of the answer."""
    idle_s: float = 60.0
    """Longest silence once bytes flow, in either direction; also of an idle client connection."""
    total_s: float | None = None
    """From the first byte of the request to the last of the answer. None: no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """Which first attempts are made again: only where nothing was sent back yet."""

    attempts: int = 2
    """In all, the first included."""
    budget_percent: float = 20.0
    """Retries allowed, as a share of recent requests."""
    on: frozenset[str] = frozenset({"connect", "reset", "502", "503"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactSettings:
    """What is taken out of one feature: hashed, masked, or else dropped."""

    feature: str
    secret_variable: str | None = None
    """Environment variable of the recorder with the secret to hash with."""
    mask: frozenset[str] = frozenset()
    """Patterns to mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """What is kept of a route's exchanges, and how features are found in it."""

    profile: str = "auto"
    bodies_bytes: int = 64 * 1024
    """Longest part of each body kept for the recorder."""
    pointers: tuple[Pointer, ...] = ()
    """Features that do not stand where the profile looks."""
    redact: tuple[RedactSettings, ...] = ()
    sample_percent: float = 100.0
    """Share of exchanges whose bodies are kept. Those of errors always are; a row has every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """One route. `stable` and `canary` seed it once; then the stored plan wins."""

    name: str
    model: str
    match: MatchSettings
    stable: Slot
    canary: Slot | None = None
    canary_share_bp: int = 0
    managed: bool = False
    sticky: StickySettings = field(default_factory=StickySettings)
    override: bool = False
    never_canary: NeverCanarySettings = field(default_factory=NeverCanarySettings)
    max_canary_share_bp: int = MAX_CANARY_SHARE_BP
    """No plan may ask for more on this route."""
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    mirror: MirrorSettings = field(default_factory=MirrorSettings)
    circuit_breaker: BreakerSettings = field(default_factory=BreakerSettings)
    record: RecordSettings = field(default_factory=RecordSettings)


class ForwardedMode(Enum):
    """What becomes of what clients say of themselves."""

    REPLACE = "replace"
    """A client's own values are dropped, unless the client is trusted."""
    APPEND = "append"
    """Every client is a proxy that is trusted; its values come first."""
    OFF = "off"
    """Nothing is added and nothing removed."""


class ForwardedForm(Enum):
    """Which headers tell of the client."""

    X_FORWARDED = "x-forwarded"
    FORWARDED = "forwarded"
    """RFC 7239."""
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedSettings:
    """What upstreams are told about the client."""

    mode: ForwardedMode = ForwardedMode.REPLACE
    form: ForwardedForm = ForwardedForm.X_FORWARDED
    trusted: tuple[str, ...] = ()
    """Networks and addresses of proxies whose values are appended to; `unix`: a Unix socket."""
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
    """Where records wait for the recorder, and how much room all workers have there."""

    dir: Path
    limit_bytes: int = 2 * 1024**3
    fsync_s: float | None = None
    """How often what was spooled is made to survive a power cut; None: when the kernel likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The admin port, and who may use it. Without a token it is on loopback only."""

    host: str = "127.0.0.1"
    port: int = 8001
    operator_token: str | None = field(default=None, repr=False)
    viewer_token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    oidc: OidcSettings | None = None
    """None: no identity provider's tokens are accepted."""
    tls: ServerTls | None = None
    """None: plain HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings:
    """A line for each exchange, beside the rows."""

    path: str
    """A file, or `-` for the standard output."""
    sample_percent: float = 100.0
    """Share of exchanges that get a line. Those that did not end well always do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveSettings:
    """Traces, `Server-Timing` and the access log."""

    makes_traces: bool = False
    """Each request is a span: of the client's trace, or of a new one. False: passed on as it is."""
    trace_sample_percent: float = 0.0
    """Share of the traces begun here that are marked as sampled."""
    server_timing: bool = False
    """Clients may ask for `Server-Timing`."""
    served_by: bool = True
    """Answers say in `x-served-by` which arm and version served them."""
    access_log: AccessLogSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host` and `port`, or `path` of a Unix socket."""

    host: str | None = None
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The whole file. All but the routes need an upgrade or a restart to change."""

    listen: tuple[Address, ...]
    admin: AdminSettings
    state_dir: Path
    routes: tuple[RouteSettings, ...]
    spool: SpoolSettings | None = None
    """None: a plain proxy that records nothing."""
    tls: ServerTls | None = None
    """None: clients speak plain HTTP. A Unix socket always does."""
    workers: int = 1
    """Processes that serve; at least 1."""
    drain_s: float = 25.0
    """For exchanges under way at the end; Kubernetes kills 30 s after SIGTERM by default."""
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    clients: ClientSettings = field(default_factory=ClientSettings)
