"""Several environments by name, as kubectl has them: the file, and `context list|use`.

`~/.config/rag-mlops/contexts.yaml`, or what RAG_MLOPS_CONFIG names:

    current: staging
    contexts:
      staging: {gateways: ["http://127.0.0.1:8001"], agent: "http://127.0.0.1:8002"}
      production:
        gateways: ["https://gateway-1:8001", "https://gateway-2:8001"]
        gateway_token: {env: PRODUCTION_GATEWAY_TOKEN}
        agent: https://agent:8002
        agent_token: {env: PRODUCTION_AGENT_TOKEN}
        tls: {ca: ca.pem, cert: me.pem, key: me.key}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
import yaml

from cli.output import dry_run_option, is_data, print_answer, print_data, print_table, prints
from cli.shapes import CurrentContext
from mlops.service.tls_settings import ClientTls

MAX_FILE_BYTES = 1024 * 1024
"""Ten thousand contexts."""


class FromEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret is named in the file, never written there."""

    env: str


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One environment: the admin address of every gateway, and the agent's."""

    gateways: tuple[str, ...]
    agent: str
    gateway_token: FromEnvironment | None = None
    agent_token: FromEnvironment | None = None
    tls: ClientTls = ClientTls()

    @property
    def urls(self) -> tuple[str, ...]:
        """Of its gateways, as paths are put behind them."""
        return tuple(url.rstrip("/") for url in self.gateways)


class Contexts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    contexts: dict[str, Context] = {}
    current: str | None = None

    def named(self, name: str) -> Context:
        """Raises ClickException: there is none of that name."""
        if name not in self.contexts:
            known = ", ".join(self.contexts) or "none"
            raise click.ClickException(f"no context {name!r}; the file's contexts: {known}")
        return self.contexts[name]


def contexts_file(environ: Mapping[str, str]) -> Path:
    """Where the file is, or would be; a container's user may have no home."""
    if named := environ.get("RAG_MLOPS_CONFIG"):
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "/") / ".config")
    return Path(home) / "rag-mlops" / "contexts.yaml"


def read_contexts(path: Path) -> Contexts:
    """The file's contexts; none where there is no file. Raises ClickException: it is not right."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise click.ClickException(f"{path}: longer than {MAX_FILE_BYTES:,} bytes")
    try:
        return msgspec.convert(yaml.safe_load(data), Contexts)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise click.ClickException(f"{path}: {error}") from None


@click.group()
def context() -> None:
    """See or choose which environment the commands talk to."""


@context.command("list")
@prints(Contexts)
def list_contexts(output: str) -> None:
    """Every context of the file; `*` marks the current one."""
    found = read_contexts(contexts_file(os.environ))  # noqa: TID251  names the file
    if is_data(output):
        print_data(output, found)
        return
    rows = [
        ["*" if name == found.current else "", name, ", ".join(one.gateways), one.agent]
        for name, one in found.contexts.items()
    ]
    print_table(["current", "name", "gateways", "agent"], rows)


@context.command()
@click.argument("name")
@dry_run_option
@prints(CurrentContext)
def use(name: str, output: str, *, dry_run: bool) -> None:
    """Make NAME the current context, for every later command."""
    path = contexts_file(os.environ)  # noqa: TID251  names the file
    found = read_contexts(path)
    found.named(name)
    if dry_run:
        sentence = f"dry run: {path} would name {name} as current"
        print_answer(output, CurrentContext(current=name, dry_run=True), sentence)
        return
    content = msgspec.to_builtins(msgspec.structs.replace(found, current=name))
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    written.replace(path)
    print_answer(output, CurrentContext(current=name, dry_run=False), f"current context: {name}")
