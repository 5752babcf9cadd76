"""Where the gateways and the agent are, and with which token."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import click
import msgspec

from cli.contexts import Context, FromEnvironment, contexts_file, read_contexts
from mlops.contracts.api import AGENT_ACTOR
from mlops.local.stack import STACK_FILE, StackFile, read_stack
from mlops.service.tls_settings import ClientTls

T = TypeVar("T")

UP_DIRECTORY = Path("var/up")
"""Where `rag-mlops up` keeps its stack, below the working directory."""
DEFAULT_GATEWAY: Final = "http://127.0.0.1:8001"
DEFAULT_AGENT: Final = "http://127.0.0.1:8002"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Whom a command asks, and as whom."""

    gateways: tuple[str, ...]
    """Admin addresses."""
    gateway_token: str = field(repr=False)
    agent: str
    agent_token: str = field(repr=False)
    tls: ClientTls = field(default_factory=ClientTls)
    user: str = ""
    """Who types, for plans and journals."""


def connection(
    environ: Mapping[str, str] | None = None, context_name: str | None = None
) -> Connection:
    """The context that was chosen; else what the environment says, and of the rest the current one.

    MLOPS_GATEWAY_ADMIN_URLS (comma separated) with GATEWAY_OPERATOR_TOKEN, MLOPS_AGENT_URL with
    AGENT_OPERATOR_TOKEN, MLOPS_TLS_CA, _CERT and _KEY. Where there is no current context: the stack
    that `up` started, else the default ports on this machine. A token is of the same origin as its
    address, so that none is shown to a server of another environment.

    Raises:
        ClickException: there is no such context, or its file is not right.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  the CLI's only read
    contexts = read_contexts(contexts_file(environ))
    if name := context_name or _chosen():
        return _of_context(contexts.named(name), environ)
    here = _of_this_machine(environ)
    if contexts.current is None:
        return here
    context = contexts.named(contexts.current)
    if not environ.get("MLOPS_GATEWAY_ADMIN_URLS"):
        here = replace(
            here, gateways=context.urls, gateway_token=_secret(context.gateway_token, environ)
        )
    if not environ.get("MLOPS_AGENT_URL"):
        token = _secret(context.agent_token, environ)
        here = replace(here, agent=context.agent.rstrip("/"), agent_token=token)
    return here if here.tls != ClientTls() else replace(here, tls=context.tls)


def has_context() -> bool:
    """Whether one was chosen, or is the file's current one."""
    environ = os.environ  # noqa: TID251  names the file
    return bool(_chosen() or read_contexts(contexts_file(environ)).current)


def _of_this_machine(environ: Mapping[str, str]) -> Connection:
    """The environment, the stack that `up` started, the default ports."""
    try:
        stack = running_stack()
    except click.ClickException as error:  # a rollback does not wait for it
        click.echo(f"left out: {error.message}", err=True)
        stack = None
    addresses = stack.addresses if stack else {}
    tokens = stack.secrets if stack else {}
    urls = environ.get("MLOPS_GATEWAY_ADMIN_URLS") or addresses.get("admin", DEFAULT_GATEWAY)
    agent = environ.get("MLOPS_AGENT_URL") or addresses.get("agent", DEFAULT_AGENT)
    return Connection(
        gateways=tuple(url.strip().rstrip("/") for url in urls.split(",") if url.strip()),
        gateway_token=_token("GATEWAY_OPERATOR_TOKEN", environ, tokens),
        agent=agent.rstrip("/"),
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
        gateways=context.urls,
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


def running_stack(directory: Path = UP_DIRECTORY) -> StackFile | None:
    """What `up` wrote down below the working directory. Raises ClickException: it is not right."""
    try:
        return read_stack(directory)
    except (OSError, msgspec.DecodeError) as error:
        raise click.ClickException(f"{directory / STACK_FILE}: {error}") from None


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Wait for it, in an event loop of its own."""
    return asyncio.run(coroutine)
