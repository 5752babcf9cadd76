"""`weights get|set` and `rollback`: talk to every gateway directly, in parallel."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import click
from msgspec.structs import replace

from cli.connect import Connection, connection, run
from cli.output import dry_run_option, is_data, print_data, prints
from cli.refusals import GATEWAY_TOKEN, token_hint
from cli.shapes import GatewayAnswer
from mlops.config import ConfigError, read_config
from mlops.contracts.api import RouteStatus, Weights
from mlops.contracts.plan import without_header_values
from mlops.deployment.errors import GatewayError, GatewayRefused, NotDeployable
from mlops.deployment.gateway_client import GatewayClient
from mlops.deployment.notices import Notice, tell
from mlops.deployment.way_back import WayBack, gone_back, way_back
from mlops.service.tls import Trust

Action = Callable[[GatewayClient], Awaitable[RouteStatus]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one gateway said: its status, or why it did not confirm."""

    gateway: str
    status: RouteStatus | None
    problem: str = ""


async def on_every_gateway(where: Connection, action: Action) -> list[Answer]:
    """Do it on all at once; an answer for each, in their order.

    Raises:
        ClickException: there is none. That nobody refused would look like success.
    """
    if not where.gateways:
        raise click.ClickException(
            "no gateway is named: MLOPS_GATEWAY_ADMIN_URLS or the context's `gateways` says where "
            "they are"
        )
    trust = Trust(where.tls)

    async def one(url: str) -> Answer:
        async with GatewayClient(url, where.gateway_token, actor=where.user, trust=trust) as client:
            try:
                return Answer(url, await action(client))
            except (GatewayError, NotDeployable) as error:
                status = error.status if isinstance(error, GatewayRefused) else None
                return Answer(url, None, f"{error}{token_hint(status, GATEWAY_TOKEN)}")

    return list(await asyncio.gather(*(one(url) for url in where.gateways)))


@click.group()
def weights() -> None:
    """See or set the weights of a route."""


@weights.command("get")
@click.argument("route")
@prints(list[GatewayAnswer])
def get_weights(route: str, output: str) -> None:
    """Print the weights asked for and the split in force, on every gateway."""
    report(run(on_every_gateway(connection(), lambda client: client.route(route))), output)


@weights.command("set")
@click.argument("route")
@click.argument("assignments", nargs=-1, required=True, metavar="stable=90 canary=10")
@click.option("--reason", default="", help="Kept in the plan and in the journal.")
@dry_run_option
@prints(list[GatewayAnswer])
def set_weights(
    route: str, assignments: tuple[str, ...], reason: str, output: str, *, dry_run: bool
) -> None:
    """Set the weights by hand. The agent pauses the release until `release resume`."""
    asked = _parse(assignments)
    if dry_run:
        would = f"stable={asked['stable']:g} canary={asked['canary']:g}"
        click.echo(f"dry run: every gateway below would be set to {would}", err=is_data(output))
        report(run(on_every_gateway(connection(), lambda client: client.route(route))), output)
        return
    report(
        run(
            on_every_gateway(
                connection(),
                lambda client: client.put_weights(
                    route, stable=asked["stable"], canary=asked["canary"], reason=reason
                ),
            )
        ),
        output,
    )


def _parse(assignments: tuple[str, ...]) -> dict[str, float]:
    asked: dict[str, float] = {}
    for assignment in assignments:
        arm, _, value = assignment.partition("=")
        if arm in asked:
            raise click.BadParameter(f"{assignment!r}: {arm} is there twice")
        try:
            asked[arm] = float(value)
        except ValueError:
            raise click.BadParameter(
                f"{assignment!r}: expected ARM=PERCENT such as canary=10"
            ) from None
    if set(asked) != {"stable", "canary"}:
        raise click.BadParameter(f"expected stable=PERCENT canary=PERCENT, got {sorted(asked)}")
    try:
        Weights(stable=asked["stable"], canary=asked["canary"])
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return asked


