"""`judge ROWS`: last month's log through the real judge and stepper, block by block as if live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from agent.policy import Policy
from agent.policy_file import PolicyError, load_policy
from agent.rehearsal import Ending, Moment, alone
from agent.row_columns import RowColumns
from agent.row_log import RowLog
from agent.row_rehearsal import RowRehearsal
from cli.metrics import metrics_of
from cli.options import FILE
from cli.output import print_entry, prints
from cli.row_servers import tell_servers
from cli.rows import read_table, row_columns
from cli.shapes import JudgedMoment, JudgedResult

_ACTIONS = {
    "step": "step",
    "promoted": "promote",
    "settled": "settle",
    "rolled_back": "rollback",
    "aborted": "abort",
}


@click.command()
@click.argument("rows", type=FILE)
@click.option(
    "--policy",
    "policy_path",
    type=FILE,
    help="Release policy; without it the default one.",
)
@prints(JudgedMoment, JudgedResult, is_stream=True, only=("json", "yaml"))
def judge(rows: Path, policy_path: Path | None, output: str) -> None:
    """Judge ROWS (CSV, JSON lines, Parquet), and print a JSON line for each change.

    Columns: ts (epoch seconds or ISO 8601), arm (stable, canary, holdback), status, latency_ms;
    optional ttft_ms, score, weight (percent asked for), session, endpoint (a server of stable that
    stands out is named on stderr). The last line is the result.
    """
    try:
        policy = Policy() if policy_path is None else load_policy(policy_path)
    except PolicyError as error:
        raise click.ClickException(str(error)) from error
    if replace(alone(policy), checks=policy.checks) != policy:
        _tell("taken as passed: pauses for a person once HEALTHY, gates, freeze windows, mirrors")
    columns = row_columns(read_table(rows), rows, _tell)
    _check_columns(policy, columns)
    tell_servers(columns, _tell)
    print_entry(output, _result(_play(policy, columns, output)))


def _play(policy: Policy, columns: RowColumns, output: str) -> Ending:
    rehearsal = RowRehearsal(alone(policy), RowLog(columns))
    for moment in rehearsal.play():
        print_entry(output, _line(moment))
    return rehearsal.ending()


def _check_columns(policy: Policy, columns: RowColumns) -> None:
    """What the policy judges and the log does not hold is never proved: say so at once."""
    have = {"errors", "client_errors", "latency"}
    have |= {"ttft"} if columns.ttft_ms is not None else set()
    have |= {"score"} if columns.score is not None else set()
    listed = {
        name
        for name in policy.checks.__dataclass_fields__
        if getattr(policy.checks, name) is not None
    }
    for name in sorted(listed - have):
        _tell(f"the policy's check {name!r} has no column in the rows: it can never be proved")
    if columns.weight is None:
        _tell("no column 'weight': whether the split was as asked is not judged")


def _line(moment: Moment) -> JudgedMoment:
    return JudgedMoment(
        t=moment.at_s,
        verdict=moment.judgement.verdict.value,
        action=_ACTIONS.get(moment.action, "hold"),
        to=moment.to_share_bp / 100,
        weight=moment.share_bp / 100,
        reasons=moment.judgement.reasons,
        metrics=metrics_of(moment.judgement),
    )


def _result(ending: Ending) -> JudgedResult:
    return JudgedResult(
        result=ending.result,
        t=ending.at_s,
        canary_requests=ending.canary_requests,
        reason=ending.reason,
    )


def _tell(text: str) -> None:
    click.echo(text, err=True)
