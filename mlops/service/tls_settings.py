"""What a person says of TLS, in a file or in the environment. Paths of PEM files; pure."""

from __future__ import annotations

import msgspec


class ServerTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clients speak to us."""

    cert: str
    """Ours, with what it was signed by."""
    key: str
    client_ca: str | None = None
    """Who must have signed a client's certificate. None: clients need none."""

    def __post_init__(self) -> None:
        _refuse_empty(self)

    @property
    def paths(self) -> tuple[str, ...]:
        """Of every file that is named."""
        return _named(self.client_ca, self.cert, self.key)


class ClientTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `https://` servers are spoken to."""

    ca: str | None = None
    """Who may have signed the server's certificate. None: the system's authorities."""
    cert: str | None = None
    """Ours, with what it was signed by; with `key`. None: we show none."""
    key: str | None = None
    server_name: str | None = None
    """Asked for and verified, in place of the address's host."""
    verify: bool = True
    """False: whoever answers is believed."""

    def __post_init__(self) -> None:
        _refuse_empty(self)
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together, or neither")
        if self.ca is not None and not self.verify:
            raise ValueError("ca: of no use with verify: false; leave one of them out")

    @property
    def paths(self) -> tuple[str, ...]:
        """Of every file that is named."""
        return _named(self.ca, self.cert, self.key)


def _refuse_empty(settings: ServerTls | ClientTls) -> None:
    for name in settings.__struct_fields__:
        if getattr(settings, name) == "":
            raise ValueError(f"{name}: expected the path of a file, got an empty text")


def _named(*paths: str | None) -> tuple[str, ...]:
    return tuple(path for path in paths if path is not None)
