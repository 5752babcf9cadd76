"""Where the gateways and the agent are, and with which token."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click

from cli.contexts import Context, FromEnvironment, contexts_file, read_contexts
from mlops.contracts.api import AGENT_ACTOR
from mlops.local.stack import StackFile, read_stack
from mlops.service.tls_settings import ClientTls

T = TypeVar("T")

UP_DIRECTORY = Path("var/up")
"""Where `rag-mlops up` keeps its stack, below the working directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    gateways: tuple[str, ...]
    gateway_token: str = field(repr=False)
    agent: str
    agent_token: str = field(repr=False)
    tls: ClientTls = field(default_factory=ClientTls)
    user: str = ""
    """Who types, for plans and journals."""


def connection(
    environ: Mapping[str, str] | None = None, context_name: str | None = None
) -> Connection:
    """The context that was chosen, else the environment, else the current context.

    MLOPS_GATEWAY_ADMIN_URLS (comma separated), MLOPS_AGENT_URL, MLOPS_TLS_CA, _CERT and _KEY, and
    the operator tokens. What the environment does not name is taken from the current context, else
    from the stack that `up` started, else from the default ports on this machine.

    Raises:
        ClickException: there is no such context, or its file is not right.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  the CLI's only read
    contexts = read_contexts(contexts_file(environ))
    if name := context_name or _chosen():
        return _of_context(contexts.named(name), environ)
    if contexts.current is not None and not environ.get("MLOPS_GATEWAY_ADMIN_URLS"):
        return _of_context(contexts.named(contexts.current), environ)
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
        tls=_tls(environ),
        user=user_name(),
    )


def _chosen() -> str | None:
    """What `--context` names."""
    current = click.get_current_context(silent=True)
    chosen = current.find_root().obj if current is not None else None
    return chosen if isinstance(chosen, str) else None


def _of_context(context: Context, environ: Mapping[str, str]) -> Connection:
    return Connection(
        gateways=tuple(url.rstrip("/") for url in context.gateways),
        gateway_token=_secret(context.gateway_token, environ),
        agent=context.agent.rstrip("/"),
        agent_token=_secret(context.agent_token, environ),
        tls=context.tls,
        user=user_name(),
    )


def _secret(named: FromEnvironment | None, environ: Mapping[str, str]) -> str:
    if named is None:
        return ""
    found = environ.get(named.env, "")
    if not found:
        raise click.ClickException(f"the environment variable {named.env} is not set or empty")
    return found


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


def _tls(environ: Mapping[str, str]) -> ClientTls:
    ca, cert, key = (environ.get(f"MLOPS_TLS_{name}") or None for name in ("CA", "CERT", "KEY"))
    try:
        return ClientTls(ca=ca, cert=cert, key=key)
    except ValueError as error:
        raise click.ClickException(f"MLOPS_TLS_CERT, MLOPS_TLS_KEY: {error}") from None


def running_stack() -> StackFile | None:
    return read_stack(UP_DIRECTORY)


def run(coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run(coroutine)
