"""`release start|status|list|pause|resume|promote|abort|retry|history`: talk to the agent."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml
from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from agent.policy_file import PolicyError, load_policy
from cli.agent import call, path_of, release_id
from cli.connect import connection, run
from cli.exits import EXIT_FAILED, EXIT_NOT_OVER
from cli.lazy import LazyGroup
from cli.live import ReleaseView
from cli.options import FILE
from cli.output import dry_run_option, is_data, print_data, print_table, prints
from cli.shapes import AgentRequest
from mlops.contracts.plan import Slot
from mlops.contracts.release import ENDED_PHASES, FAILED_PHASES, ReleaseEvent, ReleaseStatus

POLL_S = 1.0
"""How often `status` asks while it waits."""


@click.group(cls=LazyGroup, later={"replay": "cli.replay:replay"})
def release() -> None:
    """Start, see and steer releases. Where a RELEASE is asked for, its route names the newest."""


release_argument = click.argument("given", metavar="RELEASE|ROUTE")
"""An id, or a route: its newest release."""


async def _of(given: str, what: str) -> Any:
    where = connection()
    return await call(where, "GET", f"{path_of(await release_id(where, given))}/{what}")


@release.command()
@click.argument("route")
@click.option("--version", required=True, help="Name of the new version.")
@click.option("--endpoint", "endpoints", multiple=True, required=True, help="Where it is served.")
@click.option(
    "--policy",
    type=FILE,
    help="File of the release policy; without it the default one.",
)
@click.option("--strategy", help="Instead of a policy: canary, shadow or blue_green.")
@click.option("--reason", required=True, help="Kept in the journal.")
@dry_run_option
@prints(ReleaseStatus, AgentRequest)
def start(  # noqa: PLR0913 - one for each option
    route: str,
    version: str,
    endpoints: tuple[str, ...],
    policy: Path | None,
    strategy: str | None,
    reason: str,
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Bring VERSION to ROUTE, step by step."""
    if policy is not None and strategy:
        raise click.UsageError("--policy and --strategy: expected one of the two")
    _check(version, endpoints, reason)
    body: dict[str, object] = {
        "route": route,
        "version": version,
        "endpoints": list(endpoints),
        "reason": reason,
    }
    if strategy:
        body["strategy"] = strategy
    if policy is not None:
        body["policy"] = _read_policy(policy)
    _send("/v1/releases", body, output, dry_run=dry_run)


def _check(version: str, endpoints: tuple[str, ...], reason: str) -> None:
    """Before anybody is asked, for a dry run too. Raises UsageError: the agent would refuse it."""
    try:
        Slot(version=version, endpoints=endpoints)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not reason.strip():
        raise click.UsageError("--reason is empty; expected why this version is released")


def _read_policy(path: Path) -> object:
    """The file as the agent gets it, once it is known to be a good one."""
    try:
        load_policy(path)
    except PolicyError as error:
        raise click.ClickException(str(error)) from None
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@release.command("list")
@prints(list[ReleaseStatus])
def list_releases(output: str) -> None:
    """The newest releases, at most 500."""
    found = run(call(connection(), "GET", "/v1/releases"))
    if is_data(output):
        print_data(output, found)
        return
    columns = LIST_COLUMNS if output == "text" else LIST_COLUMNS | WIDE_COLUMNS
    print_table(list(columns), [[show(one) for show in columns.values()] for one in found])


@release.command()
@release_argument
@click.option(
    "--watch/--no-watch", "-w/ ", default=True, show_default=True, help="Wait for the end."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Seconds; 0 waits for ever.",
)
@prints(ReleaseStatus)
def status(given: str, watch: bool, timeout_s: float, output: str) -> None:
    """Wait for the release to end, and show how it goes.

    Exit code 0: promoted. 1: rolled back or aborted. 3: not over yet. 4: the agent did not answer.
    """
    final = run(_follow(given, watch, timeout_s, _watcher(output)))
    if is_data(output):
        print_data(output, final)
    if final["phase"] in FAILED_PHASES:
        sys.exit(EXIT_FAILED)
    if watch and final["phase"] not in ENDED_PHASES:
        click.echo(f"release {final['id']} is still {final['phase']}", err=True)
        sys.exit(EXIT_NOT_OVER)