@click.command()
@click.argument("route")
@click.option(
    "--to",
    metavar="VERSION|previous",
    help="The version to return to, if the gateways keep it; `previous`: undo a promotion.",
)
@click.option(
    "--reason", default="rolled back by hand", help="Kept in the plan and in the journal."
)
@click.option("--force", is_flag=True, help="Restore previous even if it does not answer.")
@dry_run_option
@prints(list[GatewayAnswer])
def rollback(
    route: str, to: str | None, reason: str, output: str, *, force: bool, dry_run: bool
) -> None:
    """Send everything to stable, now, on every gateway.

    Needs neither agent nor ClickHouse nor MLflow. Whoever MLOPS_NOTICE_URL names is told once the
    gateways have answered. Exit code 0 only if every gateway confirmed.
    """
    where = connection()
    if dry_run:
        click.echo("dry run: what each gateway would serve", err=is_data(output))
        report(
            run(on_every_gateway(where, lambda client: _would_go_back(client, route, to))), output
        )
        return
    answers = run(
        on_every_gateway(where, lambda client: _go_back(client, route, to, reason, force=force))
    )
    try:
        report(answers, output)  # what was done comes first; it ends with the exit code
    finally:
        if problem := run(_tell(answers, route, where.user, reason)):
            click.echo(problem, err=True)


async def _go_back(
    client: GatewayClient, route: str, to: str | None, reason: str, *, force: bool
) -> RouteStatus:
    if to is None or to == WayBack.PREVIOUS:
        return await client.rollback(route, to=to or "", reason=reason, force=force)
    status = await client.route(route)
    way = way_back(status.plan, to)
    if way is None:
        return status
    return await client.rollback(route, to=way, reason=reason, force=force)


async def _would_go_back(client: GatewayClient, route: str, to: str | None) -> RouteStatus:
    """The status as a rollback would leave it; whether `previous` answers is not asked.

    Raises:
        NotDeployable: the gateway does not keep that version.
    """
    status = await client.route(route)
    if to is None or to == WayBack.PREVIOUS:
        way: WayBack | None = WayBack(to or "")
    else:
        way = way_back(status.plan, to)
    after = status.plan if way is None else gone_back(status.plan, way)
    if after == status.plan:
        return status
    return replace(status, plan=after, share_bp=0, explanation="It would replace the live plan.")


async def _tell(answers: list[Answer], route: str, user: str, reason: str) -> str:
    """The notice; what went wrong with it never changes what was done at the gateways."""
    try:
        settings = read_config().notices
    except ConfigError as error:
        return f"nobody was told: {error}"
    live = [one.status.plan.stable.version for one in answers if one.status is not None]
    return await tell(
        settings,
        Notice(
            target=route,
            routes={route: live[0]} if live else {},
            actor=user,
            reason=reason,
            confirmed=tuple(one.gateway for one in answers if one.status is not None),
            unconfirmed=tuple(one.gateway for one in answers if one.status is None),
        ),
    )


def report(answers: list[Answer], output: str) -> None:
    """Print what each gateway said, without header values; exit 1 if one did not confirm."""
    if is_data(output):
        print_data(
            output,
            [
                GatewayAnswer(gateway=answer.gateway, error=answer.problem)
                if answer.status is None
                else GatewayAnswer(gateway=answer.gateway, status=_shown(answer.status))
                for answer in answers
            ],
        )
    else:
        for answer in answers:
            click.echo(f"{answer.gateway}: {_sentence(answer)}", err=answer.status is None)
    sys.exit(0 if all(answer.status for answer in answers) else 1)


def _shown(status: RouteStatus) -> RouteStatus:
    """Output ends up in tickets and in the logs of pipelines."""
    return replace(status, plan=without_header_values(status.plan))


def _sentence(answer: Answer) -> str:
    status = answer.status
    if status is None:
        return f"not confirmed: {answer.problem}"
    plan = status.plan
    canary = (
        f", canary {plan.canary.version} {plan.canary_share_bp / 100:g} %" if plan.canary else ""
    )
    return (
        f"generation {plan.generation}: stable {plan.stable.version}{canary}, "
        f"live split {status.share_bp / 100:g} %. {status.explanation}"
    )
