"""What a person says of the identity provider whose tokens are accepted. Pure."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from mlops.service.tls_settings import ClientTls

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Where the key that verifies is not one that signs (RFC 8725, 3.1); `none` and HMAC never."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An issuer, and what its tokens' claims mean here."""

    issuer: str
    """As in the claim `iss`, to the letter."""
    audience: str
    """One of those in the claim `aud`: a token for another service opens nothing here."""
    jwks: str
    """Address of the issuer's public keys, or the path of a file with them."""
    role_claim: str = "roles"
    """A text or a list of texts; dots lead into objects, as in `realm_access.roles`."""
    roles: dict[str, Literal["viewer", "operator", "admin"]]
    """What stands in that claim, and the role it gives; the greatest counts."""
    routes_claim: str | None = None
    """A list of the routes that the token is of; who has none may touch none. None: every one."""
    name_claim: str = "sub"
    """Who it is, for plans, journals and the audit."""
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    tls: ClientTls = ClientTls()
    """How an `https://` address of the keys is spoken to."""

    def __post_init__(self) -> None:
        for name in ("issuer", "audience", "jwks", "role_claim", "name_claim"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected a text, got an empty one")
        if not self.roles:
            raise ValueError("roles: expected at least one, as in `release-team: operator`")
        if not self.algorithms or (unknown := self.algorithms - ALGORITHMS):
            given = ", ".join(sorted(unknown)) if self.algorithms else "none"
            raise ValueError(
                f"algorithms: expected some of {', '.join(sorted(ALGORITHMS))}, got {given}"
            )
        parts = urlsplit(self.jwks)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(
                f"jwks: whoever answers {self.jwks} makes the tokens; expected https, or a file"
            )

    @property
    def is_address(self) -> bool:
        """Whether the keys are asked for over the network."""
        return urlsplit(self.jwks).scheme in ("http", "https")
