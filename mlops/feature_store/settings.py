"""Where ClickHouse is, read once from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops.feature_store.cluster import CLUSTER_NAME
from mlops.feature_store.retention import parse_retention

_PREFIX = "MLOPS_CLICKHOUSE_"
_KNOWN = frozenset({"HOST", "PORT", "DATABASE", "USER", "PASSWORD", "CLUSTER", "RETENTION"})
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
NATIVE_PORT = 9000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickHouseSettings:
    """One ClickHouse server and the database that is ours on it."""

    host: str = "localhost"
    port: int = 8123
    """Of the HTTP interface."""
    database: str = "rag_features"
    user: str = "default"
    password: str = field(default="", repr=False)
    cluster: str = ""
    """Of a server that is part of one, as in its `remote_servers`; empty for a single server."""
    retention_days: Mapping[str, int] = field(default_factory=dict)
    """By table; one that is not named keeps everything."""

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("ClickHouse host is empty; expected a name or an address")
        if self.port == NATIVE_PORT:
            raise ValueError(
                f"ClickHouse port {NATIVE_PORT} is the native protocol (and MinIO's default port); "
                "we speak HTTP, which ClickHouse serves on 8123"
            )
        if not 0 < self.port < 65_536:
            raise ValueError(f"ClickHouse port {self.port} is outside 1..65535")
        if not _DATABASE.match(self.database):
            raise ValueError(
                f"ClickHouse database {self.database!r} is not a name; expected letters, digits "
                "and underscores, at most 64"
            )
        if self.cluster and not CLUSTER_NAME.match(self.cluster):
            raise ValueError(
                f"ClickHouse cluster {self.cluster!r} is not a name; expected letters, digits, "
                "dots, dashes and underscores, at most 64"
            )

    @classmethod
    def parse(cls, environ: Mapping[str, str]) -> ClickHouseSettings:
        """Read `MLOPS_CLICKHOUSE_HOST`, `_PORT`, `_DATABASE`, `_USER`, `_PASSWORD`, `_CLUSTER`
        and `_RETENTION`.

        Raises:
            ValueError: a value does not fit, or a name with this prefix is unknown.
        """
        given = {
            name.removeprefix(_PREFIX): value
            for name, value in environ.items()
            if name.startswith(_PREFIX)
        }
        if unknown := sorted(given.keys() - _KNOWN):
            raise ValueError(
                f"{_PREFIX}{unknown[0]} is not a setting; expected one of "
                + ", ".join(_PREFIX + name for name in sorted(_KNOWN))
            )
        return cls(
            host=given.get("HOST", "localhost"),
            port=_port(given.get("PORT", "8123")),
            database=given.get("DATABASE", "rag_features"),
            user=given.get("USER", "default"),
            password=given.get("PASSWORD", ""),
            cluster=given.get("CLUSTER", ""),
            retention_days=parse_retention(given.get("RETENTION", "")),
        )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{_PREFIX}PORT is {text!r}, expected a whole number")
    return int(text)
