"""The keys that concern every client: `limits` and `forwarded`."""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_network
from typing import TypeVar

import msgspec

from gateway.file_values import FileKeys, Size
from gateway.forwarding import UNIX
from gateway.settings import (
    ClientSettings,
    ForwardedForm,
    ForwardedMode,
    ForwardedSettings,
    LimitSettings,
)
from mlops.contracts.slot_values import TOKEN

MAX_HEADERS_BYTES = 1024 * 1024
"""Longest bound on a head: one is held for every request."""

E = TypeVar("E", bound=Enum)


class LimitsFile(FileKeys):
    """`limits`: bounds on what clients may send; see `LimitSettings`."""

    connections: int = 10_000
    target: Size = msgspec.field(default_factory=lambda: Size("8KiB"))
    headers: Size = msgspec.field(default_factory=lambda: Size("32KiB"))
    body: Size | None = None


class ForwardedFile(FileKeys):
    """`forwarded`: what upstreams are told about the client."""

    mode: str = "replace"
    form: str = "x-forwarded"
    trusted: list[str] = msgspec.field(default_factory=list)
    via: str | None = None


def client_settings(limits: LimitsFile, forwarded: ForwardedFile) -> ClientSettings:
    """Both keys as settings. Raises ValueError starting with the key's path."""
    return ClientSettings(limits=_limits(limits), forwarded=_forwarded(forwarded))


def _limits(file: LimitsFile) -> LimitSettings:
    if file.connections < 1:
        raise ValueError(f"limits.connections: expected 1 or more, got {file.connections}")
    for key, size in (("target", file.target), ("headers", file.headers)):
        if not 256 <= size.bytes <= MAX_HEADERS_BYTES:
            raise ValueError(
                f"limits.{key}: expected 256B to {MAX_HEADERS_BYTES // 1024}KiB, "
                f"got {size.bytes:,} bytes"
            )
    return LimitSettings(
        connections=file.connections,
        target_bytes=file.target.bytes,
        headers_bytes=file.headers.bytes,
        body_bytes=None if file.body is None else file.body.bytes,
    )


def _forwarded(file: ForwardedFile) -> ForwardedSettings:
    mode = _word(ForwardedMode, "forwarded.mode", file.mode)
    for index, text in enumerate(file.trusted):
        try:
            if text != UNIX:
                ip_network(text)
        except ValueError as exc:
            raise ValueError(
                f"forwarded.trusted[{index}]: expected a network such as 10.0.0.0/8, an address "
                f"or unix, got {text!r}"
            ) from exc
    if file.trusted and mode is not ForwardedMode.REPLACE:
        raise ValueError(f"forwarded.trusted: means nothing where mode is {mode.value}")
    if file.via is not None and not TOKEN.fullmatch(file.via):
        raise ValueError(f"forwarded.via: expected a name without spaces, got {file.via!r}")
    return ForwardedSettings(
        mode=mode,
        form=_word(ForwardedForm, "forwarded.form", file.form),
        trusted=tuple(file.trusted),
        via=file.via,
    )


def _word(kind: type[E], path: str, text: str) -> E:
    try:
        return kind(text)
    except ValueError as exc:
        expected = ", ".join(str(member.value) for member in kind)
        raise ValueError(f"{path}: expected one of {expected}, got {text!r}") from exc
