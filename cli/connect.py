"""Where the gateways and the agent are, and with which token: environment, then `up`'s stack."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mlops.contracts.api import AGENT_ACTOR
from mlops.local.stack import StackFile, read_stack

T = TypeVar("T")

UP_DIRECTORY = Path("var/up")
"""Where `rag-mlops up` keeps its stack, below the working directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    gateways: tuple[str, ...]
    gateway_token: str = field(repr=False)
    agent: str
    agent_token: str = field(repr=False)
    user: str = ""
    """Who types, for plans and journals."""


def connection(environ: Mapping[str, str] | None = None) -> Connection:
    """MLOPS_GATEWAY_ADMIN_URLS (comma separated), MLOPS_AGENT_URL and the operator tokens.

    What the environment does not name is taken from the stack that `up` started, else from the
    default ports on this machine.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  the CLI's only read
    stack = read_stack(UP_DIRECTORY)
    addresses = stack.addresses if stack else {}
    tokens = stack.secrets if stack else {}
    urls = environ.get("MLOPS_GATEWAY_ADMIN_URLS") or addresses.get(
        "admin", "http://127.0.0.1:8001"
    )
    return Connection(
        gateways=tuple(url.strip().rstrip("/") for url in urls.split(",") if url.strip()),
        gateway_token=_token("GATEWAY_OPERATOR_TOKEN", environ, tokens),
        agent=(
            environ.get("MLOPS_AGENT_URL") or addresses.get("agent", "http://127.0.0.1:8002")
        ).rstrip("/"),
        agent_token=_token("AGENT_OPERATOR_TOKEN", environ, tokens),
        user=user_name(),
    )


def user_name() -> str:
    """The operating system's name of who runs this; it is trusted as far as the token is."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:  # a container may run under a number that has no name
        return f"uid {number}"
    if not name.isascii() or not name.isprintable() or name == AGENT_ACTOR:
        return f"uid {number}"
    return name


def _token(name: str, environ: Mapping[str, str], tokens: Mapping[str, str]) -> str:
    return environ.get(name) or tokens.get(name, "")


def running_stack() -> StackFile | None:
    return read_stack(UP_DIRECTORY)


def run(coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run(coroutine)
