"""What a changed file means while the gateway runs. Pure: settings in, sentences out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from gateway.settings import GatewaySettings, RouteSettings
from mlops.contracts.plan import RoutePlan

ReadFile = Callable[[], GatewaySettings]
"""Loads the gateway's file. Raises ValueError."""

_SEEDS_ONLY = ("stable", "canary", "canary_share_bp", "managed")
"""Keys of a route that matter only until a plan is stored."""

_IN_THE_FILE = {"clients": "limits or forwarded", "state_dir": "state"}
"""What a person wrote, where our name for it is another."""


def changes(old: GatewaySettings, new: GatewaySettings) -> str:
    """Say what changed.

    Raises:
        ValueError: something changed that only a restart can apply; names each.
    """
    restart = [
        f"{_IN_THE_FILE.get(field.name, field.name)} changed"
        for field in fields(GatewaySettings)
        if field.name != "routes" and getattr(old, field.name) != getattr(new, field.name)
    ]
    if restart:
        raise ValueError(f"needs an upgrade or a restart: {'; '.join(sorted(restart))}")
    before = {route.name: route for route in old.routes}
    after = {route.name: route for route in new.routes}
    said = [f"route {name!r} is new" for name in after if name not in before]
    said += [f"route {name!r} is gone" for name in before if name not in after]
    for name, route in before.items():
        different = _different(route, after[name]) if name in after else []
        if different:
            said.append(f"route {name!r}: {', '.join(different)} changed")
    if [name for name in before if name in after] != [name for name in after if name in before]:
        said.append("the order of the routes changed")
    if said:
        return "; ".join(said)
    return "nothing that the stored plans do not decide" if old != new else "nothing changed"


def _different(old: RouteSettings, new: RouteSettings) -> list[str]:
    return [
        field.name
        for field in fields(RouteSettings)
        if field.name not in _SEEDS_ONLY and getattr(old, field.name) != getattr(new, field.name)
    ]


def overruled(route: RouteSettings, stored: RoutePlan) -> list[str]:
    """Where the file says something else than the stored plan, which wins."""
    if route.stable in (stored.stable, stored.previous, stored.canary):
        return []
    return [
        f"route {route.name}: the file says stable {route.stable.version!r}, the stored plan of "
        f"generation {stored.generation} says {stored.stable.version!r} and wins; change it "
        "through the admin API"
    ]
