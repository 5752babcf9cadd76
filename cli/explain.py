"""`explain`: which arm a key gets and why, from the gateway's file and state alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cli.gateway_file import read_gateway_file
from cli.options import FILE
from cli.output import is_data, print_data, prints
from gateway.explain import Explanation, explain, plan_of
from gateway.plan_store import BadPlanFile, read_plan
from gateway.settings import GatewaySettings, RouteSettings
from mlops.contracts.api import Weights
from mlops.contracts.plan import FULL_SHARE_BP


@click.command("explain")
@click.option(
    "--config",
    "path",
    type=FILE,
    required=True,
    help="The gateway's file; plans are read from its state directory.",
)
@click.option("--key", required=True, help="The value of the sticky key.")
@click.option("--route", "name", help="Needed where the file has several routes.")
@click.option("--weights", metavar="STABLE,CANARY", help="As if these weights were set: 90,10.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Of the request; repeatable."
)
@prints(Explanation)
def explain_command(
    path: Path,
    key: str,
    name: str | None,
    weights: str | None,
    headers: tuple[str, ...],
    output: str,
) -> None:
    """Say which arm KEY gets and why, without a running gateway."""
    settings = read_gateway_file(path)
    try:
        route = _route(settings, name)
        stored = read_plan(settings.state_dir, route.name)
        plan, origin = plan_of(route, stored, _canary_share_bp(weights))
        found = explain(route, plan, origin, key, dict(map(_header, headers)))
    except (BadPlanFile, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if is_data(output):
        print_data(output, found)
    else:
        click.echo("\n".join(_lines(found)))


def _route(settings: GatewaySettings, name: str | None) -> RouteSettings:
    routes = {route.name: route for route in settings.routes}
    if name is None and len(routes) == 1:
        return settings.routes[0]
    if name not in routes:
        asked = "expected --route" if name is None else f"no route {name!r}"
        raise ValueError(f"{asked}; the file's routes: {', '.join(routes)}")
    return routes[name]


def _canary_share_bp(weights: str | None) -> int | None:
    if weights is None:
        return None
    try:
        stable, canary = map(float, weights.split(","))
    except ValueError:
        raise ValueError(f"--weights {weights!r}: expected two like 90,10") from None
    try:
        return Weights(stable=stable, canary=canary).canary_share_bp
    except ValueError as error:
        raise ValueError(f"--weights {weights!r}: {error}") from None


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise ValueError(f"--header {text!r}: expected NAME=VALUE")
    return name, value


def _lines(found: Explanation) -> Iterator[str]:
    yield f"{found.key} -> {found.arm} {found.version} ({', '.join(found.endpoints)})"
    yield f"why: {found.why}"
    shares = [f"canary below {found.canary_below}"] if found.canary_below else []
    if found.holdback_from < FULL_SHARE_BP:
        shares.append(f"holdback from {found.holdback_from}")
    yield f"buckets 0 to {FULL_SHARE_BP - 1}: {', '.join([*shares, 'the rest stable'])}"
    sources = {
        "stored": "stored by the gateway",
        "file": "the file's weights; none is stored",
        "weights": "as if --weights were set by hand",
    }
    yield f"plan: {sources[found.plan]}; route {found.route}, generation {found.generation}"
    if found.kind != "served":
        yield "recorded as an override: not judged"
    if found.lease_s is not None:
        yield f"while its lease of {found.lease_s:g} s is renewed; without it everything is stable"
