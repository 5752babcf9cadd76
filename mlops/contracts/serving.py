"""What a managed model server and its callers agree on."""

from __future__ import annotations

import msgspec


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /admin/models`: load this version, never an alias, warm it up, and serve it."""

    version: str
    model: str = ""
    """Name it is registered under; empty: the one that is served."""

    def __post_init__(self) -> None:
        if not self.version:
            raise ValueError("version is empty; expected a version such as 1.2.3")


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of the version it serves."""

    model: str
    version: str
