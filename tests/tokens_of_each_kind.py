"""Tokens of every kind, and every request that an OpenAPI document names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from mlops.service.tokens import new_token

TOKENS = {
    "viewer": new_token("reader", "viewer"),
    "operator": new_token("release-bot", "operator", ["rag"]),
    "other route": new_token("other-bot", "operator", ["chat"]),
    "admin": new_token("root", "admin"),
    "expired": new_token("old", "admin", last_day=date(2020, 1, 1)),
    "wrong": new_token("unknown", "admin"),
}
"""By who shows it: the token, and what a server keeps of it. Of `wrong` it keeps nothing."""


def token_file() -> bytes:
    """What a server's file of tokens holds."""
    return msgspec.yaml.encode([entry for who, (_, entry) in TOKENS.items() if who != "wrong"])


def headers_of(who: str) -> dict[str, str]:
    """As somebody sends it; empty for those who have none."""
    return {"Authorization": f"Bearer {TOKENS[who][0]}"} if who in TOKENS else {}


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Method and path of each."""
    for path, verbs in document["paths"].items():
        for verb in verbs:
            if verb != "parameters":
                yield verb.upper(), path
