"""`migrate`: make or upgrade the tables in ClickHouse."""

from __future__ import annotations

import click

from cli.connect import run
from cli.output import dry_run_option, is_data, print_data, prints
from cli.shapes import Migrated, Pending, Roles
from mlops.config import read_config
from mlops.feature_store.migrations import migrate as migrate_tables
from mlops.feature_store.migrations import pending
from mlops.feature_store.roles import role_statements
from mlops.feature_store.settings import ClickHouseSettings


def clickhouse_settings() -> ClickHouseSettings:
    """From MLOPS_CLICKHOUSE_*, `.env`, or the stack that `up` started."""
    return read_config().clickhouse


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where steps are missing.")
@click.option("--roles", is_flag=True, help="Print the statements that make roles and quotas.")
@dry_run_option
@prints(Migrated, Pending, Roles)
def migrate(output: str, *, check: bool, roles: bool, dry_run: bool) -> None:
    """Bring the tables up to date. Safe to repeat and to run from several places at once."""
    settings = clickhouse_settings()
    if roles:
        made = role_statements(settings.database, settings.cluster)
        if is_data(output):
            print_data(output, Roles(statements=list(made)))
        else:
            click.echo(";\n".join((*made, "")).rstrip("\n"))
        return
    if check or dry_run:
        _check(run(pending(settings)), output, fails=check)
        return
    applied = run(migrate_tables(settings))
    if is_data(output):
        print_data(output, Migrated(applied=applied))
        return
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


def _check(missing: list[str], output: str, *, fails: bool) -> None:
    if is_data(output):
        print_data(output, Pending(pending=missing))
    else:
        click.echo("\n".join(f"pending {name}" for name in missing) or "up to date")
    if missing and fails:
        raise SystemExit(1)
