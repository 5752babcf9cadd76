"""`token new`: a token for a person or a program, and the entry that the token file keeps of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import click
import msgspec
import yaml

from cli.options import NEW_FILE
from cli.output import dry_run_option, print_answer, prints
from cli.shapes import NewToken
from mlops.service.tokens import TokenEntry, TokenFile, new_token


@click.group()
def token() -> None:
    """Make tokens for the gateway's admin API and for the agent."""


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"]),
    default="viewer",
    show_default=True,
    help="A viewer reads; an operator changes weights and releases; an admin may do no more.",
)
@click.option("--route", "routes", multiple=True, help="It may touch only these; several times.")
@click.option(
    "--last-day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Accepted to the end of that day (UTC); without it for ever.",
)
@click.option(
    "--file",
    "path",
    type=NEW_FILE,
    default=Path("tokens.yaml"),
    show_default=True,
    help="Token file, as `tokens: {file: ...}` names it; made if it is missing.",
)
@dry_run_option
@prints(NewToken)
def new(
    name: str,
    role: Literal["viewer", "operator", "admin"],
    routes: tuple[str, ...],
    last_day: datetime | None,
    path: Path,
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Add a token of that NAME to the file and print it, this once.

    The file holds its digest only. Processes that read the file accept it within a second.
    """
    if "" in routes:
        raise click.UsageError("--route is empty; without the option it is for every route")
    before = _entries(path)
    if name in (entry.name for entry in before):
        raise click.ClickException(f"{path} has a token {name!r} already; remove it there first")
    try:
        made, entry = new_token(name, role, routes, last_day.date() if last_day else None)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if dry_run:
        sentence = f"dry run: {path} would get the token {name}, {role}"
        print_answer(output, NewToken(name=name, role=role, token=None, dry_run=True), sentence)
        return
    _write(path, (*before, entry))
    print_answer(output, NewToken(name=name, role=role, token=made, dry_run=False), made)


def _entries(path: Path) -> tuple[TokenEntry, ...]:
    if not path.exists():
        return ()
    try:
        return TokenFile(path)()
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _write(path: Path, entries: tuple[TokenEntry, ...]) -> None:
    """Whole or not at all, and for nobody else to read."""
    content = yaml.safe_dump(msgspec.to_builtins(entries, builtin_types=(list,)), sort_keys=False)
    written = path.with_name(f".{path.name}.new")
    written.unlink(missing_ok=True)
    written.touch(mode=0o600)
    written.write_text(content, encoding="utf-8")
    written.replace(path)
