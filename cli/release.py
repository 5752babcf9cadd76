"""`release start|status|list|pause|resume|promote|abort|retry|history`: talk to the agent."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

from cli.agent import call
from cli.connect import Connection, connection, run
from cli.exits import EXIT_FAILED, EXIT_NOT_OVER
from cli.output import is_data, output_option, print_data
from cli.replay import replay

FAILED_PHASES = frozenset({"rolled_back", "aborted"})
DONE_PHASES = frozenset({"settled"}) | FAILED_PHASES

POLL_S = 1.0
"""How often `status` asks while it waits."""


@click.group()
def release() -> None:
    """Start, see and steer releases."""


@release.command()
@click.argument("route")
@click.option("--version", required=True, help="Name of the new version.")
@click.option("--endpoint", "endpoints", multiple=True, required=True, help="Where it is served.")
@click.option("--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strategy", help="Instead of a policy: canary, shadow or blue_green.")
@click.option("--reason", required=True)
@output_option
def start(
    route: str,
    version: str,
    endpoints: tuple[str, ...],
    policy: Path | None,
    strategy: str | None,
    reason: str,
    output: str,
) -> None:
    """Bring VERSION to ROUTE, step by step."""
    body: dict[str, object] = {
        "route": route,
        "version": version,
        "endpoints": list(endpoints),
        "reason": reason,
    }
    if strategy:
        body["strategy"] = strategy
    if policy is not None:
        body["policy"] = yaml.safe_load(policy.read_text(encoding="utf-8"))
    _show(run(call(connection(), "POST", "/v1/releases", body)), output)


@release.command("list")
@output_option
def list_releases(output: str) -> None:
    """Every release, newest first."""
    found = run(call(connection(), "GET", "/v1/releases"))
    if is_data(output):
        print_data(output, found)
        return
    for one in found:
        click.echo(_line(one))


@release.command()
@click.argument("release_id")
@click.option(
    "--watch/--no-watch", "-w/ ", default=True, show_default=True, help="Wait for the end."
)
@click.option("--timeout", "timeout_s", type=float, default=0.0, help="Seconds; 0 waits for ever.")
@output_option
def status(release_id: str, watch: bool, timeout_s: float, output: str) -> None:
    """Wait for the release to end.

    Exit code 0: promoted. 1: rolled back or aborted. 3: not over yet. 4: the agent did not answer.
    """
    final = run(_follow(connection(), release_id, watch, timeout_s, not is_data(output)))
    if is_data(output):
        print_data(output, final)
    if final["phase"] in FAILED_PHASES:
        sys.exit(EXIT_FAILED)
    if watch and final["phase"] not in DONE_PHASES:
        click.echo(f"release {release_id} is still {final['phase']}", err=True)
        sys.exit(EXIT_NOT_OVER)


async def _follow(
    where: Connection, release_id: str, watch: bool, timeout_s: float, verbose: bool
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    last_line = ""
    while True:
        current: dict[str, Any] = await call(where, "GET", f"/v1/releases/{release_id}")
        line = _line(current)
        if verbose and line != last_line:
            click.echo(line)
            last_line = line
        if not watch or current["phase"] in DONE_PHASES or time.monotonic() >= deadline:
            return current
        await asyncio.sleep(POLL_S)


@release.command()
@click.argument("release_id")
@output_option
def history(release_id: str, output: str) -> None:
    """What was done in this release, by whom and why."""
    events = run(call(connection(), "GET", f"/v1/releases/{release_id}/events"))
    if is_data(output):
        print_data(output, events)
        return
    for event in events:
        click.echo(f"{event['at']}  {event['kind']:<14} {event['actor']:<10} {event['reason']}")


def _verb(name: str, summary: str) -> click.Command:
    @click.command(name, help=summary)
    @click.argument("release_id")
    @click.option("--reason", default="", help="Kept in the journal.")
    @output_option
    def command(release_id: str, reason: str, output: str) -> None:
        body = {"reason": reason}
        _show(run(call(connection(), "POST", f"/v1/releases/{release_id}/{name}", body)), output)

    return command


for _name, _summary in (
    ("pause", "Keep the weight where it is until `resume`."),
    ("resume", "Go on, also after weights were set by hand."),
    ("promote", "Go on to the next weight now; end a bake whose evidence stays invalid."),
    ("abort", "End the release: everything to stable, without blame."),
    ("retry", "Start the release again from its first step."),
):
    release.add_command(_verb(_name, _summary))


release.add_command(replay)


def _show(one: dict[str, Any], output: str) -> None:
    if is_data(output):
        print_data(output, one)
    else:
        click.echo(_line(one))


def _line(one: dict[str, Any]) -> str:
    reasons = "; ".join(one.get("reasons", ()))
    return (
        f"{one['id']}  {one['route']}  {one['version']}  {one['phase']}  "
        f"{one.get('weight', 0):g} %  {one.get('verdict', '')}  {reasons}"
    )
