"""`release replay`: judge a release, or any stretch of traffic, again from ClickHouse."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from agent.moments import iso
from agent.policy import Policy
from agent.policy_file import PolicyError, load_policy, parse_policy
from agent.rehearsal import Ending, Moment
from agent.replay import NothingToReplay, Replay, Span
from cli.agent import call, path_of, release_id
from cli.connect import connection, run
from cli.exits import EXIT_FAILED, EXIT_NOT_OVER
from cli.metrics import metrics_of
from cli.options import FILE, refuse_typed
from cli.output import is_data, print_entry, prints
from cli.shapes import ReplayMoment, ReplayResult
from cli.store import clickhouse_settings
from mlops.feature_store.log import FeatureLog

_EXITS = {"promoted": 0, "rolled_back": EXIT_FAILED}


@click.command()
@click.argument("given", required=False, metavar="RELEASE|ROUTE")
@click.option(
    "--policy",
    "policy_path",
    type=FILE,
    help="Judge by this policy instead of the release's own.",
)
@click.option("--what-if", is_flag=True, help="Any stretch of traffic: --route, --since, --until.")
@click.option("--route", help="With --what-if: whose traffic.")
@click.option("--since", help="ISO 8601 or epoch seconds.")
@click.option("--until", help="The same; default: now.")
@prints(ReplayMoment, ReplayResult, is_stream=True)
def replay(
    given: str | None,
    policy_path: Path | None,
    route: str | None,
    since: str | None,
    until: str | None,
    output: str,
    *,
    what_if: bool,
) -> None:
    """What would have happened, and when: by the same judge and the same steps.

    The weights are taken as they were. Exit code 0 where it is promoted, 1 rolled back, 3 neither.
    """
    try:
        policy = None if policy_path is None else load_policy(policy_path)
    except PolicyError as error:
        raise click.ClickException(str(error)) from error
    if what_if == bool(given):
        raise click.UsageError("expected either a release, or --what-if with --route, --since")
    if what_if:
        if not route or not since:
            raise click.UsageError("--what-if: expected --route and --since")
        end = _moment(until) if until else int(datetime.now(UTC).timestamp())
        span = _span(route, _moment(since), end)
    else:
        refuse_typed(("route", "since", "until"), "needs --what-if")
        span, own = run(_of_release(str(given)))
        policy = policy or own
    result = run(_replay(span, policy or Policy(), output))
    sys.exit(_EXITS.get(result, EXIT_NOT_OVER))


async def _of_release(given: str) -> tuple[Span, Policy]:
    """The agent knows when it was, and by which policy."""
    where = connection()
    found = await call(where, "GET", path_of(await release_id(where, given)))
    end = found["ended_at"]
    until = _moment(end) if end else int(datetime.now(UTC).timestamp())
    policy = parse_policy(found["policy"], source=f"policy of release {found['id']}")
    return _span(found["route"], _moment(found["started_at"]), until), policy


def _span(route: str, since: int, until: int) -> Span:
    try:
        return Span(route, since, until)
    except ValueError as error:
        raise click.UsageError(f"--since, --until: {error}") from None


async def _replay(span: Span, policy: Policy, output: str) -> str:
    log = await FeatureLog.connect(clickhouse_settings())
    try:
        replay = await Replay.of(log, span, policy)
        async for moments in replay.run():
            for moment in moments:
                _show(_line(moment), output)
        ending = replay.ending()
        _show(_last(ending), output)
        return ending.result
    except NothingToReplay as error:
        click.echo(f"Error: {error}", err=True)
        return "undecided"
    finally:
        await log.close()


def _line(moment: Moment) -> ReplayMoment:
    return ReplayMoment(
        t=iso(moment.at_s),
        verdict=moment.judgement.verdict.value,
        action=moment.action,
        weight=moment.to_share_bp / 100,
        logged=moment.share_bp / 100,
        reasons=moment.reasons,
        metrics=metrics_of(moment.judgement),
    )


def _last(ending: Ending) -> ReplayResult:
    return ReplayResult(
        result=ending.result,
        t=iso(ending.at_s),
        canary_requests=ending.canary_requests,
        reason=ending.reason,
    )


def _show(line: ReplayMoment | ReplayResult, output: str) -> None:
    """JSON lines, or a line for people."""
    if is_data(output):
        print_entry(output, line)
    elif isinstance(line, ReplayResult):
        click.echo(f"{line.t}  {line.result}: {line.reason} "
                   f"({line.canary_requests} canary requests)")  # fmt: skip
    else:
        click.echo(
            f"{line.t}  {line.action or 'looks':<12} {line.weight:g} % (was {line.logged:g} %)  "
            f"{line.verdict:<10} {'; '.join(line.reasons)}"
        )


def _moment(text: str) -> int:
    """Unix seconds of ISO 8601 or epoch seconds; without a zone, UTC."""
    try:
        return int(float(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r}: expected ISO 8601 or epoch seconds"
        raise click.UsageError(message) from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(zoned.timestamp())
