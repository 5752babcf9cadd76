"""The gateway's file, read by those who only look: its secrets do not matter to them."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.config import ConfigError, load
from gateway.settings import GatewaySettings


def read_gateway_file(path: Path) -> GatewaySettings:
    """Without its tokens and certificates. Raises ClickException: the gateway would refuse it."""
    try:
        return load(path, None)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
