"""The gateway's file, read by those who only look: its secrets do not matter to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from gateway.config import ConfigError, load
from gateway.settings import GatewaySettings


def read_gateway_file(path: Path) -> GatewaySettings:
    """Without its tokens and certificates. Raises ClickException: the gateway would refuse it."""
    try:
        return load(path, _Unread(), reads_certificates=False)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


class _Unread(Mapping[str, str]):
    """An environment in which every variable is set."""

    def __getitem__(self, name: str) -> str:
        return f"unread-{name}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