async def _follow(given: str, watch: bool, timeout_s: float, watcher: Watcher) -> dict[str, Any]:
    where = connection()
    deadline = time.monotonic() + timeout_s if timeout_s else float("inf")
    path = path_of(await release_id(where, given))
    with watcher:
        while True:
            current: dict[str, Any] = await call(where, "GET", path)
            watcher.show(current)
            if not watch or current["phase"] in ENDED_PHASES or time.monotonic() >= deadline:
                return current
            await asyncio.sleep(POLL_S)


class Watcher:
    """Shows nothing: for programs, which read the last answer."""

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, current: dict[str, Any]) -> None:
        """Take in an answer of the agent."""


class Lines(Watcher):
    """A line per change; counts that grow are none."""

    def __init__(self) -> None:
        self._last: object = None

    def show(self, current: dict[str, Any]) -> None:
        """Print a line, if something changed."""
        pause = current.get("pause") or {}
        headline = [current[key] for key in ("phase", "step", "weight", "verdict")]
        headline += [pause.get("since"), current.get("asked")]
        if headline != self._last:
            click.echo(_line(current))
            self._last = headline


class Screen(Watcher):
    """A picture that is drawn again where it stands; the last one stays."""

    def __init__(self, console: Console) -> None:
        self._view = ReleaseView()
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Watcher:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, current: dict[str, Any]) -> None:
        """Draw it again."""
        self._view.show(msgspec.convert(current, ReleaseStatus))
        panel = Panel(self._view.render(), title=self._view.title, title_align="left")
        self._live.update(panel, refresh=True)


def _watcher(output: str) -> Watcher:
    if is_data(output):
        return Watcher()
    console = Console()
    return Screen(console) if console.is_terminal else Lines()


@release.command()
@release_argument
@prints(list[ReleaseEvent])
def history(given: str, output: str) -> None:
    """What was done in this release, by whom and why."""
    events = run(_of(given, "events"))
    if is_data(output):
        print_data(output, events)
        return
    for event in events:
        click.echo(f"{event['at']}  {event['kind']:<14} {event['actor']:<10} {event['reason']}")


def _verb(name: str, summary: str) -> click.Command:
    @click.command(name, help=summary)
    @release_argument
    @click.option("--reason", default="", help="Kept in the journal.")
    @dry_run_option
    @prints(ReleaseStatus, AgentRequest)
    def command(given: str, reason: str, output: str, *, dry_run: bool) -> None:
        path = path_of(run(release_id(connection(), given)))
        _send(f"{path}/{name}", {"reason": reason}, output, dry_run=dry_run)

    return command


for _name, _summary in (
    ("pause", "Keep the weight where it is until `resume`."),
    ("resume", "Go on, also after weights were set by hand."),
    ("promote", "Go on to the next weight now; end a bake whose evidence stays invalid."),
    ("abort", "End the release: everything to stable, without blame."),
    ("retry", "Start the release again from its first step."),
):
    release.add_command(_verb(_name, _summary))


def _send(path: str, body: object, output: str, *, dry_run: bool) -> None:
    """Ask the agent to change something, or say what would be asked."""
    where = connection()
    if dry_run:
        request = {"method": "POST", "url": f"{where.agent}{path}", "body": body}
        if is_data(output):
            print_data(output, AgentRequest(dry_run=True, request=request))
        else:
            click.echo(f"dry run: would send POST {request['url']} {json.dumps(body)}")
        return
    answer = run(call(where, "POST", path, body))
    if is_data(output):
        print_data(output, answer)
    else:
        click.echo(_line(answer))


LIST_COLUMNS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "id": lambda one: str(one["id"]),
    "route": lambda one: str(one["route"]),
    "version": lambda one: str(one["version"]),
    "phase": lambda one: str(one["phase"]),
    "weight": lambda one: f"{one['weight']:g} %",
    "verdict": lambda one: str(one["verdict"]),
    "started": lambda one: str(one["started_at"]),
}
WIDE_COLUMNS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "stable": lambda one: str(one["stable"]),
    "step": lambda one: f"{one['step']}/{one['steps']}",
    "generation": lambda one: str(one["generation"]),
    "requests": lambda one: str(one["canary_requests"]),
    "by": lambda one: str(one["started_by"]),
    "why": lambda one: "; ".join(one["reasons"]),
}


def _line(one: dict[str, Any]) -> str:
    said = one.get("summary") or "; ".join(one.get("reasons", ()))  # an older agent has no summary
    return (
        f"{one['id']}  {one['route']}  {one['version']}  {one['phase']}  "
        f"{one.get('weight', 0):g} %  {one.get('verdict', '')}  {said}"
    )
