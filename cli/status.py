"""`status`: every route on one screen, from the gateways themselves and from the agent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import NoReturn

import click
from msgspec.structs import replace
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from cli.connect import Connection, connection, run
from cli.exits import EXIT_FAILED, EXIT_NO_ANSWER
from cli.live import VERDICT_STYLES, ReleaseView
from cli.output import is_data, print_data, prints
from cli.refusals import AGENT_TOKEN, GATEWAY_TOKEN, Problem, token_hint
from cli.shapes import RouteOverview, StatusOverview
from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import without_header_values
from mlops.contracts.release import ENDED_PHASES, ReleaseStatus
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.errors import AgentError, GatewayError, Refused
from mlops.deployment.gateway_client import GatewayClient
from mlops.service.tls import Trust

LOOK_S = 2.0
"""How often `--watch` asks."""


@click.command()
@click.argument("routes", nargs=-1, metavar="[ROUTE]...")
@click.option("-w", "--watch", is_flag=True, help="Draw it again every two seconds, until Ctrl-C.")
@prints(StatusOverview)
def status(routes: tuple[str, ...], output: str, *, watch: bool) -> None:
    """Is the new version all right, and what is being done about it?

    Asks every gateway and the agent, and shows each without the other. Exit code 0: all answered.
    1: no gateway has such a ROUTE. 4: a gateway, or the agent, did not answer.
    """
    if watch and is_data(output):
        raise click.UsageError("--watch draws for people; ask again for each -o json")
    where, console = connection(), Console()
    is_drawn = console.is_terminal or output == "wide"
    if watch:
        run(_draw(where, routes, console) if is_drawn else _tell(where, routes))
    found = run(look(where, routes))
    if is_data(output):
        print_data(output, found)
    elif is_drawn:
        console.print(Screen().draw(found))
    else:
        click.echo("\n".join(plain(found)))
    unknown = set(routes) - {one.route for one in found.routes}
    if unknown and not found.not_answering.keys() & set(where.gateways):  # those might know it
        raise Problem(_unknown(unknown, run(look(where))), EXIT_FAILED)
    sys.exit(EXIT_NO_ANSWER if found.not_answering else 0)


def _unknown(asked: set[str], every: StatusOverview) -> str:
    known = ", ".join(sorted(one.route for one in every.routes)) or "none"
    return f"no gateway has a route {', '.join(sorted(asked))}; routes: {known}"


async def _draw(where: Connection, routes: tuple[str, ...], console: Console) -> NoReturn:
    """A picture that is drawn again where it stands, until Ctrl-C."""
    screen = Screen()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(screen.draw(await look(where, routes)), refresh=True)
            await asyncio.sleep(LOOK_S)


async def _tell(where: Connection, routes: tuple[str, ...]) -> NoReturn:
    """A line for each change, where the output is no terminal; until Ctrl-C."""
    told: dict[str, object] = {}
    while True:
        found = await look(where, routes)
        now: dict[str, object] = dict(found.not_answering)
        now |= {one.route: _headline(one) for one in found.routes}
        for line, name in _named_lines(found):
            if told.get(name) != now[name]:
                click.echo(line)
        told = now
        await asyncio.sleep(LOOK_S)


def _headline(one: RouteOverview) -> object:
    """What is news; counts that grow are none."""
    release = one.release
    shares = [(live.plan.generation, live.share_bp) for live in one.gateways.values()]
    return shares, release and (release.id, release.phase, release.verdict)


# ---- looking -------------------------------------------------------------------------------------


async def look(where: Connection, routes: tuple[str, ...] = ()) -> StatusOverview:
    """What gateways and agent say of these routes; of all where none is named."""
    silent: dict[str, str] = {}
    trust = Trust(where.tls)

    async def of_gateway(url: str) -> list[RouteStatus]:
        async with GatewayClient(url, where.gateway_token, actor=where.user, trust=trust) as client:
            try:
                return await client.routes()
            except GatewayError as error:
                silent[url] = f"{error}{token_hint(_status(error), GATEWAY_TOKEN)}"
                return []

    async def of_agent() -> list[ReleaseStatus]:
        client = AgentClient(where.agent, where.agent_token, actor=where.user, trust=trust)
        async with client:
            try:
                return await client.releases()
            except AgentError as error:
                silent[where.agent] = f"{error}{token_hint(_status(error), AGENT_TOKEN)}"
                return []

    releases, live = await asyncio.gather(
        of_agent(), asyncio.gather(*map(of_gateway, where.gateways))
    )
    gateways = dict(zip(where.gateways, live, strict=True))
    return StatusOverview(
        routes=list(_joined(gateways, releases, routes)), not_answering=silent, agent=where.agent
    )


def _status(error: Exception) -> int | None:
    return error.status if isinstance(error, Refused) else None


def _joined(
    gateways: dict[str, list[RouteStatus]], releases: list[ReleaseStatus], asked: tuple[str, ...]
) -> Iterator[RouteOverview]:
    names = dict.fromkeys(one.plan.route for live in gateways.values() for one in live)
    names |= dict.fromkeys(one.route for one in releases if one.phase not in ENDED_PHASES)
    for name in names:
        if asked and name not in asked:
            continue
        yield RouteOverview(
            route=name,
            gateways={
                url: replace(one, plan=without_header_values(one.plan))
                for url, live in gateways.items()
                for one in live
                if one.plan.route == name
            },
            release=next((one for one in releases if one.route == name), None),
        )


# ---- showing -------------------------------------------------------------------------------------


class Screen:
    """Draws what was found; remembers what it drew, for the sparklines."""

    def __init__(self) -> None:
        self._views: dict[str, ReleaseView] = {}

    def draw(self, found: StatusOverview) -> Group:
        """A panel for each route."""
        order = sorted(found.routes, key=lambda one: not _is_running(one))
        parts: list[RenderableType] = [self._route(one) for one in order]
        parts += [Text(line, style="bold red") for line in _silent(found)]
        return Group(*(parts or [Text("no gateway has a route")]))

    def _route(self, one: RouteOverview) -> Panel:
        release = one.release
        style = VERDICT_STYLES.get(release.verdict, "default") if release else "default"
        parts: list[RenderableType] = [Text(sentence(one), style=style)]
        parts += [Text(line, style="dim") for line in live_lines(one)]
        if release is not None and _is_running(one):
            view = self._views.setdefault(one.route, ReleaseView())
            view.show(release)
            parts += [Text(), view.evidence(), Text(), Text(_commands(release), style="dim")]
        return Panel(Group(*parts), title=Text(f"route {one.route}"), title_align="left")


def _is_running(one: RouteOverview) -> bool:
    """What is being released comes first: a terminal may have no room for all."""
    return one.release is not None and one.release.phase not in ENDED_PHASES


def plain(found: StatusOverview) -> Iterator[str]:
    """The same as lines."""
    for one in found.routes:
        yield f"{one.route}: {sentence(one)}"
        yield from (f"  {line}" for line in live_lines(one))
    yield from _silent(found)


def _named_lines(found: StatusOverview) -> Iterator[tuple[str, str]]:
    """A line for each route and for whoever does not answer, with its name."""
    for one in found.routes:
        yield f"{one.route}: {sentence(one)}", one.route
    yield from zip(_silent(found), found.not_answering, strict=True)


def sentence(one: RouteOverview) -> str:
    """Is the new version all right, and what is being done about it?"""
    if one.release is not None:
        return one.release.summary or "; ".join(one.release.reasons) or one.release.phase
    plans = [live.plan for live in one.gateways.values()]
    stable = {plan.stable.version for plan in plans}
    canary = {plan.canary.version for plan in plans if plan.canary is not None}
    also = f", canary is {' or '.join(sorted(canary))}" if canary else ""
    return f"No release is known. Stable is {' or '.join(sorted(stable))}{also}."


def live_lines(one: RouteOverview) -> Iterator[str]:
    """What each gateway does with the route now."""
    for url, live in one.gateways.items():
        yield f"{url}: {live.explanation}"


def _silent(found: StatusOverview) -> Iterator[str]:
    for url, problem in found.not_answering.items():
        part = "agent" if url == found.agent else "gateway"
        yield f"{part} {url}: {problem}"


def _commands(release: ReleaseStatus) -> str:
    """What somebody may do about it."""
    back = f"rag-mlops rollback {release.route}   takes it back, now"
    verbs = "|".join(release.verbs)
    return f"{back}\nrag-mlops release {verbs} {release.route}" if verbs else back
