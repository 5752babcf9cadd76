"""The keys of the gateway's file, and errors that say which one is wrong and what was meant."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, get_args

import msgspec

from gateway.clients_file import ForwardedFile, LimitsFile
from gateway.file_values import (
    Duration,
    EnvironmentValue,
    Percent,
    decode_value,
    read_yaml,
)
from gateway.file_values import FileKeys as _File
from gateway.observe_file import ObserveFile
from gateway.record_file import RecordFile, SpoolFile
from gateway.upstreams_file import UpstreamKeys
from mlops.service.oidc_settings import OidcSettings
from mlops.service.tls_settings import ServerTls

_PATH_IN_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


class TokensFile(_File):
    """`admin.tokens`: who may use the admin API. Secrets stand in the environment only."""

    operator: EnvironmentValue | None = None
    viewer: EnvironmentValue | None = None
    file: str | None = None
    oidc: OidcSettings | None = None


class AdminFile(_File):
    """`admin`: where the admin API listens."""

    listen: str = "127.0.0.1:8001"
    tokens: TokensFile = msgspec.field(default_factory=TokensFile)
    tls: ServerTls | None = None


class MatchFile(_File):
    """`match` of a route: which requests it takes."""

    host: str | None = None
    prefix: str = "/"
    methods: list[str] = msgspec.field(default_factory=list)


class SlotFile(_File):
    """`stable` of a route: a version and where it is served."""

    version: str
    endpoints: list[str]
    headers: dict[str, str | EnvironmentValue] = msgspec.field(default_factory=dict)


class CanaryFile(SlotFile):
    """`canary` of a route: a slot, and the share it starts with."""

    weight: Percent = msgspec.field(default_factory=lambda: Percent(0))


class StickyFile(_File):
    """`sticky` of a route: where a user's key stands in a request."""

    header: str | None = None
    cookie: str | None = None
    json: str | None = None


class NeverCanaryFile(_File):
    """`never_canary` of a route: whom no weight puts on the canary."""

    keys: list[str] = msgspec.field(default_factory=list)
    header: str | None = None
    values: list[str] = msgspec.field(default_factory=list)


class TimeoutsFile(_File):
    """`timeouts` of a route; `total` is absent where nothing bounds a whole exchange."""

    connect: Duration = msgspec.field(default_factory=lambda: Duration("1s"))
    first_byte: Duration = msgspec.field(default_factory=lambda: Duration("60s"))
    idle: Duration = msgspec.field(default_factory=lambda: Duration("60s"))
    total: Duration | None = None


class RetryFile(_File):
    """`retry` of a route: which first attempts are made again, and how often."""

    attempts: int = 2
    budget: Percent = msgspec.field(default_factory=lambda: Percent(20))
    on: list[str | int] = msgspec.field(default_factory=lambda: ["connect", "reset", 502, 503])


class RouteFile(UpstreamKeys, kw_only=True):
    """One item of `routes`."""

    name: str
    match: MatchFile
    stable: SlotFile
    model: str | None = None
    managed: bool = False
    canary: CanaryFile | None = None
    sticky: StickyFile = msgspec.field(default_factory=StickyFile)
    override: bool = False
    never_canary: NeverCanaryFile = msgspec.field(default_factory=NeverCanaryFile)
    max_canary: Percent = msgspec.field(default_factory=lambda: Percent(95))
    timeouts: TimeoutsFile = msgspec.field(default_factory=TimeoutsFile)
    retry: RetryFile = msgspec.field(default_factory=RetryFile)
    record: RecordFile = msgspec.field(default_factory=RecordFile)


class GatewayFile(_File):
    """The whole file."""

    routes: list[RouteFile]
    listen: str | list[str] = "127.0.0.1:8000"
    tls: ServerTls | None = None
    workers: int = 1
    drain: Duration = msgspec.field(default_factory=lambda: Duration("25s"))
    limits: LimitsFile = msgspec.field(default_factory=LimitsFile)
    forwarded: ForwardedFile = msgspec.field(default_factory=ForwardedFile)
    admin: AdminFile = msgspec.field(default_factory=AdminFile)
    state: str = "var/gateway"
    spool: SpoolFile | None = None
    observe: ObserveFile = msgspec.field(default_factory=ObserveFile)


def decode(text: str) -> GatewayFile:
    """The file's text as typed keys.

    Raises:
        ValueError: not YAML, an unknown key or a value of the wrong kind; starts with the path.
    """
    raw = read_yaml(text)
    if not isinstance(raw, dict):
        raise ValueError(  # noqa: TRY004 - the file's fault, not the caller's
            f"expected keys such as `routes:`, got {shown(raw)}"
        )
    try:
        return msgspec.convert(raw, GatewayFile, dec_hook=decode_value)
    except msgspec.ValidationError as exc:
        raise ValueError(_explain(str(exc), raw)) from exc


# --------------------------------------------------------------------------------------------------
# What msgspec says, said with the key's path, the value that came and the key that was meant.


def _explain(message: str, raw: object) -> str:
    match = _PATH_IN_MESSAGE.fullmatch(message)
    assert match is not None, "the pattern takes any text"
    path = (match["path"] or "$").removeprefix("$")
    what = match["what"]
    where = path.removeprefix(".")
    if what.startswith("Object contains unknown field"):
        name = what.split("`")[1]
        what = f"unknown key {name!r}; {_nearest(name, _keys_at(path))}"
    elif what.startswith("Object missing required field"):
        what = f"the key {what.split('`')[1]!r} is missing"
    elif what.startswith("Expected"):
        what = f"e{what[1:].replace('`', '')}{_value_at(raw, path)}"
    return f"{where}: {what}" if where else what


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"expected one of {', '.join(sorted(known))}"


def _steps(path: str) -> list[str]:
    return [name or index for name, index in _STEP.findall(path)]


def _keys_at(path: str) -> list[str]:
    """The keys that the file may have at `path`, found by walking the types."""
    kind: Any = GatewayFile
    for step in _steps(path):
        if step.isdigit() or step == "...":
            continue  # the items of a list or mapping are already what its field leads to
        field = next(field for field in msgspec.structs.fields(kind) if field.name == step)
        kind = _file_in(field.type)
    return [field.name for field in msgspec.structs.fields(kind)]


def _file_in(kind: Any) -> Any:
    """The struct inside `list[X]`, `X | None` and the like."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for arg in get_args(kind) if (found := _file_in(arg)) is not None), None)


def _value_at(raw: object, path: str) -> str:
    """The value itself, unless it may be a secret."""
    if ".headers" in path or ".tokens" in path:
        return ""
    for step in _steps(path):
        if isinstance(raw, dict) and step in raw:
            raw = raw[step]
        elif isinstance(raw, list) and step.isdigit() and int(step) < len(raw):
            raw = raw[int(step)]
        else:
            return ""
    hint = ""
    if isinstance(raw, int | float) and path.endswith(".version"):
        hint = '; put the version in quotes, as in "1.10"'
    return f" ({shown(raw)}){hint}"


def shown(value: object) -> str:
    """A value as it stands in an error: at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
