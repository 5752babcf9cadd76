"""`limits` and `forwarded` in the gateway's file."""

from __future__ import annotations

import pytest

from gateway.client_rules import UNBOUNDED, ClientRules
from gateway.config import parse
from gateway.settings import (
    ClientSettings,
    ForwardedForm,
    ForwardedMode,
    ForwardedSettings,
    LimitSettings,
)

ROUTES = """
routes:
  - {name: rag, match: {prefix: /}, stable: {version: "1", endpoints: ["http://h:1"]}}
"""


def read(text: str) -> ClientSettings:
    return parse(text + ROUTES, {}).clients


def test_without_the_keys_the_defaults_hold() -> None:
    assert read("") == ClientSettings()
    assert ClientRules(ClientSettings()).max_body_bytes == UNBOUNDED


def test_every_key_arrives() -> None:
    settings = read(
        "limits: {connections: 5, target: 1KiB, headers: 16KiB, body: 10MiB}\n"
        "forwarded: {mode: replace, form: both, trusted: [10.0.0.0/8, '::1', unix], via: edge}\n"
    )
    assert settings.limits == LimitSettings(
        connections=5, target_bytes=1024, headers_bytes=16_384, body_bytes=10 * 1024**2
    )
    assert settings.forwarded == ForwardedSettings(
        mode=ForwardedMode.REPLACE,
        form=ForwardedForm.BOTH,
        trusted=("10.0.0.0/8", "::1", "unix"),
        via="edge",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: {connections: 0}", "limits.connections: expected 1 or more, got 0"),
        ("limits: {headers: 1B}", "limits.headers: expected 256B to 1024KiB, got 1 bytes"),
        ("limits: {target: 2MiB}", "limits.target: expected 256B to 1024KiB, got 2,097,152 bytes"),
        ("limits: {boddy: 1KiB}", "limits: unknown key 'boddy'; did you mean 'body'?"),
        ("forwarded: {mode: trust}", "forwarded.mode: expected one of replace, append, off"),
        ("forwarded: {form: xff}", "forwarded.form: expected one of x-forwarded, forwarded, both"),
        ("forwarded: {trusted: [10.0.0.1/8]}", r"forwarded.trusted\[0\]: expected a network"),
        ("forwarded: {mode: append, trusted: [unix]}", "means nothing where mode is append"),
        ("forwarded: {via: a b}", "forwarded.via: expected a name without spaces, got 'a b'"),
    ],
)
def test_a_mistake_is_named_with_its_key(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text + "\n")
